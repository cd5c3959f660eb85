"""The door that every API request passes: token, body, the handler, and the dialect's words for a refusal."""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from airflow_provider_imagegen.emulator.books import RefusedRequest
from airflow_provider_imagegen.emulator.calls import (
    Call,
    Refusal,
    Route,
    bearer,
    read_call,
    text_of,
    texts_of,
)
from airflow_provider_imagegen.emulator.faults import Concern, Fault, FaultKind, Phase
from airflow_provider_imagegen.emulator.misbehaviour import spoil
from airflow_provider_imagegen.emulator.studio import Studio

Handler = Callable[[Call], Awaitable[Response]]


class Voice(Protocol):
    """How a dialect says no."""

    def refuse(self, refusal: Refusal, trace_id: str) -> Response:
        """Word a refusal in the dialect's shape, with its usual status."""


@dataclass(frozen=True)
class Gate:
    """Guards one route; its ``answer`` is the endpoint.

    :param handler: what lies behind; raises :class:`Refusal` to turn a request away
    """

    studio: Studio
    route: Route
    voice: Voice
    handler: Handler

    async def answer(self, request: Request) -> Response:
        """Answer one request; one that ends before its body does was never made."""
        try:
            await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        self._count()
        call: Call | None = None
        try:
            payer = self._payer(request)
            call = await read_call(self.route, request)
            call.payer = payer
            return await self._served(call)
        except Refusal as refusal:
            return self._turn_away(refusal, request, call)

    async def _served(self, call: Call) -> Response:
        """Handle a request, unless a fault turns it away or spoils its response."""
        studio = self.studio
        if not studio.faults.waits_for(self.route):
            return await self.handler(call)
        concern = self._concern(call)
        if refusal := studio.faults.take(Phase.REFUSAL, self.route, concern):
            studio.books.counts["faults"] += 1
            raise _refusal(refusal)
        fault = studio.faults.take(Phase.ANSWER, self.route, concern)
        if fault is None:
            return await self.handler(call)
        studio.books.counts["faults"] += 1
        answer = await self.handler(call) if fault.accept else None
        if fault.kind is FaultKind.ERROR:
            return self.voice.refuse(_refusal(fault), call.trace_id or str(uuid.uuid4()))
        return spoil(fault, answer)

    def _concern(self, call: Call) -> Concern:
        if self.route is not Route.LOOKUP:
            return Concern((call.prompt,))
        books = self.studio.books
        ids = [text_of(call.body, "id"), *texts_of(call.body, "ids")]
        traces = [text_of(call.body, "trace_id"), *texts_of(call.body, "trace_ids")]
        tasks = books.page(ids, traces)
        return Concern(tuple(task.prompt for task in tasks), (*ids, *(task.id for task in tasks)))

    def _count(self) -> None:
        counts = self.studio.books.counts
        if self.route is Route.LOOKUP:
            counts["lookup_requests"] += 1
            return
        counts["submits"] += 1
        if self.route is Route.EDIT:
            counts["edits"] += 1

    def _payer(self, request: Request) -> int:
        """Return the number of the token that came with a request."""
        token = bearer(request)
        if token is None:
            raise Refusal("no_token", "no bearer token in the authorization header")
        for number, accepted in enumerate(self.studio.tokens):
            if hmac.compare_digest(token.encode(), accepted.encode()):
                return number
        raise Refusal("invalid_token", "the token is not valid")

    def _turn_away(self, refusal: Refusal, request: Request, call: Call | None) -> Response:
        trace_id = (call and call.trace_id) or str(uuid.uuid4())
        response = self.voice.refuse(refusal, trace_id)
        if self.route is not Route.LOOKUP:
            headers = tuple(sorted(request.headers.keys()))
            self.studio.books.refuse(
                RefusedRequest(self.route, refusal.code, response.status_code, self.studio.clock(), trace_id, headers)
            )
        return response


def _refusal(fault: Fault) -> Refusal:
    return Refusal(fault.code or "api_error", fault.message, status=fault.status, headers=fault.headers())
