"""The segments of a JPEG file, and where in it the mark goes.

Source: ITU-T T.81 annex B (markers); XMP specification part 3 (1.1.3 JPEG); CIPA DC-007 (multi-image files).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import IO

from airflow_provider_imagegen.landing.formats import parts

SIGNATURE = b"\xff\xd8\xff"
CONTENT_TYPE = "image/jpeg"
EXTENSION = "jpg"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STANDALONE = {b"\x01", b"\xd8", b"\xd9"}
_APP0, _APP1, _APP2, _APP11 = b"\xe0", b"\xe1", b"\xe2", b"\xeb"
START_OF_SCAN, _END, _QUANTIZATION = b"\xda", b"\xd9", b"\xdb"
# DHT, JPG and DAC have numbers among the frame headers.
_START_OF_FRAME = {bytes([number]) for number in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}
_WITH_TABLES = {b"\xc0", b"\xc1", b"\xc2"}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_LONGER_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_MAX_SEGMENT = 0xFFFF - 2


def walk(file: IO[bytes]) -> Iterator[parts.Part]:
    """Walk through the segments to the end mark of the image."""
    if parts.read_at(file, 0, 3) != SIGNATURE:
        raise parts.BrokenImage("it does not begin like a JPEG")
    # From segment to segment: searched for, the end mark of an embedded thumbnail would be taken for the image's.
    position = 2
    seen: set[bytes] = set()
    for _ in range(parts.MAX_PARTS):
        segment = _segment_at(file, _next_marker(file, position))
        if START_OF_SCAN not in seen:
            _check(file, segment)
        if segment.kind == START_OF_SCAN and not seen & _START_OF_FRAME:
            break
        seen.add(segment.kind)
        yield segment
        if segment.kind == _END:
            break
        position = segment.end
    else:
        raise parts.BrokenImage("it has too many segments")
    if START_OF_SCAN not in seen or not seen & _START_OF_FRAME:
        raise parts.BrokenImage("it has no pixels")
    if seen & _WITH_TABLES and _QUANTIZATION not in seen:
        raise parts.BrokenImage("it has no quantization tables")


def size(file: IO[bytes]) -> tuple[int, int]:
    """Return the size that the frame header states."""
    frame = next(part for part in walk(file) if part.kind in _START_OF_FRAME)
    height, width = struct.unpack(">2H", parts.read_at(file, frame.data + 1, 4))
    return width, height


def survey(file: IO[bytes]) -> parts.Survey:
    """Return what the file says about where it comes from."""
    xmp, is_signed, is_compound = None, False, False
    for part in walk(file):
        if part.kind not in {_APP1, _APP2, _APP11}:
            continue
        content = parts.read_at(file, part.data, part.size)
        is_signed = is_signed or (part.kind == _APP11 and content.startswith(b"JP") and b"c2pa" in content)
        is_compound = is_compound or (part.kind == _APP2 and content.startswith(b"MPF\0"))
        is_compound = is_compound or (part.kind == _APP1 and content.startswith(_LONGER_XMP))
        if part.kind == _APP1 and content.startswith(_XMP):
            xmp = parts.only(xmp, part)
    if is_signed:
        return parts.Survey(is_signed=True)
    # Files of several images (MPF) hold offsets that a mark would shift; XMP that goes on elsewhere is not whole here.
    if is_compound:
        raise parts.NotMarkable("the file has more images or XMP than its first, which point at positions in it")
    skipped = len(_XMP)
    return parts.Survey(xmp, parts.read_packet(file, xmp.data + skipped, xmp.size - skipped) if xmp else b"")


def splices(file: IO[bytes], found: parts.Survey, packet: bytes) -> list[parts.Splice]:
    """Put a packet where the old one was, or behind the JFIF and Exif segments, which want to be first."""
    content = _XMP + packet
    if len(content) > _MAX_SEGMENT:
        raise parts.NotMarkable("the XMP packet does not fit into a JPEG segment")
    segment = b"\xff" + _APP1 + (len(content) + 2).to_bytes(2, "big") + content
    if found.xmp:
        return [parts.Splice(found.xmp.start, found.xmp.end, segment)]
    position = _behind_first_segments(file)
    return [parts.Splice(position, position, segment)]


def _behind_first_segments(file: IO[bytes]) -> int:
    position = 2
    for part in walk(file):
        is_exif = part.kind == _APP1 and parts.read_at(file, part.data, min(part.size, 6)) == b"Exif\0\0"
        if part.kind != _APP0 and not is_exif:
            break
        position = part.end
    return position


def _check(file: IO[bytes], segment: parts.Part) -> None:
    """Refuse damage in the headers that leaves the file whole and the image undecodable."""
    if b"\x01" < segment.kind < b"\xc0":
        raise parts.BrokenImage("it has a segment of no known kind")
    if segment.kind in _START_OF_FRAME:
        header = parts.read_at(file, segment.data, 6)
        if header[0] != 8 or header[5] not in {1, 3, 4} or segment.size != 6 + 3 * header[5]:
            raise parts.BrokenImage("its frame header states no image that decoders take")
    if segment.kind == _QUANTIZATION:
        content, position = parts.read_at(file, segment.data, segment.size), 0
        while position < len(content):
            # The high half of a table's first byte: 64 values of one byte, or of two.
            position += 1 + 64 * (1 + (content[position] >> 4))
        if position != len(content):
            raise parts.BrokenImage("a quantization table of it is cut off")


def _segment_at(file: IO[bytes], position: int) -> parts.Part:
    kind = parts.read_at(file, position, 2)[1:]
    if kind in _STANDALONE:
        return parts.Part(kind, position, position + 2, 0, position + 2)
    size = int.from_bytes(parts.read_at(file, position + 2, 2), "big")
    end = position + 2 + size
    if size < 2:
        raise parts.BrokenImage("a segment of it is shorter than its header")
    if end > file.seek(0, 2):
        raise parts.cut_off()
    return parts.Part(kind, position, position + 4, size - 2, end)


def _next_marker(file: IO[bytes], position: int) -> int:
    """Return where the next marker is, behind pixels, fill bytes and restart marks."""
    file.seek(position)
    before, size = b"", 64
    while piece := file.read(size):
        window = before + piece
        if found := _MARKER.search(window):
            return position + found.start()
        # A marker may lie across two pieces.
        before = window[-1:] if window.endswith(b"\xff") else b""
        position += len(window) - len(before)
        size = min(size * 4, parts.PIECE)
    raise parts.cut_off()
