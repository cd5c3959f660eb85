"""The chunks of a PNG file, and where in it the mark goes.

Source: PNG specification, third edition (5.3 chunk layout, 11.3.3.4 iTXt); XMP specification part 3 (1.1.5 PNG).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from airflow_provider_imagegen.landing.formats import parts

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CONTENT_TYPE = "image/png"
EXTENSION = "png"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_UNCOMPRESSED = b"\0\0\0\0"  # flag, method, no language, no translated keyword
_END_OF_IHDR = 33


def walk(file: IO[bytes]) -> Iterator[parts.Part]:
    """Walk through the chunks up to IEND, checking every checksum."""
    if parts.read_at(file, 0, 8) != SIGNATURE:
        raise parts.BrokenImage("it does not begin like a PNG")
    position, has_pixels = 8, False
    for number in range(parts.MAX_PARTS):
        chunk = _chunk_at(file, position)
        if (number == 0) != (chunk.kind == b"IHDR") or (number == 0 and chunk.size != 13):
            raise parts.BrokenImage("its IHDR chunk is not where it belongs")
        has_pixels = has_pixels or chunk.kind == b"IDAT"
        yield chunk
        if chunk.kind == b"IEND":
            break
        position = chunk.end
    else:
        raise parts.BrokenImage("it has too many chunks")
    if not has_pixels:
        raise parts.BrokenImage("it has no pixels")


def size(file: IO[bytes]) -> tuple[int, int]:
    """Return the size that IHDR states."""
    width, height = struct.unpack(">2I", parts.read_at(file, 16, 8))
    return width, height


def survey(file: IO[bytes]) -> parts.Survey:
    """Return what the file says about where it comes from."""
    xmp, is_signed = None, False
    for part in walk(file):
        is_signed = is_signed or part.kind == b"caBX"
        if part.kind == b"iTXt" and parts.read_at(file, part.data, min(part.size, 18)) == _XMP_KEYWORD:
            xmp = parts.only(xmp, part)
    return parts.Survey(xmp, _packet(file, xmp) if xmp and not is_signed else b"", is_signed)


def splices(_: IO[bytes], found: parts.Survey, packet: bytes) -> list[parts.Splice]:
    """Put a packet where the old one was, or before all chunks but IHDR."""
    content = b"iTXt" + _XMP_KEYWORD + _UNCOMPRESSED + packet
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    start, end = (found.xmp.start, found.xmp.end) if found.xmp else (_END_OF_IHDR, _END_OF_IHDR)
    return [parts.Splice(start, end, chunk)]


def _chunk_at(file: IO[bytes], position: int) -> parts.Part:
    size, kind = struct.unpack(">I4s", parts.read_at(file, position, 8))
    # Read even where it is skipped: a stored image whose bits turned has the right length.
    checksum, left = zlib.crc32(kind), size
    while left:
        piece = file.read(min(left, parts.PIECE))
        if not piece:
            raise parts.cut_off()
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    if parts.read_at(file, position + 8 + size, 4) != struct.pack(">I", checksum):
        raise parts.BrokenImage(f"the checksum of its {kind!r} chunk is wrong")
    return parts.Part(kind, position, position + 8, size, position + 12 + size)


def _packet(file: IO[bytes], part: parts.Part) -> bytes:
    skipped = len(_XMP_KEYWORD)
    content = parts.read_packet(file, part.data + skipped, part.size - skipped)
    fields = content[2:].split(b"\0", 2)
    if len(fields) != 3 or content[0] > 1 or content[1] != 0:
        raise parts.NotMarkable("the chunk of the XMP packet is malformed")
    return _inflated(fields[2]) if content[0] else fields[2]


def _inflated(content: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # Bounded: a few kilobytes may inflate to gigabytes.
        packet = inflater.decompress(content, parts.MAX_PACKET_BYTES)
    except zlib.error:
        raise parts.NotMarkable("the XMP packet cannot be decompressed") from None
    if not inflater.eof:
        raise parts.NotMarkable("the XMP packet is cut off or too large")
    return packet
