"""Reads what came in over HTTP: the bearer token, a JSON or multipart body, the names of the headers."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response


class Route(StrEnum):
    """The four kinds of request; faults are set per kind."""

    SUBMIT = "submit"
    EDIT = "edit"
    LOOKUP = "lookup"
    RESULT = "result"


class Refusal(Exception):
    """A request is turned away, unbilled.

    :param code: in the words of the Ace table; each dialect says it in its own
    :param status: when it is not the dialect's usual one for this code
    :param param: the field at fault
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.param = param
        self.headers = headers or {}


@dataclass
class Call:
    """One request, read.

    :param body: the JSON body, or the text fields of a multipart one
    :param uploads: field name and bytes of each uploaded file
    :param payer: number of the token that came with it
    """

    route: Route
    request: Request
    body: dict[str, Any] = field(default_factory=dict)
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    payer: int = 0
    request_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def origin(self) -> str:
        """Scheme and host under which the client reached us."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}"

    @property
    def prompt(self) -> str:
        """The prompt, empty when there is none."""
        return text_of(self.body, "prompt")

    @property
    def trace_id(self) -> str | None:
        """The trace id that the client chose."""
        return text_of(self.body, "trace_id") or None

    @property
    def header_names(self) -> tuple[str, ...]:
        """The names of the headers that came; never their values."""
        return tuple(sorted(self.request.headers.keys()))


def text_of(body: dict[str, Any], name: str) -> str:
    """Return a text field, or an empty text when it is absent or of another type."""
    value = body.get(name)
    return value if isinstance(value, str) else ""


def texts_of(body: dict[str, Any], name: str) -> list[str]:
    """Return the texts in a list field; none when it is absent or of another type."""
    value = body.get(name)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def is_true(value: object) -> bool:
    """Read a flag; in a multipart body it is a text."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def bearer(request: Request) -> str | None:
    """Return the bearer token, none when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def read_call(route: Route, request: Request) -> Call:
    """Read a request's body.

    :raises Refusal: ``bad_request`` when it is neither a JSON object nor a form
    """
    call = Call(route, request)
    if request.method == "GET":
        return call
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_part_size=8 * 1024 * 1024) as form:
            call.body, call.uploads = await _read_form(form)
        return call
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal("bad_request", "the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise Refusal("bad_request", "the body is not a JSON object")
    call.body = body
    return call


async def _read_form(form: FormData) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    fields: dict[str, Any] = {}
    uploads: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            uploads.append((name, await value.read()))
        else:
            fields[name] = value
    return fields, uploads


def json_answer(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with compact JSON."""
    content = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, headers, media_type="application/json")


def body_of(answer: Response | None) -> bytes:
    """Return a response's body; that of a stream is not known."""
    return bytes(getattr(answer, "body", b""))


def media_type_of(answer: Response | None) -> str:
    """Return a response's media type, that of JSON where it has none."""
    return (answer.media_type if answer else None) or "application/json"
