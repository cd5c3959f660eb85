"""Content that is not an image is refused, based on its bytes."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.landing import verify
from airflow_provider_imagegen.landing.verify import MAX_PIXELS
from tests.fuzz.corpus import SIZE, SVG, scanned_again, whole_images
from tests.fuzz.mutations import fix_checksums

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


def image(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: image(kind) for kind in FORMATS}


def with_sides(kind: str, width: int, height: int) -> bytes:
    """An image whose header claims another size."""
    content = bytearray(image(kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", width, height)
        fix_checksums(content)
    elif kind == "JPEG":
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif kind == "WEBP":
        content[26:30] = struct.pack("<HH", width, height)
    else:
        content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def padded_inside(name: str, size: int) -> bytes:
    """An image with a large part that is not pixels."""
    content = whole_images()[name]
    if name == "png":
        chunk = b"prVt" + b"\0" * size
        return content[:33] + struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    if name == "jpeg":
        return content[:2] + (b"\xff\xe5\xff\xff" + b"\0" * 65_533) * (size // 65_537) + content[2:]
    if name == "webp":
        whole = content[12:] + b"junk" + struct.pack("<I", size) + b"\0" * size
        return b"RIFF" + struct.pack("<I", len(whole) + 4) + b"WEBP" + whole
    place = content.index(b",")
    return content[:place] + b"!\xfe" + (b"\xff" + b"c" * 255) * (size // 256) + b"\0" + content[place:]


def file(content: bytes) -> IO[bytes]:
    return io.BytesIO(content)


class TestWholeImage:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_is_detected_by_its_bytes(self, kind: str) -> None:
        content = image(kind)
        verified = verify(file(content))
        assert (verified.content_type, verified.width, verified.height) == (FORMATS[kind], 64, 48)
        assert (verified.bytes, verified.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert verified.file.tell() == 0

    def test_may_have_padding_behind_it(self) -> None:
        assert verify(file(image("JPEG") + b"\0" * 16)).content_type == "image/jpeg"

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", whole_images())
    def test_of_any_kind_is_accepted_and_left_as_it_is(self, name: str) -> None:
        content = whole_images()[name]
        verified = verify(file(content))
        assert (verified.width, verified.height) == SIZE
        assert verified.content_type == f"image/{'png' if name == 'apng' else name.partition(' ')[0]}"
        assert verified.file.read() == content

    def test_may_be_larger_than_the_screen_it_states(self) -> None:
        content = with_sides("GIF", 10, 10)
        verified = verify(file(content))
        assert (verified.width, verified.height) == Image.open(file(content)).size == (64, 48)

    @pytest.mark.parametrize("kind", FORMATS)
    def test_may_have_anything_behind_its_end(self, kind: str) -> None:
        assert verify(file(image(kind) + b"<!-- cache -->")).content_type == FORMATS[kind]

    @pytest.mark.filterwarnings("error")
    def test_may_have_damaged_exif_data(self) -> None:
        content = whole_images()["jpeg thumbnail"].replace(b"Exif\0\0", b"Exif\0\0II*\0\xff\0\0\0", 1)
        length = content.index(b"Exif") - 2
        size = int.from_bytes(content[length : length + 2], "big") + 8
        content = content[:length] + size.to_bytes(2, "big") + content[length + 2 :]
        assert verify(file(content)).extension == "jpg"

    def test_may_be_one_of_several_in_a_file(self) -> None:
        assert verify(file(whole_images()["jpeg mpo"])).content_type == "image/jpeg"


class TestScans:
    """A decoder goes through all pixels for every scan of a progressive JPEG."""

    def with_scans(self, times: int) -> bytes:
        """The largest image that is accepted, with more scans."""
        content = bytearray(scanned_again(whole_images()["jpeg progressive"], times))
        frame = content.index(b"\xff\xc2")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 8000, 10_000)
        return bytes(content)

    def test_are_accepted_as_encoders_write_them(self) -> None:
        verified = verify(file(self.with_scans(1)))
        assert verified.width * verified.height == MAX_PIXELS

    def test_are_limited(self) -> None:
        with pytest.raises(NotAnImage, match="scans of 10000x8000 pixels, too many to be decoded"):
            verify(file(self.with_scans(25)))

    def test_of_a_small_image_may_be_many(self) -> None:
        assert verify(file(scanned_again(whole_images()["jpeg progressive"], 200))).extension == "jpg"


class TestCutOff:
    @pytest.mark.sampled
    @pytest.mark.parametrize("name", [name for name in whole_images() if name != "jpeg mpo"])
    def test_is_refused_wherever_it_was_cut(self, name: str) -> None:
        content = whole_images()[name]
        for length in range(len(content)):
            with pytest.raises(NotAnImage, match="billed: yes"):
                verify(file(content[:length]))

    def test_is_not_hidden_by_the_end_mark_of_a_thumbnail(self) -> None:
        content = whole_images()["jpeg thumbnail"]
        assert content.count(b"\xff\xd9") > 1
        with pytest.raises(NotAnImage, match="cut off"):
            verify(file(content[:-2] + b"\0" * 1024))

    def test_is_not_hidden_by_padding(self) -> None:
        for content in (whole_images()[name] for name in ("png", "jpeg progressive", "gif animated")):
            with pytest.raises(NotAnImage):
                verify(file(content[: len(content) // 2] + b"\0" * len(content)))


class TestNoImage:
    @given(st.binary(max_size=300))
    def test_any_bytes_are_an_image_or_refused(self, content: bytes) -> None:
        try:
            verify(file(content))
        except NotAnImage as error:
            assert error.billed == "yes"

    @given(st.sampled_from(sorted(FORMATS)), st.data())
    def test_any_damage_is_tolerated(self, kind: str, data: st.DataObject) -> None:
        content = bytearray(WHOLE[kind])
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        try:
            verify(file(bytes(content)))
        except NotAnImage as error:
            assert error.billed == "yes"

    def test_other_formats_are_refused(self) -> None:
        with pytest.raises(NotAnImage, match="not a whole png, jpeg, webp or gif"):
            verify(file(image("TIFF")))

    @pytest.mark.parametrize(("kind", "size"), [("PNG", 60_000), ("JPEG", 60_000), ("GIF", 60_000), ("WEBP", 16_000)])
    @pytest.mark.filterwarnings("error")
    def test_too_many_pixels_are_refused_from_the_header(self, kind: str, size: int) -> None:
        with pytest.raises(NotAnImage, match="pixels"):
            verify(file(with_sides(kind, size, size)))

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_no_pixels_are_refused(self, kind: str) -> None:
        with pytest.raises(NotAnImage):
            verify(file(with_sides(kind, 0, 5)))

    def test_an_error_page_is_refused(self) -> None:
        with pytest.raises(NotAnImage, match="begins like none"):
            verify(file(b"<!doctype html><title>502</title>"), svg=False)

    @pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
    def test_a_failing_disk_is_not_called_a_bad_image(self, code: int) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 8:
                    raise OSError(code, "the disk")
                return super().read(size)

        for kind in FORMATS:
            with pytest.raises(OSError, match="the disk"):
                verify(Failing(image(kind)))

    def test_a_hostile_number_of_parts_is_refused_soon(self) -> None:
        head, tail = whole_images()["jpeg"][:2], whole_images()["jpeg"][2:]
        with pytest.raises(NotAnImage, match="too many"):
            verify(file(head + b"\xff\xfe\x00\x02" * 300_000 + tail))


class TestMemory:
    @pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif"])
    def test_does_not_grow_with_the_file(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "large"
        path.write_bytes(padded_inside(name, 32_000_000))
        tracemalloc.start()
        try:
            with path.open("rb") as large:
                verify(large)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000


class TestVector:
    def test_is_refused_unless_requested(self) -> None:
        with pytest.raises(NotAnImage, match="only where it is asked for"):
            verify(file(SVG))

    def test_is_known_by_its_bytes(self) -> None:
        verified = verify(file(SVG), svg=True)
        assert (verified.content_type, verified.extension) == ("image/svg+xml", "svg")
        assert (verified.width, verified.height) == (40, 30)

    @pytest.mark.parametrize(
        ("attributes", "size"),
        [
            ('width="100" height="50px"', (100, 50)),
            ('width="1in" height="2.54cm"', (300, 150)),
            ('width="0.2" height="0.2"', (1, 1)),
            ('viewBox="0 0 640 480"', (640, 480)),
            ('viewBox="0,0, 640.4,480.6" width="100%" height="100%"', (640, 481)),
            ('viewBox="0 0 640 480" width="320"', (640, 480)),
            ('viewBox="0 0 640 480" height="24em" width="auto"', (640, 480)),
            ("", (300, 150)),
            ('height="20"', (300, 150)),
            ('viewBox="0 0 640"', (300, 150)),
            ('viewBox="wide"', (300, 150)),
        ],
    )
    def test_says_its_size(self, attributes: str, size: tuple[int, int]) -> None:
        content = f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}/>'.encode()
        verified = verify(file(content), svg=True)
        assert (verified.width, verified.height) == size

    @pytest.mark.parametrize(
        "attributes",
        [
            'width="0" height="5"',
            'width="-3" height="5"',
            'width="1e400" height="5"',
            'width="9000" height="9000"',
            'viewBox="0 0 0 9"',
            'width="10" viewBox="0 0 9 1e-400"',
            'width="nan" height="5"',
        ],
    )
    def test_without_area_or_with_too_much_is_refused(self, attributes: str) -> None:
        content = f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}/>'.encode()
        with pytest.raises(NotAnImage, match="pixels"):
            verify(file(content), svg=True)

    def test_may_name_its_document_type(self) -> None:
        name = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
        assert verify(file(SVG.replace(b"<svg", name + b"<svg", 1)), svg=True).extension == "svg"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"<svg/>",
            b"<html xmlns='http://www.w3.org/1999/xhtml'><svg xmlns='http://www.w3.org/2000/svg'/></html>",
            SVG[:-5],
            SVG + b"<svg/>",
            b'<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.partition(b"\n")[2],
            b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + SVG.partition(b"\n")[2],
            b'<!DOCTYPE svg [<!ATTLIST svg width CDATA "9">]>' + SVG.partition(b"\n")[2],
            SVG.replace(b"&amp;", b"&unknown;"),
            SVG.replace(b"UTF-8", b"no-such-encoding"),
            SVG.replace(b"UTF-8", b"shift-jis"),
            gzip.compress(SVG),
            b"<svg xmlns='http://www.w3.org/2000/svg'>" + b" " * 8_400_000 + b"</svg>",
        ],
        ids=range(13),
    )
    def test_that_is_none_or_a_trap_is_refused(self, content: bytes) -> None:
        with pytest.raises(NotAnImage, match="svg"):
            verify(file(content), svg=True)

    def test_does_not_displace_pixels(self) -> None:
        assert verify(file(image("PNG")), svg=True).extension == "png"


class TestHostileSvg:
    @pytest.mark.parametrize("attribute", ['width="{}" height="9"', 'viewBox="0 0 {} 9"'])
    def test_with_a_size_of_endless_digits_is_refused(self, attribute: str) -> None:
        drawing = f'<svg xmlns="http://www.w3.org/2000/svg" {attribute.format("1" * 1_000_000)}/>'
        with pytest.raises(NotAnImage, match="pixels"):
            verify(file(drawing.encode()), svg=True)

    def test_nested_without_end_is_refused(self) -> None:
        drawing = '<svg xmlns="http://www.w3.org/2000/svg">' + "<g>" * 100_000
        with pytest.raises(NotAnImage, match="nested"):
            verify(file(drawing.encode()), svg=True)


class TestDamagedHeader:
    def test_of_a_jpeg_is_noticed_where_another_reader_notices_it(self) -> None:
        """One bit after the other up to the pixels, each judged by Pillow too, which shares no code with this."""
        content = whole_images()["jpeg"]
        accepted_alone = [
            f"byte {position} = {damaged[position]:#x}"
            for position in range(content.index(b"\xff\xda"))
            for bit in range(8)
            if is_accepted(damaged := flipped(content, position, bit)) and not is_opened_by_pillow(damaged)
        ]
        assert accepted_alone == []


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


def is_accepted(content: bytes) -> bool:
    try:
        verify(file(content))
    except NotAnImage:
        return False
    return True


def is_opened_by_pillow(content: bytes) -> bool:
    try:
        Image.open(file(content)).close()
    except OSError:
        return False
    return True
