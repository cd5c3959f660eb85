"""Read responses for all gateways: JSON bodies, the images in them, the errors in them.

Lenient about everything that is not needed, strict about success: a response is one only if there is an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from math import isfinite, nan
from typing import Any, Literal

import httpx

from airflow_provider_imagegen.catalog.tokens import MOST_TOKENS
from airflow_provider_imagegen.exceptions import (
    AuthenticationError,
    GatewayError,
    LookUpFailed,
    ModerationBlocked,
    OutcomeUnknown,
    OutOfBalance,
    RateLimited,
    RequestRefused,
    UnreadableResponse,
)
from airflow_provider_imagegen.redaction import foreign_id, foreign_json, redacted
from airflow_provider_imagegen.schemas import ImageOutput, ImageTask

Phase = Literal["submit", "look_up"]

MAX_OUTPUTS = 20
"""Images of one response that are read: more than ten, which is the most that a call asks for, and their surplus."""

_REPORTED = ("size", "quality", "background", "output_format")

# Source: the error tables of Ace Data Cloud and OpenAI. The HTTP status of a code differs between pages,
# so the code decides first.
_BY_CODE: dict[str, type[GatewayError]] = {
    "no_token": AuthenticationError,
    "token_mismatched": AuthenticationError,
    "invalid_token": AuthenticationError,
    "token_expired": AuthenticationError,
    "authentication_failed": AuthenticationError,
    "invalid_api_key": AuthenticationError,
    "used_up": OutOfBalance,
    "insufficient_quota": OutOfBalance,
    # one-api and new-api, which many resellers run.
    "insufficient_user_quota": OutOfBalance,
    "pre_consume_token_quota_failed": OutOfBalance,
    "billing_hard_limit_reached": OutOfBalance,
    "too_many_requests": RateLimited,
    "rate_limited": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "bad_request": RequestRefused,
    "api_not_implemented": RequestRefused,
    "no_api": RequestRefused,
    "disabled": RequestRefused,
    "forbidden": RequestRefused,
    "request_too_large": RequestRefused,
}
_BY_STATUS: dict[int, type[GatewayError]] = {401: AuthenticationError, 402: OutOfBalance, 429: RateLimited}
_ADVICE_ON_403 = (
    "A 403 can be about the token, the account, the region or the request: correct what the message names, or else the "
    "connection's password (the API token)."
)
# Compared without underscores and case, in which gateways differ.
_MODERATION_CODES = frozenset(
    {"moderationblocked", "contentpolicyviolation", "contentfilter", "responsibleaipolicyviolation"}
)
# These leave it open whether the request went through: the gateway may go on with what timed out in front of it. Taken
# for refusals they would be sent again, and both requests billed.
_UNSETTLED_CODES = frozenset({"api_error", "timeout"})
_UNSETTLED_STATUSES = frozenset({408, 409, 425})


@dataclass(frozen=True)
class ErrorWords:
    """What an error body says, whatever its shape.

    :param trace_id: The gateway's id of the call, if any.
    """

    code: str | None
    message: str
    trace_id: str | None


def is_moderation(code: str | None) -> bool:
    """Return whether a gateway's error code says that its content policy refused."""
    return code is not None and code.replace("_", "").lower() in _MODERATION_CODES


def text_or_none(value: object) -> str | None:
    """Return ``value`` if it is a text that says something, else ``None``."""
    return value if isinstance(value, str) and value.strip() else None


def id_or_none(value: object) -> str | None:
    """Return ``value`` as an id, which may come as a number, else ``None``."""
    text = str(value) if type(value) is int else text_or_none(value)
    return None if text is None else foreign_id(text)


def read_document(response: httpx.Response) -> dict[str, Any] | None:
    """Return the JSON object of a response, its texts without what no text may hold; ``None`` if it holds none."""
    # More lenient than response.json(): one byte that is no UTF-8, or a bare control character, loses no paid image.
    body = response.content
    try:
        document = foreign_json(json.loads(body.decode(json.detect_encoding(body), "replace"), strict=False))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_success(
    document: Mapping[str, Any], task_id: str | None = None, trace_id: str | None = None
) -> ImageTask | None:
    """Return the finished task that a response with images stands for, or ``None`` if it holds none.

    :param document: A response's body, or the ``response`` of a task record.
    :param task_id: The task's id where the document itself names none.
    :param trace_id: The trace id where the document itself names none.
    """
    outputs = read_outputs(document.get("data"))
    if not outputs:
        return None
    usage, created = document.get("usage"), document.get("created")
    return ImageTask(
        state="succeeded",
        task_id=id_or_none(document.get("task_id")) or task_id,
        trace_id=id_or_none(document.get("trace_id")) or trace_id,
        outputs=outputs,
        usage=_read_usage(usage) if isinstance(usage, dict) else None,
        # nano-banana answers 0 where it does not know.
        created=number_or_none(created) or None,
        reported={name: value for name in _REPORTED if (value := text_or_none(document.get(name)))},
    )


