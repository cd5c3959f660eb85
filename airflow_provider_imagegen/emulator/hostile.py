"""Faults of a gateway that attacks its clients: right responses rewritten, and bodies that are larger than they look.

The faults of ``misbehaviour`` are accidents; these are meant for whoever reads, stores or shows what a gateway says.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from starlette.responses import Response

from airflow_provider_imagegen.emulator.calls import body_of
from airflow_provider_imagegen.emulator.faults import Fault, FaultKind

ODD_TEXT = "half a pair \ud83d, NUL \x00"
ZIPPED_BYTES = 256 * 1024 * 1024
MANY_IMAGES = 2000
LEVELS = 100_000
SOME_LEVELS = 500
_DEEP = "replaced by an array in arrays"
_HUGE = int("9" * 401)

_ADDRESSES = frozenset({"url", "image_url"})
_NUMBERS = frozenset({"created", "created_at", "elapsed"})
_IDS = frozenset({"id", "task_id", "trace_id"})

Change = Callable[[dict[str, Any]], dict[str, Any]]
"""Returns an object of a response in place of the right one."""


def _odd_text(fault: Fault, answer: Response | None) -> Response:
    """Return the right response with another text wherever a gateway has words of its own."""
    text = ODD_TEXT if fault.text is None else fault.text

    def change(right: dict[str, Any]) -> dict[str, Any]:
        if isinstance(right.get("message"), str):
            return {**right, "message": f"{right['message']}: {text}"}
        is_output = not right.keys().isdisjoint({*_ADDRESSES, "b64_json"})
        return {**right, "revised_prompt": text} if is_output else right

    return _rewritten(fault, answer, change)


def _odd_ids(fault: Fault, answer: Response | None) -> Response:
    """Return the right response with a text before each of its ids, and in its request id."""
    text = ODD_TEXT if fault.text is None else fault.text

    def change(right: dict[str, Any]) -> dict[str, Any]:
        return {name: f"{text}{value}" if name in _IDS else value for name, value in right.items()}

    response = _rewritten(fault, answer, change)
    response.headers["x-request-id"] = "".join(letter for letter in text if " " <= letter <= "~")
    return response


def _surplus(fault: Fault, answer: Response | None) -> Response:
    """Return the images of the right response again and again."""
    count = fault.images or MANY_IMAGES

    def change(right: dict[str, Any]) -> dict[str, Any]:
        data = right.get("data")
        return {**right, "data": (data * count)[:count]} if isinstance(data, list) else right

    return _rewritten(fault, answer, change)


def _elsewhere(fault: Fault, answer: Response | None) -> Response:
    """Return the right response, in which every image is said to be somewhere else."""

    def change(right: dict[str, Any]) -> dict[str, Any]:
        return {name: fault.location if name in _ADDRESSES else value for name, value in right.items()}

    return _rewritten(fault, answer, change)


def _absurd(fault: Fault, answer: Response | None) -> Response:
    """Return the right response with numbers that no float holds, and deep ones where token counts are."""
    usage = {"total_tokens": _HUGE, "input_tokens": -_HUGE, "output_tokens": 1e308, "details": _DEEP}

    def change(right: dict[str, Any]) -> dict[str, Any]:
        absurd = {name: _HUGE if name in _NUMBERS else value for name, value in right.items()}
        return {**absurd, "usage": usage} if "data" in right else absurd

    response = _rewritten(fault, answer, change)
    deep = body_of(response).replace(json.dumps(_DEEP).encode(), _nested(SOME_LEVELS))
    return Response(deep, response.status_code, media_type="application/json")


def _deep(fault: Fault, answer: Response | None) -> Response:
    """Return JSON that no recursive parser can read."""
    return Response(b'{"data":' + _nested(LEVELS) + b"}", fault.status or 200, media_type="application/json")


def _zip_bomb(fault: Fault, answer: Response | None) -> Response:
    """Return a short body that unpacks to a quarter of a gigabyte."""
    layers = len(fault.coding.split(","))
    return Response(_packed(layers), headers={"content-encoding": fault.coding}, media_type="application/json")


REWRITERS: dict[FaultKind, Callable[[Fault, Response | None], Response]] = {
    FaultKind.ODD_TEXT: _odd_text,
    FaultKind.ODD_IDS: _odd_ids,
    FaultKind.SURPLUS: _surplus,
    FaultKind.ELSEWHERE: _elsewhere,
    FaultKind.ABSURD: _absurd,
    FaultKind.DEEP: _deep,
    FaultKind.ZIP_BOMB: _zip_bomb,
}
"""What is answered instead, by kind; the response is the right one, none when the request was not even handled."""


def _rewritten(fault: Fault, answer: Response | None, change: Change) -> Response:
    right = json.loads(body_of(answer) or b"{}", object_hook=change)
    # Escaped, as JSON takes it: as UTF-8 some texts could not be sent.
    content = json.dumps(right).encode()
    status = fault.status or (answer.status_code if answer else 200)
    return Response(content, status, media_type="application/json")


def _nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@cache
def _packed(layers: int) -> bytes:
    return gzip.compress(_packed(layers - 1) if layers > 1 else b" " * ZIPPED_BYTES)
