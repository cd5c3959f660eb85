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
_ANY_HEADER = zlib.MAX_WBITS | 32
_GZIP = b"\x1f\x8b"


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
        self._coding = coding
        self._zlib: zlib._Decompress | None = None
        self._head = b""

    @property
    def is_whole(self) -> bool:
        """Whether a packed body has come to its end mark."""
        return self._coding in _PLAIN or (self._zlib is not None and self._zlib.eof)

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """Yield the content of a further piece of the body."""
        if self._coding in _PLAIN:
            yield piece
            return
        piece = self._head + piece
        if self._zlib is None and len(piece) < len(_GZIP):
            # Two bytes tell how the rest is to be read.
            self._head = piece
            return
        self._head = b""
        while piece:
            if self._zlib is None:
                self._zlib = zlib.decompressobj(_format_of(piece, self._coding))
            elif self._zlib.eof:
                # A gzip body may have several members; anything else behind its end, such as zeros, means nothing.
                if not piece.startswith(_GZIP[:1]):
                    return
                self._zlib = zlib.decompressobj(_ANY_HEADER)
            try:
                content = self._zlib.decompress(piece, PIECE)
            except zlib.error as error:
                raise DamagedBody(f"the body cannot be unpacked: {error}") from None
            piece = self._zlib.unconsumed_tail or self._zlib.unused_data
            yield content

    def finish(self) -> bytes:
        """Return what is left at the end of the body."""
        return b"" if self._zlib is None else self._zlib.flush()


def _format_of(body: bytes, coding: str) -> int:
    """Return zlib's ``wbits`` for a body that begins so: some servers send "deflate" without its header."""
    has_header = body.startswith(_GZIP) or (body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0)
    return _ANY_HEADER if has_header or coding != "deflate" else -zlib.MAX_WBITS
