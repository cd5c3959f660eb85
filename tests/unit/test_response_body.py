"""Responses become a small document and decoded images, regardless of chunks, escapes and damage."""

from __future__ import annotations

import base64
import json
import os
import random
import tempfile
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_imagegen.gateways.response_body import (
    INLINE_BYTES,
    MAX_IMAGES,
    Base64Extractor,
    ResponseContent,
    ResponseTooLarge,
)
from tests.examples import examples

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
SIGNATURES = (PNG, b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP")


def image(size: int = 20_000, seed: int = 0, signature: bytes = PNG) -> bytes:
    return signature + random.Random(seed).randbytes(size - len(signature))


def encoded(size: int = 20_000, seed: int = 0) -> str:
    return base64.b64encode(image(size, seed)).decode()


def answer_with(value: str, **fields: object) -> bytes:
    return json.dumps({"created": 1, "data": [{"b64_json": value, **fields}], "usage": {"total_tokens": 7}}).encode()


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """Cut ``data`` at these places, taken modulo its length."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return (data[start:end] for start, end in pairwise(edges))


class Extracted:
    """The result of an extractor."""

    def __init__(self, *pieces: bytes, **limits: int) -> None:
        with tempfile.TemporaryDirectory() as home:
            extractor = Base64Extractor(Path(home), **limits)
            try:
                for piece in pieces:
                    extractor.feed(piece)
            finally:
                extractor.close()
            self.skeleton = extractor.skeleton
            self.damaged = extractor.damaged
            self.files = {marker: path.read_bytes() for marker, path in extractor.files.items()}
            self.left_over = set(Path(home).iterdir()) - set(extractor.files.values())
            self.nonce = extractor._nonce

    @property
    def document(self) -> Any:
        return json.loads(self.skeleton)

    def without_nonce(self) -> tuple[bytes, list[bytes], list[str]]:
        skeleton = self.skeleton.replace(self.nonce.encode(), b"nonce")
        return skeleton, list(self.files.values()), list(self.damaged.values())


@st.composite
def spelled_images(draw: st.DrawFn) -> tuple[str, bytes]:
    """An image of any size in any accepted spelling of base64."""
    size, seed = draw(st.integers(20, 12_000)), draw(st.integers(0, 99))
    content = image(size, seed, draw(st.sampled_from(SIGNATURES)))
    text = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))(content).decode()
    if draw(st.booleans()):
        text = text.rstrip("=")
    if draw(st.booleans()):
        text = draw(st.sampled_from(["\n", "\r\n"])).join(textwrap.wrap(text, draw(st.integers(60, 80))))
    return draw(st.sampled_from(["", "data:image/png;base64,", "data:image/webp;x=1;BASE64,"])) + text, content


LONG_TEXTS = st.builds(lambda part, times: part * times, st.text(min_size=1, max_size=9), st.integers(1, 2000))
ESCAPES = {"/": [r"\/", r"\u002f"], "+": [r"\u002b", r"\u002B"], "A": [r"\u0041"]}


class TestAnyJsonDocument:
    @settings(max_examples=examples(300))
    @given(st.data())
    def test_keeps_all_but_its_images_wherever_it_is_cut(self, data: st.DataObject) -> None:
        images = dict(data.draw(st.lists(spelled_images(), max_size=3)))
        strings = st.one_of(st.text(), LONG_TEXTS, *(st.just(text) for text in images))
        leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(-1e6, 1e6), strings)
        values = st.recursive(
            leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=MAX_IMAGES
        )
        original = {"data": data.draw(values)}
        text = json.dumps(original, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.none() | st.just(1)))
        for character in ("/", "+"):
            text = text.replace(character, data.draw(st.sampled_from([character, *ESCAPES[character]])))
        got = Extracted(*cut(text.encode(), data.draw(st.lists(st.integers(0, 1_000_000)))))
        assert_same(original, got.document, images, got)
        assert not got.damaged
        assert not got.left_over

    def test_cut_into_single_bytes(self) -> None:
        body = answer_with(encoded(5000), revised_prompt='a "quoted" \\ ünicode 🦦 prompt').replace(b"/", b"\\u002f")
        got = Extracted(*(body[at : at + 1] for at in range(len(body))))
        assert list(got.files.values()) == [image(5000)]
        assert got.document["data"][0]["revised_prompt"] == 'a "quoted" \\ ünicode 🦦 prompt'


def assert_same(original: Any, document: Any, images: dict[str, bytes], got: Extracted) -> None:
    """Compare two documents, one of them with markers for images."""
    if isinstance(original, str) and len(original) > INLINE_BYTES and original in images:
        assert got.files[document] == images[original]
    elif isinstance(original, dict):
        assert list(original) == list(document)
        for name, value in original.items():
            assert_same(value, document[name], images, got)
    elif isinstance(original, list):
        assert len(original) == len(document)
        for value, other in zip(original, document, strict=True):
            assert_same(value, other, images, got)
    elif not (isinstance(document, str) and document in got.files):
        assert original == document
    else:  # escapes can make a short image long
        assert got.files[document] == images[original]


class TestAnyBytes:
    TOKENS = (
        *(base64.b64encode(image(size)) for size in (300, 5000, 9000)),
        *(bytes([byte]) for byte in b'{}[]":,\\=u/n0 <\n'),
        *(b'["', b'{"a":"', b'"]', b"\\u00", b"\\u0041", b'\\"', b"\\\\", b"data:image/png;base64,", b"\xff\xfe", b"A"),
    )
    BODIES = st.builds(
        lambda start, tokens: start + b"".join(tokens), st.sampled_from([b"", b'["']), st.lists(st.sampled_from(TOKENS))
    )

    @settings(max_examples=examples(500))
    @given(BODIES | st.binary(), st.lists(st.integers(0, 100_000)))
    def test_give_the_same_in_whatever_pieces_they_come(self, body: bytes, places: list[int]) -> None:
        try:
            whole = Extracted(body)
        except ResponseTooLarge:
            with pytest.raises(ResponseTooLarge):
                Extracted(*cut(body, places))
            return
        assert Extracted(*cut(body, places)).without_nonce() == whole.without_nonce()
        assert not whole.left_over

    @given(st.binary() | st.text().map(str.encode))
    def test_without_a_long_string_are_copied(self, body: bytes) -> None:
        assert Extracted(body).skeleton == body


class TestWhatIsAImage:
    def test_the_name_of_the_field_does_not_matter(self) -> None:
        body = json.dumps({"images": [encoded()], "url": f"data:image/png;base64,{encoded(seed=1)}"}).encode()
        got = Extracted(body)
        assert got.files[got.document["images"][0]] == image()
        assert got.files[got.document["url"]] == image(seed=1)

    @pytest.mark.parametrize(
        "text",
        [
            "a long prompt without end " * 400,
            "letters" * 2000,
            base64.b64encode(b"no image" * 1000).decode(),
            "iVBORw0KGgo is how a PNG begins " * 200,
            encoded(3000),
        ],
        ids=["prose", "letters", "base64 of something else", "a text about images", "a small image"],
    )
    def test_other_strings_stay(self, text: str) -> None:
        got = Extracted(answer_with("x", revised_prompt=text))
        assert got.document["data"][0]["revised_prompt"] == text
        assert not got.files

    @pytest.mark.parametrize("body", [b"<html>%s</html>", b"%s"])
    def test_a_body_that_is_no_json_is_copied(self, body: bytes) -> None:
        body %= b'"%s"' % encoded().encode()
        assert Extracted(body).skeleton == body

    @pytest.mark.parametrize("body", [b"data: {%s}\n\n", b"event: x\ndata: [%s]\n\n", b": hello\n\ndata: [%s]\n\n"])
    def test_events_are_json_as_well(self, body: bytes) -> None:
        got = Extracted(body % (b'"%s"' % encoded().encode()))
        assert list(got.files.values()) == [image()]
        assert got.skeleton == body % (b'"%s"' % next(iter(got.files)).encode())

    def test_a_byte_order_mark_does_not_hide_the_json(self) -> None:
        assert len(Extracted(b"\xef\xbb", b"\xbf" + answer_with(encoded())).files) == 1


class TestHostileResponses:
    def test_a_string_that_looks_like_a_marker_leads_nowhere(self) -> None:
        forged = ["imagegen-file:0:0", "imagegen-file:" + "0" * 32 + ":0", "/etc/passwd"]
        got = Extracted(json.dumps([*forged, encoded()]).encode())
        *strings, marker = got.document
        assert strings == forged
        assert set(got.files) == {marker}

    def test_markers_differ_between_responses(self) -> None:
        body = answer_with(encoded())
        assert not set(Extracted(body).files) & set(Extracted(body).files)

    @pytest.mark.sampled
    @pytest.mark.parametrize(
        "rest",
        [
            "!",
            "=A",
            "===",
            "A" * 9000 + "\\",
            '\\"',
            "\\\\",
            "\\u0000",
            "\\u00e9",
            "\\ud83d\\ude00",
            "é",
            "A",
            "=" * 9000,
        ],
    )
    @pytest.mark.parametrize("step", [7, 100_000])
    def test_an_image_with_garbage_in_it_is_named_damaged(self, rest: str, step: int) -> None:
        # 6000 bytes are 8000 letters without padding.
        value = encoded(6000) + (rest if rest[-1:] != "\\" or rest.endswith("\\\\") else rest + "\\")
        body = f'{{"data": [{{"b64_json": "{value}"}}, 1]}}'.encode()
        got = Extracted(*(body[at : at + step] for at in range(0, len(body), step)))
        [(marker, words)] = got.damaged.items()
        assert got.document == {"data": [{"b64_json": marker}, 1]}
        assert "not base64" in words
        assert not got.files
        assert not got.left_over

    def test_a_damaged_image_does_not_spoil_the_others(self) -> None:
        got = Extracted(json.dumps([encoded(), encoded() + "!", encoded(seed=2)]).encode())
        first, second, third = got.document
        assert list(got.damaged) == [second]
        assert got.files == {first: image(), third: image(seed=2)}


class TestLimits:
    def test_an_image_at_the_limit_is_taken_and_one_above_is_not(self) -> None:
        assert Extracted(answer_with(encoded(10_000)), max_image_bytes=10_000).files
        with pytest.raises(ResponseTooLarge, match="more than 9999 bytes"):
            Extracted(answer_with(encoded(10_000)), max_image_bytes=9_999)

    @pytest.mark.parametrize("filler", ["\\n", "\\r\\n", "!"])
    def test_an_image_that_never_ends_is_left(self, filler: str) -> None:
        endless = (f'["{encoded(6000)}', *[filler * 1000] * 50)
        with pytest.raises(ResponseTooLarge):
            Extracted(*(piece.encode() for piece in endless), max_image_bytes=10_000)

    @pytest.mark.parametrize("body", ["[" + "1," * 600, '["' + "x y" * 2000, "<" * 1100])
    def test_a_document_above_the_limit_is_left(self, body: str) -> None:
        with pytest.raises(ResponseTooLarge, match="beside its images"):
            Extracted(body.encode(), max_skeleton_bytes=1000)

    def test_more_images_than_any_gateway_makes_are_left(self) -> None:
        images = [encoded(4000)] * MAX_IMAGES
        assert len(Extracted(json.dumps(images).encode()).files) == MAX_IMAGES
        extracted = Extracted(json.dumps([*images, encoded(4000)]).encode())
        assert len(extracted.files) == MAX_IMAGES
        assert list(extracted.damaged.values()) == [f"the response holds more than {MAX_IMAGES} images"]


class TestABodyCutOff:
    @given(st.integers(1, 1_000_000))
    def test_is_not_json_and_leaves_no_file_of_the_open_image(self, at: int) -> None:
        body = answer_with(encoded())
        got = Extracted(body[: at % len(body)])
        with pytest.raises(ValueError, match=r".+"):
            json.loads(got.skeleton)
        assert not got.left_over


class TestBase64InTheDocument:
    """Short base64, and base64 of what does not begin like an image, is decoded by the same grammar."""

    def file_of(self, text: str, directory: Path) -> bytes | str:
        path, damage = ResponseContent(httpx.Response(200), {}, {}, directory).file_of(text)
        return damage or (path.read_bytes() if path else "")

    @settings(max_examples=examples(100))
    @given(st.binary(min_size=1, max_size=20_000))
    def test_is_decoded_whole(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as home:
            assert self.file_of(base64.b64encode(content).decode(), Path(home)) == content

    @given(spelled_images())
    def test_is_decoded_in_every_spelling(self, spelled: tuple[str, bytes]) -> None:
        text, content = spelled
        with tempfile.TemporaryDirectory() as home:
            assert self.file_of(text, Path(home)) == content

    @pytest.mark.parametrize(
        "text",
        ["!!!!", "A", "ä", "\ud83d", "QUJ=QUJD", "A" * 65_532 + "QQ==QUJD", "data:image/svg+xml,<svg/>"],
    )
    def test_that_is_none_leaves_no_file(self, text: str, tmp_path: Path) -> None:
        assert self.file_of(text, tmp_path) == "the image in the response is not base64 to its end"
        assert not os.listdir(tmp_path)
