"""Faults that spoil a response: takes the right one, returns the wrong one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable

from starlette.responses import RedirectResponse, Response

from airflow_provider_imagegen.emulator.calls import Route, body_of, json_answer, media_type_of
from airflow_provider_imagegen.emulator.faults import Fault, FaultKind
from airflow_provider_imagegen.emulator.hostile import REWRITERS
from airflow_provider_imagegen.emulator.painter import png_chunk
from airflow_provider_imagegen.emulator.transport import Drop, Endless, Hang, Interrupted

PAGE = "<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body></html>"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB_EDGE = 60_000
LETTERS = b"A" * (64 * 1024)
DRIP_SECONDS = 0.2


def spoil(fault: Fault, answer: Response | None) -> Response:
    """Return what is answered instead.

    :param fault: one of the response phase, except those that the dialects word themselves
    :param answer: the right one; none when the request was not even handled
    """
    return _SPOILERS[fault.kind](fault, answer)


def _drop(fault: Fault, _: Response | None) -> Response:
    return Drop(reset=fault.kind is FaultKind.RESET)


def _hang(fault: Fault, answer: Response | None) -> Response:
    return Hang(fault.seconds, answer)


def _html(fault: Fault, answer: Response | None) -> Response:
    """Return an error page; in the place of an image it claims to be one."""
    of_result = fault.route is Route.RESULT
    return Response(PAGE, fault.status or 200, media_type=media_type_of(answer) if of_result else "text/html")


def _empty(fault: Fault, _: Response | None) -> Response:
    return Response(b"", fault.status or 200, media_type="application/json")


def _hollow(fault: Fault, _: Response | None) -> Response:
    return json_answer({"success": True}, fault.status or 200)


def _truncated(fault: Fault, answer: Response | None) -> Response:
    """Return the first half of a response as if it were all."""
    body = body_of(answer) or b'{"success": true, "task'
    return Response(body[: max(1, len(body) // 2)], fault.status or 200, media_type=media_type_of(answer))


def _wrong_types(fault: Fault, answer: Response | None) -> Response:
    """Return the right keys with values of types that nobody expects."""
    right = json.loads(body_of(answer) or b"{}")
    if not isinstance(right, dict) or not right:
        return json_answer(["unexpected", 42, None], fault.status or 200)
    return json_answer({key: _wrong(value) for key, value in right.items()}, fault.status or 200)


def _wrong(value: object) -> object:
    match value:
        case str():
            return {"value": 7}
        case list() | dict():
            return "succeeded"
        case _:
            return ["1", 2]


def _interrupted(fault: Fault, answer: Response | None) -> Response:
    return Interrupted(answer or json_answer({"success": True}), silent=fault.kind is FaultKind.STALL)


def _wrong_content_type(fault: Fault, answer: Response | None) -> Response:
    return Response(body_of(answer), media_type=fault.content_type)


def _endless(fault: Fault, answer: Response | None) -> Response:
    """Return an image without end, or an event whose line has none."""
    if fault.route is Route.RESULT:
        return Endless(body_of(answer)[:64], media_type=media_type_of(answer))
    beginning = f'data: {{"b64_json": "{fault.text or ""}'
    return Endless(beginning.encode(), block=LETTERS, media_type="text/event-stream")


def _drip(_: Fault, answer: Response | None) -> Response:
    return Endless(b"", block=b" ", pause=DRIP_SECONDS, media_type=media_type_of(answer))


def _bomb(_: Fault, __: Response | None) -> Response:
    return Response(bomb(), media_type="image/png")


def _redirect(fault: Fault, _: Response | None) -> Response:
    return RedirectResponse(fault.location or "", fault.status or 302)


_SPOILERS: dict[FaultKind, Callable[[Fault, Response | None], Response]] = {
    FaultKind.DROP: _drop,
    FaultKind.RESET: _drop,
    FaultKind.HANG: _hang,
    FaultKind.HTML: _html,
    FaultKind.EMPTY: _empty,
    FaultKind.HOLLOW: _hollow,
    FaultKind.TRUNCATED: _truncated,
    FaultKind.WRONG_TYPES: _wrong_types,
    FaultKind.CUT: _interrupted,
    FaultKind.STALL: _interrupted,
    FaultKind.WRONG_CONTENT_TYPE: _wrong_content_type,
    FaultKind.ENDLESS: _endless,
    FaultKind.DRIP: _drip,
    FaultKind.BOMB: _bomb,
    FaultKind.REDIRECT: _redirect,
    **REWRITERS,
}


def bomb() -> bytes:
    """Return a small PNG whose header promises 60 000 by 60 000 pixels."""
    header = struct.pack(">IIBBBBB", BOMB_EDGE, BOMB_EDGE, 8, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return PNG_SIGNATURE + b"".join(
        png_chunk(name, data) for name, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )
