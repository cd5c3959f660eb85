"""Responses of gateways as they and the proxies before them send them: event streams, labels, codings, odd fields.

A case is a whole response. Where nothing in it is damaged, its images must arrive, however it is written down.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from random import Random
from typing import Any

import httpx

from airflow_provider_imagegen.exceptions import GatewayError
from airflow_provider_imagegen.gateways.client import ImageClient, _OpenClient
from airflow_provider_imagegen.gateways.responses import MAX_OUTPUTS
from airflow_provider_imagegen.gateways.settings import GatewaySettings
from airflow_provider_imagegen.schemas import ImageRequest, ImageTask, MissingImage
from tests.fuzz.mutations import mutate
from tests.fuzz.odd_json import TEXTS, dumped, odd_value, spoil

TOKEN = "sk-fuzzed/4c1f+9e7b=0d2a"
TASK, TRACE = "5f1b7c52-7a0e", "0b6a1d8e-5a51"
_PNG = b"\x89PNG\r\n\x1a\n"
_LONGEST_ERROR = 2_000
# As JSON spells it, and not a backslash before a letter.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

NEWLINES = ("\n", "\n", "\r\n", "\r")
LABELS = (
    "text/event-stream",
    "Text/Event-Stream; charset=utf-8",
    "application/json",
    "APPLICATION/JSON;charset=UTF-8",
    "application/octet-stream",
    "text/html; charset=iso-8859-1",
    "text/plain; charset=hex",
    "application/json; charset=punycode",
    "application/json; charset=\xff",
    ";;",
    "",
)
HEADERS = ("retry-after", "retry-after-ms", "x-request-id", "x-litellm-version", "date", "set-cookie")
HEADER_VALUES = (
    "0",
    "-1",
    "9" * 400,
    "1e309",
    "nan",
    "Wed, 21 Oct 2026 07:28:00 GMT",
    "Fri, 31 Dec 999999",
    "\xe9",
    "",
)
CODES = ("moderation_blocked", "contentFilter", "insufficient_quota", "rate_limited", "invalid_token", "timeout", "429")
STATUSES = (200, 200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504, 529)


@dataclass
class Reply:
    """
    One response.

    :param call: which call it answers: ``stream``, ``answer``, ``task`` or ``lookup``
    :param headers: names and values
    :param images: SHA-256 of the images that must arrive
    :param step: bytes that arrive at a time
    :param body: the body as it is sent
    """

    call: str
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    step: int = 1 << 20
    body: bytes = b""

    def to_bytes(self) -> bytes:
        fields = asdict(self)
        body = fields.pop("body")
        return json.dumps(fields).encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, case: bytes) -> Reply:
        head, _, body = case.partition(b"\n")
        return cls(**json.loads(head), body=body)


def image_of(random: Random) -> bytes:
    """Return an image: small ones stay in the document, large ones are decoded as they stream."""
    return _PNG + random.randbytes(random.choice((20, 3000, 3064, 3065, 9000)))


def base64_of(random: Random, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    match random.randrange(5):
        case 0:
            text = text.replace("+", "-").replace("/", "_")
        case 1:
            text = text.rstrip("=")
        case 2:
            text = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
        case 3:
            text = f"data:image/png;base64,{text}"
    return text


def event_stream(random: Random) -> bytes:
    """Make a stream in one of its dialects, with all that may stand between its events."""
    image = image_of(random)
    lines = [*_noise(random), *_previews(random), *_noise(random), *_completed(random, image), *_noise(random)]
    newline = random.choice(NEWLINES)
    text = newline.join(lines)
    body = random.choice(("", "", "\ufeff", "\n\n")) + text + random.choice((newline * 2, newline, "", "  "))
    reply = Reply("stream", images=[hashlib.sha256(image).hexdigest()], body=body.encode("utf-8", "replace"))
    return _sent(random, reply).to_bytes()


def _noise(random: Random) -> list[str]:
    choices = (
        [": keep-alive", ""],
        ["event: ping", "data: {}", ""],
        ["retry: 3000", "id: 1", ""],
        ["data:", ""],
        ["data: not json", ""],
        ["event: heartbeat", 'data: {"type": "heartbeat"}', ""],
        ["unknown: field", "lonely", ""],
        ["id: \x00", "retry: soon", ""],
        ["", "", ""],
    )
    return [line for _ in range(random.choice((0, 0, 1, 3))) for line in random.choice(choices)]


def _previews(random: Random) -> list[str]:
    name = "image_generation.partial_image"
    document = {"type": name, "b64_json": base64_of(random, image_of(random)), "partial_image_index": 0}
    return _event(random, document, name) if random.random() < 0.3 else []


def _completed(random: Random, image: bytes) -> list[str]:
    text, prompt = base64_of(random, image), random.choice(TEXTS)
    name = random.choice(("image_generation.completed", "image_edit.completed", "completed"))
    output = {"b64_json": text, "revised_prompt": prompt, "usage": odd_value(random), "created_at": odd_value(random)}
    match random.randrange(4):
        case 0:
            return _event(random, {"type": name, **output}, random.choice((name, None)))
        case 1:
            return _event(random, output, name)
        case 2:
            return _event(random, {"created": odd_value(random), "data": [output]}, None)
        case _:
            return _event(random, {"type": name, "data": [output]}, None)


def _event(random: Random, document: dict[str, Any], name: str | None) -> list[str]:
    """Return the lines of an event; a document may be spread over several."""
    colon = random.choice((": ", ":"))
    text = dumped(random, document).decode()
    return [*([f"event{colon}{name}"] if name else []), *(f"data{colon}{line}" for line in text.split("\n")), ""]


def whole_response(random: Random) -> bytes:
    """Make a response that is no stream: images, a task, records, or an error."""
    make = random.choice((_images, _images, _task, _records, _error))
    return _sent(random, make(random)).to_bytes()


def _images(random: Random) -> Reply:
    images = [image_of(random) for _ in range(random.choice((1, 1, 3)))]
    field_name = random.choice(("b64_json", "b64_json", "url"))
    data = [{field_name: _as_address(random, field_name, image)} for image in images]
    more = {name: odd_value(random) for name in ("created", "usage", "size", "task_id", "trace_id", "revised_prompt")}
    document = spoil(random, {**more, "data": data}, keep=frozenset({"data"}))
    document["data"] = [{**entry, "revised_prompt": random.choice(TEXTS)} for entry in data]
    body = dumped(random, document)
    call = random.choice(("answer", "stream"))
    return Reply(call, images=[hashlib.sha256(image).hexdigest() for image in images], body=body)


def _as_address(random: Random, field_name: str, image: bytes) -> str:
    text = base64_of(random, image)
    return text if field_name == "b64_json" or text.startswith("data:") else f"data:image/png;base64,{text}"


def _task(random: Random) -> Reply:
    document = {"success": True, "task_id": TASK, "trace_id": TRACE, "error": None, "data": None}
    return Reply("task", status=random.choice(STATUSES), body=dumped(random, spoil(random, document)))


def _records(random: Random) -> Reply:
    url = f"https://cdn.example/{TASK}.png?signature={TOKEN}"
    done = {"success": True, "task_id": TASK, "data": [{"url": url, "revised_prompt": TOKEN}], "created": 1}
    failed = {"success": False, "error": {"code": random.choice(CODES), "message": f"no {TOKEN}"}}
    record = {
        "id": TASK,
        "trace_id": TRACE,
        "response": random.choice((None, done, done, failed)),
        "created_at": 1,
        "finished_at": random.choice((None, 2)),
        "elapsed": 1,
    }
    document = random.choice((record, {"items": [record] * random.choice((1, 2, 30)), "count": 1}))
    return Reply("lookup", status=random.choice(STATUSES), body=dumped(random, spoil(random, document)))


def _error(random: Random) -> Reply:
    words = {"code": random.choice(CODES), "message": f"Bearer {TOKEN} {random.choice(TEXTS)}", "innererror": {}}
    shapes = ({"error": words}, {"error": f"refused {TOKEN}"}, {"detail": TOKEN}, words, [words], TOKEN)
    body = dumped(random, spoil(random, random.choice(shapes)))
    if random.random() < 0.2:
        body = f"<html><title>502</title>{TOKEN}</html>".encode()
    call = random.choice(("answer", "stream", "task", "lookup"))
    return Reply(call, status=random.choice(STATUSES), body=body)


def _sent(random: Random, reply: Reply) -> Reply:
    """Put a reply on the wire: labelled and packed in some way, in pieces; sometimes damaged on the way."""
    if random.random() < 0.25:
        reply.body = mutate(random, reply.body, random.choice((b"[" * 100_000, b'"', b"\xff", b"\ndata: ", reply.body)))
        reply.images = []
    coding, packed = random.choice(_CODINGS)
    reply.body = packed(reply.body)
    if random.random() < 0.05:
        reply.body, reply.images = mutate(random, reply.body, reply.body), []
    values = (*HEADER_VALUES, TOKEN)
    reply.headers = [(random.choice(HEADERS), random.choice(values)) for _ in range(random.choice((0, 0, 1, 3)))]
    reply.headers += [("content-type", random.choice(LABELS)), *([("content-encoding", coding)] if coding else [])]
    reply.step = random.choice((1 << 20, 1 << 20, 4096, 97, 1)) if len(reply.body) < 2_000 else 4096
    return reply


def _raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


_CODINGS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("", bytes),
    ("", bytes),
    ("", bytes),
    ("identity", bytes),
    ("gzip", gzip.compress),
    ("GZip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", lambda content: gzip.compress(content[:99]) + gzip.compress(content[99:])),
    ("gzip", lambda content: gzip.compress(content) + bytes(8)),
    ("deflate", zlib.compress),
    ("deflate", _raw_deflate),
)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body, step = self._reply.body, self._reply.step
        for at in range(0, len(body), step):
            yield body[at : at + step]


def run_response(case: bytes) -> str:
    """Have the client read a response; return how that ended."""
    return _loop().run(_outcome(Reply.from_bytes(case)))


@cache
def _loop() -> asyncio.Runner:
    return asyncio.Runner()


async def _outcome(reply: Reply) -> str:
    settings = GatewaySettings(
        base_url="https://gateway.example",
        token=TOKEN,
        gateway="openai" if reply.call in {"stream", "answer"} else "acedatacloud",
    )
    client = ImageClient(settings)
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: _response(reply)), trust_env=False)
    with tempfile.TemporaryDirectory(prefix="imagegen-fuzz-") as home:
        client._open = _OpenClient(http, home_of(home))
        try:
            tasks = await _call(client, reply)
        except GatewayError as error:
            assert not reply.images, f"an image that arrived whole was lost: {error}"
            return _checked(error)
        return _check_tasks(reply, tasks)


def home_of(path: str) -> tempfile.TemporaryDirectory[str]:
    """Return the directory as the client holds it; who made it removes it."""
    home = tempfile.TemporaryDirectory.__new__(tempfile.TemporaryDirectory)
    home.name = path
    return home


def _response(reply: Reply) -> httpx.Response:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers]
    return httpx.Response(reply.status, headers=headers, stream=_Pieces(reply))


async def _call(client: ImageClient, reply: Reply) -> list[ImageTask]:
    if reply.call == "lookup":
        return list((await client.look_up([TASK])).values())
    request = ImageRequest(prompt="a lighthouse", model="gpt-image-1", stream=reply.call == "stream" or None)
    return [await client.submit(request, TRACE)]


def _check_tasks(reply: Reply, tasks: list[ImageTask]) -> str:
    for task in tasks:
        assert len(task.outputs) <= MAX_OUTPUTS
        files = [output.file for output in task.outputs if output.file]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        assert not reply.images or digests == reply.images, f"other images arrived: {digests}, {task.outputs}"
        _check_json(task.model_dump_json(exclude={"outputs": {"__all__": {"url", "b64_json"}}, "previews": True}))
        if task.failure:
            assert TOKEN not in f"{task.failure.code} {task.failure.message}"
    return tasks[0].state


def _checked(error: GatewayError) -> str:
    missing = MissingImage.because_of(error, 0)
    assert missing.billed in {"yes", "no", "unknown"}
    assert len(str(error)) < _LONGEST_ERROR, "an error is as long as what a stranger says"
    _check_text(str(error))
    _check_json(missing.model_dump_json())
    return type(error).__name__


def _check_text(text: str) -> None:
    text.encode()
    assert TOKEN not in text, "the token is shown"
    assert "\x00" not in text


def _check_json(text: str) -> None:
    _check_text(text)
    assert not _NUL.search(text), "a database does not take it"
