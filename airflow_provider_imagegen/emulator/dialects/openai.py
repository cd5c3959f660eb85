"""OpenAI and its look-alikes: the response comes with the image in it, at once or as a stream of events."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Literal

from starlette.responses import Response, StreamingResponse

from airflow_provider_imagegen.emulator.books import Task
from airflow_provider_imagegen.emulator.calls import Call, Refusal, Route, is_true, json_answer, text_of
from airflow_provider_imagegen.emulator.dialects.openai_rules import GPT_ONLY, check
from airflow_provider_imagegen.emulator.dialects.openai_stream import EventStream
from airflow_provider_imagegen.emulator.dialects.openai_terms import headers, terms, usage
from airflow_provider_imagegen.emulator.gate import Gate
from airflow_provider_imagegen.emulator.models import is_dall_e, parse_size, pick_size
from airflow_provider_imagegen.emulator.painter import Drawing
from airflow_provider_imagegen.emulator.sources import count_sources, salt_of
from airflow_provider_imagegen.emulator.studio import Order, Studio

WORDS_BY_CODE: dict[str, tuple[int, str, str]] = {
    "no_token": (401, "invalid_request_error", "missing_api_key"),
    "invalid_token": (401, "invalid_request_error", "invalid_api_key"),
    "token_expired": (401, "invalid_request_error", "invalid_api_key"),
    "forbidden": (403, "invalid_request_error", "forbidden"),
    "used_up": (429, "insufficient_quota", "insufficient_quota"),
    "request_too_large": (413, "invalid_request_error", "request_too_large"),
    "too_many_requests": (429, "requests", "rate_limit_exceeded"),
    "rate_limited": (429, "requests", "rate_limit_exceeded"),
    "api_error": (500, "server_error", "server_error"),
    "timeout": (504, "server_error", "timeout"),
    "moderation_blocked": (400, "image_generation_user_error", "moderation_blocked"),
}
"""Status, type and code for what is refused in the words of the Ace table."""

MODELS = ("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2")
"""What the list of models names."""

WHOLE_NUMBERS = ("n", "output_compression", "partial_images")


class OpenAI:
    """A synchronous dialect.

    :param name: whose books the tasks are entered in
    :param delivery: how the GPT-image family delivers; the older one does as ``response_format`` says
    """

    def __init__(self, studio: Studio, name: str = "openai", delivery: Literal["url", "b64_json"] = "b64_json") -> None:
        self._studio = studio
        self._name = name
        self._delivery = delivery

    def probe_routes(self) -> Iterator[tuple[str, Gate]]:
        """Yield the paths that are only read."""
        yield "/v1/models", Gate(self._studio, Route.LOOKUP, self, self.list_models)

    def shared_routes(self) -> Iterator[tuple[str, Gate]]:
        """Yield the paths that other vendors serve too."""
        yield "/v1/images/generations", Gate(self._studio, Route.SUBMIT, self, self.generate)
        yield "/v1/images/edits", Gate(self._studio, Route.EDIT, self, self.generate)

    def refuse(self, refusal: Refusal, trace_id: str) -> Response:
        """Answer ``{"error": {"message", "type", "param", "code"}}``."""
        usual = (refusal.status or 400, "invalid_request_error", refusal.code)
        status, kind, code = WORDS_BY_CODE.get(refusal.code, usual)
        error = {"message": refusal.message, "type": kind, "param": refusal.param, "code": code}
        return json_answer({"error": error}, refusal.status or status, {**headers(trace_id, 0), **refusal.headers})

    async def list_models(self, call: Call) -> Response:
        """Answer which models there are; any other name is drawn too."""
        models = [{"id": name, "object": "model", "owned_by": self._name} for name in MODELS]
        return json_answer({"object": "list", "data": models})

    async def generate(self, call: Call) -> Response:
        """Take a generation or an edit; answer when it is finished."""
        started = self._studio.clock()
        body = _typed(call.body)
        order = self._read_order(call, body)
        task = self._studio.place(order)
        if task.failure:
            await self._studio.until_ready(task)
            raise Refusal(task.failure.code, task.failure.message)
        answer_headers = headers(call.request_id, self._studio.clock() - started)
        if body.get("stream"):
            events = EventStream(self._studio, task, body).events()
            return StreamingResponse(events, headers=answer_headers, media_type="text/event-stream")
        await self._studio.until_ready(task)
        return json_answer(await self._answer(task, body, call.origin), headers=answer_headers)

    def _read_order(self, call: Call, body: dict[str, Any]) -> Order:
        model = _model(body)
        check(model, body)
        if call.route is Route.EDIT:
            count_sources(call)
        size = text_of(body, "size")
        first = Drawing(
            prompt=call.prompt,
            size=parse_size(size) or (pick_size(call.prompt) if not is_dall_e(model) else (1024, 1024)),
            format=text_of(body, "output_format") or "png",
            salt=salt_of(call),
            transparent=body.get("background") == "transparent",
            compression=body.get("output_compression", 90),
            weight=self._studio.image_bytes,
        )
        return Order(self._name, model, call.prompt, body, first.series(body.get("n", 1)), call)

    async def _answer(self, task: Task, body: dict[str, Any], origin: str) -> dict[str, Any]:
        items = [await self._item(task, number, body, origin) for number in range(len(task.drawings))]
        answer: dict[str, Any] = {"created": int(task.ready_at), "data": items}
        if is_dall_e(task.model):
            return answer
        return {**answer, **terms(task, body), "usage": usage(task, body)}

    async def _item(self, task: Task, number: int, body: dict[str, Any], origin: str) -> dict[str, Any]:
        delivery = body.get("response_format") or ("url" if is_dall_e(task.model) else self._delivery)
        item: dict[str, Any] = {}
        if delivery == "url":
            item["url"] = self._studio.tickets.url(origin, task, number, self._studio.clock())
        else:
            image = await self._studio.gallery.show(task.drawings[number])
            item["b64_json"] = base64.b64encode(image).decode("ascii")
        if task.model == "dall-e-3":
            item["revised_prompt"] = f"{task.prompt}, in rich detail"
        return item


def _typed(body: dict[str, Any]) -> dict[str, Any]:
    """Give the texts of a form their types; a JSON body comes back as it is."""
    typed = dict(body)
    for name in WHOLE_NUMBERS:
        if isinstance(typed.get(name), str) and typed[name].isdecimal():
            typed[name] = int(typed[name])
    if "stream" in typed:
        typed["stream"] = is_true(typed["stream"]) or None
    return {name: value for name, value in typed.items() if value is not None}


def _model(body: dict[str, Any]) -> str:
    """Return the model; without one it is dall-e-2, or gpt-image-1 where only that takes what is asked."""
    asked = text_of(body, "model")
    if asked:
        return asked
    return "gpt-image-1" if any(name in body for name in GPT_ONLY) else "dall-e-2"