def _read_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return token counts without those that are absurd: their sum may be more than JSON can hold."""
    return {
        name: count
        for name, count in usage.items()
        if not isinstance(count, int | float) or -MOST_TOKENS <= count <= MOST_TOKENS
    }


def read_outputs(data: object) -> tuple[ImageOutput, ...]:
    """Return the images of a ``data`` list, :data:`MAX_OUTPUTS` at most; entries without one are left out."""
    entries = data if isinstance(data, list) else []
    outputs = (_read_output(entry) for entry in entries if isinstance(entry, dict))
    return tuple(islice((output for output in outputs if output is not None), MAX_OUTPUTS))


def _read_output(entry: dict[str, Any]) -> ImageOutput | None:
    url = text_or_none(entry.get("url")) or text_or_none(entry.get("image_url"))
    b64_json = text_or_none(entry.get("b64_json"))
    if url is None and b64_json is None:
        return None
    return ImageOutput(url=url, b64_json=b64_json, revised_prompt=text_or_none(entry.get("revised_prompt")))


def read_error(document: Mapping[str, Any]) -> ErrorWords | None:
    """Return what an error body says, or ``None`` if it is not one.

    Understands ``{"error": {"code", "message"}}``, ``{"error": "words"}`` and ``{"detail": …}``.
    """
    trace_id = id_or_none(document.get("trace_id"))
    error = document.get("error")
    if isinstance(error, dict):
        code = text_or_none(error.get("code"))
        # Some gateways repeat the status as the code; the type says more.
        if code is None or code.isdigit():
            code = text_or_none(error.get("type")) or code
        # Azure reports its content filter under an outer code that varies.
        inner = error.get("innererror") or error.get("inner_error")
        inner_code = text_or_none(inner.get("code")) if isinstance(inner, dict) else None
        code = inner_code if is_moderation(inner_code) and not is_moderation(code) else code
        message = text_or_none(error.get("message")) or code or "no message"
        return ErrorWords(code, message, trace_id)
    words = text_or_none(error) or text_or_none(document.get("detail"))
    return ErrorWords(None, words, trace_id) if words else None


def error_of(response: httpx.Response, gateway: str, phase: Phase, token: str) -> GatewayError:
    """Return the error that a response stands for: by its code first, its status second.

    :param response: A response that is not a success.
    :param gateway: Name of the gateway, for the error.
    :param phase: Whether the paid call or a lookup was answered.
    :param token: The API token, to be cut out of quoted words.
    """
    document = read_document(response) or {}
    words = read_error(document) or ErrorWords(None, "", None)
    status, pause = response.status_code, _pause(response, document)
    message = redacted(words.message or response.text or "empty response", [token])
    kind = _error_class(words, status, phase, pause)
    error = kind(
        f"the gateway answered {status}: {message}",
        gateway=gateway,
        code=words.code,
        status=status,
        trace_id=words.trace_id,
        request_id=response.headers.get("x-request-id"),
    )
    if status == 403 and words.code not in _BY_CODE and not is_moderation(words.code):
        error.advice = _ADVICE_ON_403
    if isinstance(error, RateLimited):
        error.retry_after = pause
    _mention_proxy(error, response)
    return error


def unreadable(response: httpx.Response, gateway: str, phase: Phase, token: str) -> GatewayError:
    """Return the error for a success status whose body says nothing that is understood."""
    excerpt = redacted(response.text, [token], limit=120) or "an empty body"
    # A proxy's page says nothing of what happened behind it: the request may have been accepted.
    kind = OutcomeUnknown if phase == "submit" else UnreadableResponse
    error = kind(
        f"the gateway answered {response.status_code} with neither a task nor an image: {excerpt}",
        gateway=gateway,
        request_id=response.headers.get("x-request-id"),
    )
    _mention_proxy(error, response)
    return error


def _mention_proxy(error: GatewayError, response: httpx.Response) -> None:
    """Say what a LiteLLM proxy in between does to responses: it drops task ids, and repeats what fails."""
    if isinstance(error, OutcomeUnknown) and any(name.startswith("x-litellm") for name in response.headers):
        error.advice = (
            "A LiteLLM proxy stands in between; it drops task ids and by itself repeats calls that fail, so the "
            "gateway may have billed several. Look there, and point the connection at the gateway itself."
        )


def number_or_none(value: object) -> float | None:
    """Return ``value`` as a finite number, or ``None`` if it is none: JSON has integers that no float holds."""
    try:
        number = float(value) if isinstance(value, int | float | str) else nan
    except (OverflowError, ValueError):
        return None
    return number if isfinite(number) else None


def retry_after(headers: httpx.Headers) -> float | None:
    """Return how many seconds the gateway asks to wait, from ``retry-after-ms`` or ``Retry-After``."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = number_or_none(headers.get(name))
        if seconds is not None:
            return seconds * unit if seconds >= 0 else None
    try:
        moment = parsedate_to_datetime(headers["retry-after"])
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (KeyError, ValueError, OverflowError):
        return None


def _pause(response: httpx.Response, document: Mapping[str, Any]) -> float | None:
    """Return how many seconds the gateway asks to wait, in a header or, as Black Forest Labs does, in the body."""
    error = document.get("error")
    in_body = number_or_none((error if isinstance(error, dict) else document).get("retry_after"))
    asked = retry_after(response.headers)
    return asked if asked is not None or in_body is None or in_body < 0 else in_body


def _error_class(words: ErrorWords, status: int, phase: Phase, pause: float | None) -> type[GatewayError]:
    code = words.code
    if is_moderation(code):
        return ModerationBlocked
    if code in _BY_CODE:
        return _BY_CODE[code]
    # Overloaded, and so not accepted (RFC 9110, 15.6.4), if the API says so with a time. A page is a proxy's word for a
    # lost response: Varnish and Fastly put Retry-After on it too, after they have forwarded the request.
    is_overloaded = status == 503 and pause is not None and words.message and code not in _UNSETTLED_CODES
    if status in _BY_STATUS or is_overloaded:
        return _BY_STATUS.get(status, RateLimited)
    # On its own a 403 does not mean a wrong token. But while polling it may: then the connection is read again.
    if status == 403 and phase == "look_up":
        return AuthenticationError
    if phase == "look_up":
        return LookUpFailed
    # Only a 4xx says for sure that nothing was accepted. A redirect is refused too: it is not followed.
    settled = code not in _UNSETTLED_CODES and status not in _UNSETTLED_STATUSES
    return RequestRefused if settled and 300 <= status < 500 else OutcomeUnknown
