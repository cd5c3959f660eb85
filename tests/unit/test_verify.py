"""What came back is a picture, or is refused by its bytes alone."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_imagegen.exceptions import InvalidRequest, NotAnImage
from airflow_provider_imagegen.landing import Destination, decode_base64, verify
from airflow_provider_imagegen.landing.pictures import MAX_BYTES

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


def picture(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: picture(kind) for kind in FORMATS}


def file(content: bytes) -> IO[bytes]:
    return io.BytesIO(content)


class TestWholePicture:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_is_told_by_its_bytes(self, kind: str) -> None:
        content = picture(kind)
        verified = verify(file(content))
        assert (verified.content_type, verified.width, verified.height) == (FORMATS[kind], 64, 48)
        assert (verified.bytes, verified.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert verified.file.tell() == 0

    def test_may_have_padding_behind_it(self) -> None:
        assert verify(file(picture("JPEG") + b"\0" * 16)).content_type == "image/jpeg"


class TestCutOff:
    @pytest.mark.parametrize("kind", FORMATS)
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_is_refused(self, kind: str, share: float) -> None:
        content = picture(kind)
        with pytest.raises(NotAnImage, match="billed: yes"):
            verify(file(content[: int(len(content) * share)]))


class TestNoPicture:
    @given(st.binary(max_size=300))
    def test_any_bytes_are_a_picture_or_refused(self, content: bytes) -> None:
        try:
            verify(file(content))
        except NotAnImage as error:
            assert error.billed == "yes"

    @given(st.sampled_from(sorted(FORMATS)), st.data())
    def test_any_damage_is_borne(self, kind: str, data: st.DataObject) -> None:
        content = bytearray(WHOLE[kind])
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        try:
            verify(file(bytes(content)))
        except NotAnImage as error:
            assert error.billed == "yes"

    def test_other_formats_are_refused(self) -> None:
        with pytest.raises(NotAnImage, match="not a whole png, jpeg, webp or gif"):
            verify(file(picture("TIFF")))

    def test_too_many_pixels_are_refused_from_the_header(self) -> None:
        header = bytearray(picture("PNG"))
        header[16:24] = (60_000).to_bytes(4, "big") * 2
        with pytest.raises(NotAnImage):
            verify(file(bytes(header)))


class TestBase64:
    @given(st.binary(min_size=1, max_size=200_000))
    def test_is_decoded_whole(self, content: bytes) -> None:
        out = io.BytesIO()
        decode_base64(base64.b64encode(content).decode(), out)
        assert out.getvalue() == content

    @pytest.mark.parametrize("text", ["!!!!", "QUJ", "ä"])
    def test_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(NotAnImage, match="not base64"):
            decode_base64(text, io.BytesIO())

    def test_that_is_too_long_is_refused(self) -> None:
        class Long(str):
            def __len__(self) -> int:
                return MAX_BYTES * 2

        with pytest.raises(NotAnImage, match="more than"):
            decode_base64(Long("QUJD"), io.BytesIO())


class TestPrefix:
    @pytest.mark.parametrize("prefix", ["a//b", "a/./b", "a/../b", "..", "a\nb", "p" * 901])
    def test_that_stores_treat_differently_is_refused(self, prefix: str) -> None:
        with pytest.raises(InvalidRequest, match="s3_key"):
            Destination(bucket="b", prefix=prefix)

    @pytest.mark.parametrize("prefix", ["", "a", "a/b:c+d e", "日本/🎨", "run__2026-01-01T00:00:00+00:00"])
    def test_of_any_other_kind_is_kept(self, prefix: str) -> None:
        assert Destination(bucket="b", prefix=prefix).key("0.png").endswith("0.png")
