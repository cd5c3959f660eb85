"""The chunks of a WebP file, how large its canvas is, and where in it the mark goes.

Source: RFC 9649 (WebP container, VP8 and VP8L headers); RFC 6386, 9.1 (frame header of VP8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from airflow_provider_imagegen.landing.formats import parts

SIGNATURE = b"RIFF"
CONTENT_TYPE = "image/webp"
EXTENSION = "webp"
_IMAGES = {b"VP8 ", b"VP8L", b"ANMF"}
_HAS_XMP, _HAS_ALPHA = 0x04, 0x10


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Size of an image in pixels, and whether it may be transparent."""

    width: int
    height: int
    has_alpha: bool


def walk(file: IO[bytes]) -> Iterator[parts.Part]:
    """Walk through the chunks of the RIFF container."""
    riff_end = _end_of_riff(file)
    position, has_pixels = 12, False
    for _ in range(parts.MAX_PARTS):
        if position + 8 > riff_end:
            break
        kind, size = struct.unpack("<4sI", parts.read_at(file, position, 8))
        data = position + 8
        if data + size > riff_end:
            raise parts.cut_off()
        has_pixels = has_pixels or kind in _IMAGES
        position = data + size + size % 2
        yield parts.Part(kind, data - 8, data, size, position)
    else:
        raise parts.BrokenImage("it has too many chunks")
    if not has_pixels:
        raise parts.BrokenImage("it has no pixels")


def size(file: IO[bytes]) -> tuple[int, int]:
    """Return the size of the canvas."""
    canvas = _canvas(file)
    return canvas.width, canvas.height


def survey(file: IO[bytes]) -> parts.Survey:
    """Return what the file says about where it comes from."""
    xmp, is_signed = None, False
    for part in walk(file):
        is_signed = is_signed or part.kind == b"C2PA"
        if part.kind == b"XMP ":
            xmp = parts.only(xmp, part)
    packet = parts.read_packet(file, xmp.data, xmp.size) if xmp and not is_signed else b""
    return parts.Survey(xmp, packet, is_signed)


def splices(file: IO[bytes], found: parts.Survey, packet: bytes) -> list[parts.Splice]:
    """Put a packet where the old one was, or behind all chunks; a simple file becomes an extended one."""
    first, *others = walk(file)
    last = others[-1] if others else first
    riff_end = _end_of_riff(file)
    # Padding is missing, or a simple file has chunks that an extended one has no known place for.
    if last.end != riff_end or (first.kind != b"VP8X" and others):
        raise parts.NotMarkable("the file is laid out in an unusual way")
    chunk = _chunk(b"XMP ", packet)
    start, end = (found.xmp.start, found.xmp.end) if found.xmp else (riff_end, riff_end)
    body = parts.Splice(start, end, chunk)
    header = _extended_header(file, first)
    growth = sum(len(splice.content) - (splice.end - splice.start) for splice in (header, body))
    riff = parts.Splice(4, 8, struct.pack("<I", riff_end - 8 + growth))
    return [riff, header, body]


def _extended_header(file: IO[bytes], first: parts.Part) -> parts.Splice:
    if first.kind == b"VP8X":
        flags = parts.read_at(file, first.data, 1)[0] | _HAS_XMP
        return parts.Splice(first.data, first.data + 1, bytes([flags]))
    canvas = _canvas(file)
    flags = _HAS_XMP | (_HAS_ALPHA if canvas.has_alpha else 0)
    sides = (canvas.width - 1).to_bytes(3, "little") + (canvas.height - 1).to_bytes(3, "little")
    return parts.Splice(12, 12, _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _end_of_riff(file: IO[bytes]) -> int:
    riff, size, webp = struct.unpack("<4sI4s", parts.read_at(file, 0, 12))
    if riff != SIGNATURE or webp != b"WEBP":
        raise parts.BrokenImage("it does not begin like a WebP")
    # Chunks are compared with what is claimed here only: a cut inside the last one would not be noticed there.
    if size + 8 > file.seek(0, 2):
        raise parts.cut_off()
    return int(size) + 8


def _canvas(file: IO[bytes]) -> _Canvas:
    kind, size = struct.unpack("<4sI", parts.read_at(file, 12, 8))
    if kind == b"VP8X" and size >= 10:
        flags, *sides = struct.unpack("<B3x6B", parts.read_at(file, 20, 10))
        width, height = (int.from_bytes(bytes(side), "little") + 1 for side in (sides[:3], sides[3:]))
        return _Canvas(width, height, bool(flags & _HAS_ALPHA))
    if kind == b"VP8L" and size >= 5:
        mark, bits = struct.unpack("<BI", parts.read_at(file, 20, 5))
        if mark == 0x2F:
            return _Canvas((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    if kind == b"VP8 " and size >= 10:
        tag, mark, width, height = struct.unpack("<B2x3sHH", parts.read_at(file, 20, 10))
        # The upper two bits ask for scaling, which nobody does.
        width, height = width & 0x3FFF, height & 0x3FFF
        if mark == b"\x9d\x01\x2a" and tag & 1 == 0 and width * height:
            return _Canvas(width, height, has_alpha=False)
    raise parts.BrokenImage("its first chunk is not that of a WebP image")
