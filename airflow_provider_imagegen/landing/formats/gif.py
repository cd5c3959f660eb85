"""The blocks of a GIF file, and where in it the mark goes.

Source: GIF89a specification (blocks); XMP specification part 3 (1.1.2 GIF); the C2PA identifier is that of c2pa-rs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from airflow_provider_imagegen.landing.formats import parts

SIGNATURE = b"GIF8"
CONTENT_TYPE = "image/gif"
EXTENSION = "gif"
_IMAGE, _TRAILER, _EXTENSION, _APPLICATION = b",", b";", b"!", b"!\xff"
_XMP = b"XMP DataXMP"
_XMP_HEAD = _APPLICATION + b"\x0b" + _XMP
# A reader that takes the packet for sub-blocks jumps somewhere into this ramp and slides to its end.
_XMP_TAIL = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
_BEFORE_PIXELS = {b"!\xff", b"!\xfe"}


def walk(file: IO[bytes]) -> Iterator[parts.Part]:
    """Walk through the blocks to the trailer."""
    head = parts.read_at(file, 0, 13)
    if head[:6] not in {b"GIF87a", b"GIF89a"}:
        raise parts.BrokenImage("it does not begin like a GIF")
    position, has_pixels = 13 + _table(head[10]), False
    for _ in range(parts.MAX_PARTS):
        block = _block_at(file, position)
        has_pixels = has_pixels or block.kind == _IMAGE
        yield block
        if block.kind == _TRAILER:
            break
        position = block.end
    else:
        raise parts.BrokenImage("it has too many blocks")
    if not has_pixels:
        raise parts.BrokenImage("it has no pixels")


def size(file: IO[bytes]) -> tuple[int, int]:
    """Return the size of the screen, or of the first image if that does not fit on it."""
    width, height = struct.unpack("<2H", parts.read_at(file, 6, 4))
    first = next(part for part in walk(file) if part.kind == _IMAGE)
    left, top, *sides = struct.unpack("<4H", parts.read_at(file, first.start + 1, 8))
    return max(width, left + sides[0]), max(height, top + sides[1])


def survey(file: IO[bytes]) -> parts.Survey:
    """Return what the file says about where it comes from."""
    xmp, is_signed = None, False
    for part in walk(file):
        name = parts.read_at(file, part.data, 12)[1:] if part.kind == _APPLICATION and part.size >= 12 else b""
        is_signed = is_signed or name.startswith(b"C2PA_GIF")
        if name == _XMP:
            xmp = parts.only(xmp, part)
    return parts.Survey(xmp, _packet(file, xmp) if xmp and not is_signed else b"", is_signed)


def splices(file: IO[bytes], found: parts.Survey, packet: bytes) -> list[parts.Splice]:
    """Put a packet where the old one was, or behind the blocks that say something about the whole file."""
    extension = _XMP_HEAD + packet + _XMP_TAIL
    # GIF87a knows no extensions.
    version = parts.Splice(0, 6, b"GIF89a")
    if found.xmp:
        return [version, parts.Splice(found.xmp.start, found.xmp.end, extension)]
    position = 13 + _table(parts.read_at(file, 10, 1)[0])
    for part in walk(file):
        if part.kind not in _BEFORE_PIXELS:
            break
        position = part.end
    return [version, parts.Splice(position, position, extension)]


def _block_at(file: IO[bytes], position: int) -> parts.Part:
    introducer = parts.read_at(file, position, 1)
    if introducer in {_TRAILER, b"\0"}:  # some encoders leave a zero too many between blocks
        return parts.Part(introducer, position, position + 1, 0, position + 1)
    if introducer == _EXTENSION:
        data, kind = position + 2, introducer + parts.read_at(file, position + 1, 1)
    elif introducer == _IMAGE:
        flags = parts.read_at(file, position + 9, 1)[0]
        data, kind = position + 11 + _table(flags), introducer
    else:
        raise parts.BrokenImage("there is something between its blocks")
    end = _end_of_sub_blocks(file, data)
    return parts.Part(kind, position, data, end - data, end)


def _end_of_sub_blocks(file: IO[bytes], position: int) -> int:
    size = parts.read_at(file, position, 1)[0]
    position += 1
    while size:
        block = file.read(size + 1)
        if len(block) != size + 1:
            raise parts.cut_off()
        position += size + 1
        size = block[-1]
    return position


def _table(flags: int) -> int:
    """Return the bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _packet(file: IO[bytes], part: parts.Part) -> bytes:
    content = parts.read_packet(file, part.data + 12, part.size - 12)
    if not content.endswith(_XMP_TAIL):
        raise parts.NotMarkable("the XMP packet is not stored as XMP wants it")
    return content[: -len(_XMP_TAIL)]
