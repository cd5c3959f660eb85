"""Ace Data Cloud: submit with ``async``, look up tasks, or wait for the response."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.responses import Response

from airflow_provider_imagegen.emulator.calls import Call, Refusal, Route, is_true, json_answer, text_of
from airflow_provider_imagegen.emulator.dialects.ace_callbacks import Messenger
from airflow_provider_imagegen.emulator.dialects.ace_lookups import Lookups
from airflow_provider_imagegen.emulator.dialects.ace_orders import read_native_order, read_order
from airflow_provider_imagegen.emulator.dialects.ace_records import outcome
from airflow_provider_imagegen.emulator.gate import Gate, Handler
from airflow_provider_imagegen.emulator.studio import Order, Studio

STATUS_BY_CODE = {
    "bad_request": 400,
    "no_token": 401,
    "token_mismatched": 400,
    "invalid_token": 401,
    "token_expired": 401,
    "authentication_failed": 401,
    "api_not_implemented": 400,
    "no_api": 404,
    "disabled": 403,
    "forbidden": 403,
    "used_up": 403,
    "request_too_large": 413,
    "too_many_requests": 429,
    "rate_limited": 429,
    "api_error": 500,
    "timeout": 504,
}


class AceDataCloud:
    """The main dialect, and the only one with tasks.

    :param messenger: pushes results to callback URLs
    """

    def __init__(self, studio: Studio, messenger: Messenger) -> None:
        self._studio = studio
        self._messenger = messenger

    def own_routes(self) -> Iterator[tuple[str, Gate]]:
        """Yield the paths that only this vendor serves."""
        lookups, native_lookups = Lookups(self._studio, "acedatacloud"), Lookups(self._studio, "nano_banana")
        yield "/openai/images/generations", self._gate(Route.SUBMIT, self.generate)
        yield "/openai/images/edits", self._gate(Route.EDIT, self.generate)
        yield "/openai/tasks", self._gate(Route.LOOKUP, lookups.answer)
        yield "/v1/openai/tasks", self._gate(Route.LOOKUP, lookups.answer)
        yield "/nano-banana/images", self._gate(Route.SUBMIT, self.generate_natively)
        yield "/nano-banana/tasks", self._gate(Route.LOOKUP, native_lookups.answer)

    def shared_routes(self) -> Iterator[tuple[str, Gate]]:
        """Yield the paths that other vendors serve too."""
        yield "/v1/images/generations", self._gate(Route.SUBMIT, self.generate)
        yield "/v1/images/edits", self._gate(Route.EDIT, self.generate)

    def _gate(self, route: Route, handler: Handler) -> Gate:
        return Gate(self._studio, route, self, handler)

    def refuse(self, refusal: Refusal, trace_id: str) -> Response:
        """Answer ``{"error": {"code", "message"}, "trace_id"}``."""
        status = refusal.status or STATUS_BY_CODE.get(refusal.code, 400)
        error = {"code": refusal.code, "message": refusal.message}
        return json_answer({"error": error, "trace_id": trace_id}, status, refusal.headers)

    async def generate(self, call: Call) -> Response:
        """Take a generation or an edit."""
        return await self._serve(read_order(call, self._studio.image_bytes))

    async def generate_natively(self, call: Call) -> Response:
        """Take a generation or an edit in nano-banana's own words."""
        return await self._serve(read_native_order(call, self._studio.image_bytes))

    async def _serve(self, order: Order) -> Response:
        """Place an order; answer with its ids, or with its images when it is not asynchronous."""
        task = self._studio.place(order)
        origin = order.call.origin
        callback_url = text_of(order.call.body, "callback_url")
        if callback_url:
            self._messenger.promise(task, callback_url, origin)
        if callback_url or is_true(order.call.body.get("async")):
            return json_answer({"success": True, "task_id": task.id, "trace_id": task.trace_id})
        await self._studio.until_ready(task)
        status = STATUS_BY_CODE.get(task.failure.code, 400) if task.failure else 200
        return json_answer(outcome(task, self._studio.tickets, origin, self._studio.clock()), status)
