"""AI-made images say so in the file itself, and nothing else about them changes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_imagegen.landing.formats import gif, jpeg, png, webp
from airflow_provider_imagegen.landing.formats.parts import NotMarkable
from airflow_provider_imagegen.landing.provenance import AiMark, mark_as_ai_made
from airflow_provider_imagegen.landing.verify import verify
from airflow_provider_imagegen.landing.xmp import AI_MADE, IPTC_EXTENSION, Packet, new_packet
from tests.fuzz.corpus import SIZE, SVG, exif_with_thumbnail, saved, whole_images, with_gif_xmp
from tests.fuzz.mutations import fix_checksums
from tests.fuzz.targets import pixels

FORMATS = {"image/png": png, "image/jpeg": jpeg, "image/webp": webp, "image/gif": gif}
STATED = {"png exif and text", "jpeg xmp", "webp xmp", "gif xmp"}
MARKABLE = [name for name in whole_images() if name not in STATED | {"jpeg mpo"}]
FOREIGN = new_packet(None).replace(b"DigitalSourceType", b"Event")
TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool"


def type_of(content: bytes) -> str:
    return verify(io.BytesIO(content)).content_type


def marked(content: bytes, model: str | None = None, content_type: str | None = None) -> tuple[AiMark, bytes]:
    target = io.BytesIO()
    outcome = mark_as_ai_made(io.BytesIO(content), target, content_type or type_of(content), model)
    assert target.tell() == 0
    return outcome, target.getvalue()


def packet_in(content: bytes) -> bytes:
    return bytes(FORMATS[type_of(content)].survey(io.BytesIO(content)).packet)


def stated(packet: bytes) -> dict[str, str]:
    """All simple properties of a packet, read by a parser that is not ours."""
    root = ElementTree.fromstring(packet)
    found: dict[str, str] = {}
    for element in root.iter():
        found |= element.attrib
        if element.text and element.text.strip():
            found[element.tag] = element.text
    return found


def source_type(packet: bytes) -> str | None:
    return stated(packet).get(f"{{{IPTC_EXTENSION}}}DigitalSourceType")


def payload(content: bytes) -> list[bytes]:
    """The encoded pixels."""
    image_format = FORMATS[type_of(content)]
    found = list(image_format.walk(io.BytesIO(content)))
    if image_format is jpeg:
        scans = [(part.start, after.start) for part, after in pairwise(found) if part.kind == b"\xda"]
        return [content[start:end] for start, end in scans]
    kinds = {b"IDAT", b"fdAT", b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b","}
    return [content[part.data : part.end] for part in found if part.kind in kinds]


class TestMark:
    @pytest.mark.sampled
    @pytest.mark.parametrize("name", MARKABLE)
    def test_is_added_and_nothing_else_changes(self, name: str) -> None:
        before = whole_images()[name]
        outcome, after = marked(before, "gpt-image-1")
        assert outcome is AiMark.ADDED
        assert source_type(packet_in(after)) == AI_MADE
        assert payload(after) == payload(before) != []
        assert pixels(io.BytesIO(after)) == pixels(io.BytesIO(before)) is not None
        verified = verify(io.BytesIO(after))
        assert (verified.width, verified.height) == SIZE

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", [name for name in MARKABLE if not name.startswith("gif")])
    def test_is_read_by_pillow(self, name: str) -> None:
        with Image.open(io.BytesIO(marked(whole_images()[name])[1])) as image:
            packet = image.info["xmp"]
        assert source_type(packet.encode() if isinstance(packet, str) else packet) == AI_MADE

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", MARKABLE)
    def test_twice_is_the_same_as_once(self, name: str) -> None:
        _, once = marked(whole_images()[name])
        assert marked(once, "another") == (AiMark.ALREADY_STATED, once)

    @pytest.mark.sampled
    @pytest.mark.parametrize("name", MARKABLE)
    def test_leaves_all_other_metadata(self, name: str) -> None:
        before = whole_images()[name]
        with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(marked(before)[1])) as new:
            added = {"xmp", "XML:com.adobe.xmp", "extension", "version"}
            assert {k: v for k, v in new.info.items() if k not in added} == {
                k: v for k, v in old.info.items() if k not in added
            }
            assert dict(new.getexif()) == dict(old.getexif())

    def test_names_the_model_only_if_it_is_known(self) -> None:
        _, named = marked(whole_images()["png"], 'a <model> & "more"\x00\ud800')
        assert stated(packet_in(named))[TOOL] == 'a <model> & "more"'
        assert TOOL not in stated(packet_in(marked(whole_images()["png"])[1]))

    def test_does_not_write_behind_the_end_of_the_image(self) -> None:
        for name in ("png", "jpeg", "webp", "gif"):
            outcome, after = marked(whole_images()[name] + b"tail")
            assert outcome is AiMark.ADDED
            assert after.endswith(b"tail")


class TestPlace:
    def test_in_png_is_before_the_pixels(self) -> None:
        kinds = [part.kind for part in png.walk(io.BytesIO(marked(whole_images()["png"])[1]))]
        assert kinds[:2] == [b"IHDR", b"iTXt"]

    def test_in_jpeg_is_behind_jfif_and_exif(self) -> None:
        after = marked(saved("JPEG", exif=exif_with_thumbnail(), dpi=(72, 72)))[1]
        first = list(jpeg.walk(io.BytesIO(after)))[:5]
        heads = [after[part.data : part.data + 4] for part in first]
        assert heads.index(b"http") == max(heads.index(head) for head in heads if head in {b"JFIF", b"Exif"}) + 1

    @pytest.mark.parametrize(
        ("name", "has_alpha"), [("webp", False), ("webp lossless", True), ("webp alpha", True), ("webp animated", True)]
    )
    def test_in_webp_is_declared_in_the_header(self, name: str, has_alpha: bool) -> None:
        after = marked(whole_images()[name])[1]
        parts = list(webp.walk(io.BytesIO(after)))
        assert (parts[0].kind, parts[-1].kind) == (b"VP8X", b"XMP ")
        assert after[parts[0].data] & 0x04
        assert bool(after[parts[0].data] & 0x10) == has_alpha
        assert struct.unpack_from("<I", after, 4)[0] + 8 == len(after) == parts[-1].end
        assert len(after) % 2 == 0

    def test_in_gif_is_before_the_first_image_and_its_control_block(self) -> None:
        after = marked(whole_images()["gif animated"])[1]
        kinds = [part.kind for part in gif.walk(io.BytesIO(after))]
        assert kinds[:4] == [b"!\xff", b"!\xff", b"!\xf9", b","]
        assert after.startswith(b"GIF89a")

    def test_in_gif_makes_an_old_version_new(self) -> None:
        old = b"GIF87a" + whole_images()["gif flat"][6:]
        assert marked(old)[1].startswith(b"GIF89a")


class TestForeignXmp:
    @pytest.mark.parametrize("name", sorted(STATED))
    def test_that_says_how_it_was_made_is_left(self, name: str) -> None:
        content = whole_images()[name]
        assert marked(content) == (AiMark.ALREADY_STATED, content)

    @pytest.mark.parametrize("name", [name for name in MARKABLE if "foreign" in name])
    def test_that_does_not_is_kept_and_added_to(self, name: str) -> None:
        _, after = marked(whole_images()[name], "m")
        properties = stated(packet_in(after))
        assert properties[f"{{{IPTC_EXTENSION}}}Event"] == AI_MADE
        assert properties[f"{{{IPTC_EXTENSION}}}DigitalSourceType"] == AI_MADE
        assert properties[TOOL] == "m"

    def test_keeps_its_tool_its_subject_and_its_own_prefixes(self) -> None:
        packet = (
            b"<?xpacket begin='\xef\xbb\xbf' id='W5M0MpCehiHzreSzNTczkc9d'?><m xmlns:r='http://www.w3.org/1999/02/22-rdf-"
            b"syntax-ns#'><r:RDF><!-- d --><r:Description r:about='uuid:1&amp;2' xmlns:Iptc4xmpExt='urn:other'"
            b" xmlns:x='http://ns.adobe.com/xap/1.0/'><x:CreatorTool>Drawer</x:CreatorTool></r:Description></r:RDF></m>"
            b"<?xpacket end='w'?>" + b" " * 100 + b"\0\0"
        )
        after = Packet(packet).marked("a model")
        assert [
            element.attrib["{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"] for element in descriptions(after)
        ] == ["uuid:1&2"] * 2
        assert stated(after)[TOOL] == "Drawer"
        assert source_type(after) == AI_MADE

    @pytest.mark.parametrize(
        "packet",
        [
            b"",
            b"no xml",
            b"<x/>",
            FOREIGN[:-40],
            FOREIGN.decode().encode("utf-16"),
            b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + FOREIGN.partition(b"\n")[2],
            b"<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/>",
            FOREIGN.replace(b"rdf:about", b"xmlns:n='http://ns.adobe.com/xmp/note/' n:HasExtendedXMP='0' rdf:about"),
        ],
    )
    @pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
    def test_that_cannot_be_understood_is_left(self, kind: str, packet: bytes) -> None:
        content = saved(kind, xmp=packet) if packet else with_gif_xmp(packet)
        assert marked(content) == (AiMark.UNSUPPORTED, content)

    def test_that_is_there_twice_is_left(self) -> None:
        [(start, end)] = [
            (part.start, part.end)
            for part in jpeg.walk(io.BytesIO(whole_images()["jpeg foreign xmp"]))
            if part.kind == b"\xe1"
        ]
        content = whole_images()["jpeg foreign xmp"]
        twice = content[:end] + content[start:end] + content[end:]
        assert marked(twice) == (AiMark.UNSUPPORTED, twice)

    def test_that_would_no_longer_fit_is_left(self) -> None:
        content = saved("JPEG", xmp=FOREIGN + b" " * (65_400 - len(FOREIGN)))
        assert marked(content) == (AiMark.UNSUPPORTED, content)

    def test_that_unpacks_to_very_much_is_left(self) -> None:
        content = png_with(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0" + zlib.compress(FOREIGN + b" " * 50_000_000))
        tracemalloc.start()
        try:
            assert marked(content) == (AiMark.UNSUPPORTED, content)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 5_000_000

    @pytest.mark.parametrize(
        "text", [b"", b"\x01", b"\x02\0\0\0x", b"\0\x01\0\0x", b"\0\0no end", b"\x01\0\0\0no zlib"]
    )
    def test_in_a_malformed_chunk_is_left(self, text: bytes) -> None:
        content = png_with(b"iTXt", b"XML:com.adobe.xmp\0" + text)
        assert marked(content) == (AiMark.UNSUPPORTED, content)

    @given(st.text())
    def test_takes_any_name_of_a_model(self, model: str) -> None:
        assert source_type(Packet(FOREIGN).marked(model)) == AI_MADE
        assert source_type(new_packet(model)) == AI_MADE

    @given(st.binary())
    def test_of_any_bytes_is_understood_or_not(self, packet: bytes) -> None:
        with pytest.raises(NotMarkable):
            Packet(packet).marked(None)


class TestSignedFile:
    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(lambda: png_with(b"caBX", jumbf()), id="png"),
            pytest.param(lambda: jpeg_with(b"\xeb", b"JP\0\1\0\0\0\1" + jumbf()), id="jpeg"),
            pytest.param(lambda: webp_with(b"C2PA", jumbf()), id="webp"),
            pytest.param(lambda: gif_with(b"C2PA_GIF\1\0\0", jumbf()), id="gif"),
            pytest.param(lambda: saved("JPEG", xmp=remote_reference()), id="stored elsewhere"),
        ],
    )
    def test_is_left_byte_for_byte(self, content: Callable[[], bytes]) -> None:
        signed = content()
        assert marked(signed, "m") == (AiMark.SIGNED_C2PA, signed)

    def test_is_distinguished_from_one_with_other_boxes(self) -> None:
        assert marked(jpeg_with(b"\xeb", b"JP\0\1\0\0\0\1\0\0\0\x10jumb\0\0\0\x08jumd"))[0] is AiMark.ADDED


class TestOtherFile:
    @pytest.mark.parametrize("content_type", ["image/svg+xml", "image/tiff", "x"])
    def test_of_another_type_is_copied(self, content_type: str) -> None:
        assert marked(SVG, content_type=content_type) == (AiMark.UNSUPPORTED, SVG)

    @pytest.mark.parametrize("content_type", FORMATS)
    def test_that_is_broken_is_copied(self, content_type: str) -> None:
        for content in (b"", b"GIF8", SVG, whole_images()["png"][:-1], whole_images()["webp"][:-1]):
            assert marked(content, content_type=content_type) == (AiMark.UNSUPPORTED, content)

    def test_with_positions_in_it_is_left(self) -> None:
        content = whole_images()["jpeg mpo"]
        assert marked(content) == (AiMark.UNSUPPORTED, content)

    def test_of_an_unusual_layout_is_left(self) -> None:
        simple = whole_images()["webp"]
        content = simple[:4] + struct.pack("<I", len(simple)) + simple[8:] + b"EXIF\0\0\0\0"
        assert marked(content) == (AiMark.UNSUPPORTED, content)

    def test_without_the_last_padding_is_left(self) -> None:
        content = webp_with(b"odd ", b"x")[:-1]
        content = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
        assert marked(content) == (AiMark.UNSUPPORTED, content)


class TestMemoryAndDisk:
    @pytest.mark.parametrize("name", ["png", "jpeg", "webp", "gif"])
    def test_a_large_file_is_copied_piece_by_piece(self, name: str, tmp_path: Path) -> None:
        content = whole_images()[name] + bytes(20_000_000)
        (tmp_path / "source").write_bytes(content)
        tracemalloc.start()
        try:
            with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
                assert mark_as_ai_made(source, target, type_of(whole_images()[name])) is AiMark.ADDED
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000
        assert (tmp_path / "target").stat().st_size > len(content)

    def test_a_full_disk_is_an_os_error(self) -> None:
        class Full(io.BytesIO):
            def write(self, _: object, /) -> int:
                raise OSError(28, "no space left")

        full: IO[bytes] = Full()
        with pytest.raises(OSError, match="no space"):
            mark_as_ai_made(io.BytesIO(whole_images()["png"]), full, "image/png")


def descriptions(packet: bytes) -> list[ElementTree.Element]:
    return ElementTree.fromstring(packet).findall(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")


def jumbf() -> bytes:
    """The beginning of a C2PA manifest store: a JUMBF superbox with a description box."""
    described = b"c2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0"
    box = struct.pack(">I4s", len(described) + 8, b"jumd") + described
    return struct.pack(">I4s", len(box) + 8, b"jumb") + box


def remote_reference() -> bytes:
    reference = b"xmlns:d='http://purl.org/dc/terms/' d:provenance='https://a.example/m.c2pa' rdf:about"
    return FOREIGN.replace(b"rdf:about", reference)


def png_with(kind: bytes, data: bytes) -> bytes:
    content = whole_images()["png"]
    chunked = bytearray(content[:33] + struct.pack(">I", len(data)) + kind + data + bytes(4) + content[33:])
    fix_checksums(chunked)
    return bytes(chunked)


def jpeg_with(kind: bytes, data: bytes) -> bytes:
    content = whole_images()["jpeg"]
    return content[:2] + b"\xff" + kind + struct.pack(">H", len(data) + 2) + data + content[2:]


def webp_with(kind: bytes, data: bytes) -> bytes:
    content = whole_images()["webp alpha"]
    body = content[12:] + kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif_with(name: bytes, data: bytes) -> bytes:
    content = whole_images()["gif flat"]
    block = b"!\xff\x0b" + name + bytes([len(data)]) + data + b"\0"
    return content[:781] + block + content[781:]
