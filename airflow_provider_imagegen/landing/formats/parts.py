"""An image file as the row of parts it is made of; how to read them safely and copy a file with some replaced.

The modules of the formats build on it. Two things are true of all of them: pixels are never decoded, so neither a
decompression bomb nor a flaw in a decoder can harm the worker; and neither a length that a file claims nor its size
decides how much memory is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

PIECE = 64 * 1024
# A file of nothing but empty parts would keep a worker busy for long; a 64 MiB image in 8 KiB chunks has 8192.
MAX_PARTS = 1 << 18
MAX_PACKET_BYTES = 1 << 20


class BrokenImage(ValueError):
    """A file is cut off, or not of the format its first bytes promise."""


class NotMarkable(ValueError):
    """A file cannot take the mark without losing something; it stays as it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk, segment or block of a file.

    :param kind: Chunk type, marker byte or block introducer and label.
    :param start: Position of its first byte, header included.
    :param end: Position behind it, checksum and padding included.
    """

    kind: bytes
    start: int
    data: int
    size: int
    end: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file already says about where it comes from; signed is one whose bytes C2PA data binds."""

    xmp: Part | None = None
    packet: bytes = b""
    is_signed: bool = False


@dataclass(frozen=True, slots=True)
class Splice:
    """Bytes that take the place of ``[start, end)``."""

    start: int
    end: int
    content: bytes


class ImageFormat(Protocol):
    """What the module of a format offers."""

    SIGNATURE: bytes
    """First bytes of every file."""
    CONTENT_TYPE: str
    EXTENSION: str

    def walk(self, file: IO[bytes], /) -> Iterator[Part]:
        """Walk through all parts up to the image's end; one that is damaged or missing is a ``BrokenImage``."""

    def size(self, file: IO[bytes], /) -> tuple[int, int]:
        """Return width and height as the header states them."""

    def survey(self, file: IO[bytes], /) -> Survey:
        """Return what a file says about where it comes from."""

    def splices(self, file: IO[bytes], found: Survey, packet: bytes, /) -> list[Splice]:
        """Return the changes that put an XMP packet where the old one was, or where the format wants it."""


def cut_off() -> BrokenImage:
    """Return the error of a file that ends too early."""
    return BrokenImage("the image is cut off")


def read_at(file: IO[bytes], position: int, size: int) -> bytes:
    """Read exactly so many bytes."""
    file.seek(position)
    content = file.read(size)
    if len(content) != size:
        raise cut_off()
    return content


def read_packet(file: IO[bytes], position: int, size: int) -> bytes:
    """Read an XMP packet."""
    if size > MAX_PACKET_BYTES:
        raise NotMarkable("the XMP packet is too large to be understood")
    return read_at(file, position, size)


def only(known: Part | None, found: Part) -> Part:
    """Return the XMP part that was found, if it is the only one."""
    if known is not None:
        raise NotMarkable("the file has more than one XMP packet")
    return found


def copy(source: IO[bytes], target: IO[bytes], splices: Iterable[Splice] = ()) -> None:
    """Copy a whole file, piece by piece, with some of its bytes replaced."""
    source.seek(0)
    position = 0
    for splice in splices:
        _copy_bytes(source, target, splice.start - position)
        target.write(splice.content)
        position = source.seek(splice.end)
    while piece := source.read(PIECE):
        target.write(piece)


def _copy_bytes(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size > 0:
        piece = source.read(min(size, PIECE))
        if not piece:
            raise cut_off()
        target.write(piece)
        size -= len(piece)
