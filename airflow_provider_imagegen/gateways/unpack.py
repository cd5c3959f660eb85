"""Unpack a compressed HTTP body, a bounded piece at a time.

The response reader and the download of results use it instead of httpx's decoders, which unpack everything that has
arrived at once: 64 KB from the network may become 64 MB in memory, and with ``gzip, gzip`` a thousand times that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE = 64 * 1024
CODINGS = "gzip, deflate"
"""Value of ``Accept-Encoding`` for a sender whose body goes through an :class:`Unpacker`."""

_PLAIN = {"", "identity"}
_ZIPPED = {"gzip", "x-gzip", "deflate"}


class UnknownCoding(ValueError):
    """A body is packed in a way that nobody asked for."""


class DamagedBody(ValueError):
    """A body cannot be unpacked."""


class Unpacker:
    """One body on its way."""

    def __init__(self, coding: str) -> None:
        coding = coding.strip().lower()
        if coding not in _PLAIN | _ZIPPED:
            raise UnknownCoding(f"a body encoded as {coding[:40]!r}, which was not asked for")
        self._zlib = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if coding in _ZIPPED else None

    @property
    def is_whole(self) -> bool:
        """Whether a packed body has come to its end mark."""
        return self._zlib is None or self._zlib.eof

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """Yield the content of a further piece of the body."""
        if self._zlib is None:
            yield piece
            return
        while piece:
            if self._zlib.eof:
                raise DamagedBody("something follows the packed body")
            try:
                content = self._zlib.decompress(piece, PIECE)
            except zlib.error as error:
                raise DamagedBody(f"the body cannot be unpacked: {error}") from None
            piece = self._zlib.unconsumed_tail or self._zlib.unused_data
            yield content

    def finish(self) -> bytes:
        """Return what is left at the end of the body."""
        return b"" if self._zlib is None else self._zlib.flush()
