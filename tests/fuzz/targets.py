"""The fuzz targets: each one creates a random case, runs it, and returns its outcome as a word.

An outcome that is not classified leaves a target as an exception; so does a broken promise, as ``AssertionError``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO

import httpx
from PIL import Image, ImageSequence

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.gateways.response_body import (
    MAX_IMAGES,
    Base64Extractor,
    ResponseContent,
    ResponseTooLarge,
)
from airflow_provider_imagegen.landing.provenance import AiMark, mark_as_ai_made
from airflow_provider_imagegen.landing.verify import MAX_PIXELS, verify
from airflow_provider_imagegen.storage.tempfiles import VerifiedFile
from tests.fuzz.corpus import SVG, whole_images
from tests.fuzz.mutations import mutate
from tests.fuzz.responses import event_stream, run_response, whole_response
from tests.fuzz.stored import ledger_record, metadata, run_ledger, run_metadata
from tests.gallery.airflow_server import GOOD, newest

TYPES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/svg+xml": "svg"}
_MAX_FUZZED_IMAGE = 3000


@dataclass(frozen=True)
class Target:
    """:param make: A case from dice.
    :param run: A case → how it ended.
    """

    make: Callable[[Random], bytes]
    run: Callable[[bytes], str]


def damaged_image(random: Random) -> bytes:
    images = list(whole_images().values())
    return mutate(random, random.choice(images), random.choice(images))


def cut_image(random: Random) -> bytes:
    # The first image of several in one JPEG file is whole without the others.
    content = random.choice([content for name, content in whole_images().items() if name != "jpeg mpo"])
    return content[: random.randrange(len(content))]


def damaged_svg(random: Random) -> bytes:
    doctype = b"<!DOCTYPE svg [<!ENTITY a 'b'>]>"
    svg = random.choice((SVG, SVG, SVG, SVG.decode().encode("utf-16"), SVG.replace(b"<svg", doctype + b"<svg")))
    if random.random() < 0.3:
        svg = svg.replace(b"UTF-8", random.choice((b"latin-1", b"utf-7", b"shift-jis", b"rot13", b"\xff")))
    return mutate(random, svg, random.choice((doctype, b"<a>" * 3000, b"&a;", b'x="' + b"9" * 400 + b'"')))


def damaged_base64(random: Random) -> bytes:
    return mutate(random, base64.b64encode(random.randbytes(random.randint(1, 90_000))), b"=\n\r-_ \xc3\xa4")


def damaged_answer(random: Random) -> bytes:
    images = [base64.b64encode(random.choice(list(whole_images().values())) * 4).decode() for _ in range(3)]
    images[0] = random.choice(("", "data:image/png;base64,")) + images[0]
    images[1] = images[1].replace("+", "-").replace("/", "_").rstrip("=")
    document = {"data": [{"b64_json": text, "revised_prompt": 'ä"\\\n'} for text in images], "usage": {"n": 1}}
    body = json.dumps(document, ensure_ascii=random.random() < 0.5, indent=random.choice((None, 1)))
    escaped = body.replace("/", random.choice(("/", r"\/", r"\u002f"))).encode()
    return mutate(random, escaped, random.choice((b'"', b"\\", b"\\u00", b"=", escaped)))


def odd_xcom(random: Random) -> bytes:
    odd = random.choice((b"[" * 5000, b"1e400", b'"\\ud800"', b"NaN", b"null", b"-1", b'"1e400"', b"{}", b'"x"'))
    if random.random() < 0.5:
        return mutate(random, json.dumps(GOOD).encode(), odd)
    # One value for another one: a manifest that can be parsed.
    parts = json.dumps(GOOD).split(", ")
    place = random.randrange(len(parts))
    parts[place] = f"{parts[place].rpartition(': ')[0]}: {odd.decode()}"
    return ", ".join(parts).encode()


def odd_run_id(random: Random) -> bytes:
    return mutate(random, b"scheduled__2026-01-01T00:00:00+00:00", b"/.~%?#\0\n")[: random.randint(1, 9)] or b"."


def run_gallery_xcom(content: bytes) -> str:
    return _shown("odd", content.decode("utf-8", "replace"))


def run_gallery_run_id(content: bytes) -> str:
    return _shown(content.decode("utf-8", "replace"), json.dumps(GOOD))


def run_verify(content: bytes) -> str:
    found = _verified(content)
    return "refused" if found is None else found.extension


def run_cut(content: bytes) -> str:
    assert _verified(content) is None, "an image that is cut off was accepted"
    return "refused"


def run_mark(content: bytes) -> str:
    before = _verified(content)
    types = list(TYPES) if before is None else [before.content_type]
    outcomes = [_marked(content, content_type, before) for content_type in types]
    return outcomes[0] if before else "not an image, " + max(outcomes)


def run_base64(content: bytes) -> str:
    text = content.decode("utf-8", "replace")
    with tempfile.TemporaryDirectory(prefix="imagegen-fuzz-") as home:
        path, _ = ResponseContent(httpx.Response(200), {}, {}, Path(home)).file_of(text)
        if path is None:
            assert not list(Path(home).iterdir()), "a damaged image was left behind"
            return "refused"
        decoded = path.read_bytes()
    letters = text.translate({ord("\n"): None, ord("\r"): None, ord("+"): "-", ord("/"): "_"}).rstrip("=")
    # The last letter may hold bits that no byte takes.
    assert base64.urlsafe_b64encode(decoded).decode().rstrip("=")[:-1] == letters[:-1]
    return "decoded"


def run_answer(content: bytes) -> str:
    whole = _extracted(iter([content]))
    step = 1 + len(content) % 4999
    pieces = _extracted(content[at : at + step] for at in range(0, len(content), step))
    # An image that is both too large and damaged is refused for what is noticed first.
    if "too large" in (whole[0], pieces[0]):
        return "too large"
    assert whole == pieces, "where a response is cut decides what it is"
    return whole[0]


TARGETS = {
    "verify": Target(damaged_image, run_verify),
    "verify-cut": Target(cut_image, run_cut),
    "verify-svg": Target(damaged_svg, run_verify),
    "mark": Target(damaged_image, run_mark),
    "base64": Target(damaged_base64, run_base64),
    "answer": Target(damaged_answer, run_answer),
    "gallery-xcom": Target(odd_xcom, run_gallery_xcom),
    "gallery-run-id": Target(odd_run_id, run_gallery_run_id),
    "stream": Target(event_stream, run_response),
    "response": Target(whole_response, run_response),
    "metadata": Target(metadata, run_metadata),
    "ledger": Target(ledger_record, run_ledger),
}
SHARES = {
    "verify": 40,
    "verify-cut": 10,
    "verify-svg": 10,
    "mark": 30,
    "base64": 3,
    "gallery-xcom": 1,
    "gallery-run-id": 1,
    "answer": 7,
    "stream": 4,
    "response": 8,
    "metadata": 2,
    "ledger": 4,
}
"""Relative frequency of each target."""


def _shown(run_id: str, xcom: str) -> str:
    """Return what the newest images show of a run, between two others that they must show."""
    cards = newest({"before": json.dumps(GOOD), run_id: xcom, "after": json.dumps(GOOD)})
    kinds = Counter(card["run_id"] for card in cards)
    assert kinds["before"] == kinds["after"] == len(GOOD["images"]) + len(GOOD["failures"]), "a neighbour is missing"
    return next((card.get("code") or "shown" for card in cards if card["run_id"] == run_id), "nothing shown")


def _verified(content: bytes) -> VerifiedFile | None:
    file = io.BytesIO(content)
    try:
        found = verify(file, svg=True)
    except NotAnImage as error:
        assert error.billed == "yes"
        return None
    assert TYPES[found.content_type] == found.extension
    assert 0 < found.width * found.height <= MAX_PIXELS
    assert (found.bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert file.tell() == 0
    return found


def _marked(content: bytes, content_type: str, before: VerifiedFile | None) -> str:
    target = io.BytesIO()
    outcome = mark_as_ai_made(io.BytesIO(content), target, content_type, "a <model>")
    if outcome is not AiMark.ADDED:
        assert target.getvalue() == content, "a file that was not marked was changed"
        return outcome
    after = _verified(target.getvalue())
    assert (after is None) == (before is None), "the mark decides whether a file is an image"
    if before and after:
        assert pixels(target) == pixels(io.BytesIO(content)), "the mark changed pixels"
        assert (after.width, after.height, after.content_type) == (before.width, before.height, before.content_type)
    again = io.BytesIO()
    assert mark_as_ai_made(target, again, content_type) is AiMark.ALREADY_STATED, "a mark was not found again"
    return outcome


def pixels(file: IO[bytes]) -> list[bytes] | None:
    """Decode all frames; ``None`` if Pillow cannot."""
    try:
        with Image.open(file) as image:
            return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(image)]
    except Exception:  # noqa: BLE001 -- Pillow may stumble over damaged pixels in any way, as long as it does so twice
        return None
    finally:
        file.seek(0)


def _extracted(pieces: Iterator[bytes]) -> tuple[str, bytes, list[bytes], list[str]]:
    """Return the kind of outcome, the document, the images and what is wrong with others."""
    with tempfile.TemporaryDirectory(prefix="imagegen-fuzz-") as home:
        extractor = Base64Extractor(Path(home), max_image_bytes=_MAX_FUZZED_IMAGE * 4, max_skeleton_bytes=60_000)
        try:
            for piece in pieces:
                extractor.feed(piece)
        except ResponseTooLarge:
            return "too large", b"", [], []
        finally:
            extractor.close()
        files = [path.read_bytes() for path in extractor.files.values()]
        assert len(list(Path(home).iterdir())) == len(files) <= MAX_IMAGES, "an image was left behind"
        skeleton = extractor.skeleton.replace(extractor._nonce.encode(), b"nonce")
        return _kind_of(skeleton), skeleton, files, list(extractor.damaged.values())


def _kind_of(skeleton: bytes) -> str:
    try:
        json.loads(skeleton)
    except (ValueError, RecursionError):
        return "no json"
    return "json"
