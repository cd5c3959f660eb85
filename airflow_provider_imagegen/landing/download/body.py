"""A response's body on its way into a file: bounded, unpacked, and known to be whole at its end."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import IO

from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage

PIECE = 64 * 1024
"""Bytes that are unpacked at once."""
_PLAIN = {"", "identity"}
_ZIPPED = {"gzip", "x-gzip", "deflate"}


class CutOff(Exception):
    """One attempt ended before the body was whole; another one may bring it."""


class BodyFile:
    """One body in a file; no more of it than one piece is held in memory.

    A cut shows without being looked for: httpcore raises when fewer bytes come than ``Content-Length`` or chunks
    announced. The next attempt fetches the body from its start.

    :param file: Emptied first.
    :param headers: The response's, by lower-case names.
    :param source: What errors call the address of the body.
    :param cap: Bytes it may have at most.
    :raises NotAnImage: If more than that are announced.
    :raises DownloadFailed: If the body is encoded in an unknown way.
    """

    def __init__(self, file: IO[bytes], headers: Mapping[str, str], source: str, cap: int) -> None:
        self._file, self._source, self._cap = file, source, cap
        self._received = self._size = 0
        # Asking for the rest only (Range) saves seconds, and two versions of an image could be glued together.
        file.seek(0)
        file.truncate()
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > cap:
            raise NotAnImage(f"{source} announces {length} bytes, more than the {cap} allowed")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in _PLAIN | _ZIPPED:
            raise DownloadFailed(f"{source} sends a body encoded as {encoding[:40]!r}, which was not asked for")
        # Objects that were stored packed are served packed, although only plain bytes are asked for.
        self._unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if encoding in _ZIPPED else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not self._size

    def write(self, piece: bytes) -> None:
        """Take a piece of the body.

        :raises CutOff: If it cannot be unpacked.
        :raises NotAnImage: If there are too many bytes.
        :raises OSError: If the disk does not take it.
        """
        # Both sides are counted: a packed body may unpack to gigabytes, or to nothing without end.
        self._received += len(piece)
        if self._unzip is None:
            self._store(piece)
            return
        while piece:
            if self._unzip.eof:
                raise CutOff("something follows the packed body")
            try:
                self._store(self._unzip.decompress(piece, PIECE))
            except zlib.error as error:
                raise CutOff(f"the body cannot be unpacked: {error}") from None
            piece = self._unzip.unconsumed_tail or self._unzip.unused_data

    def finish(self) -> None:
        """Check that all has arrived.

        :raises CutOff: If the end of a packed body is missing.
        :raises OSError: If the disk does not take it.
        """
        if self._unzip is not None:
            self._store(self._unzip.flush())
            if not self._unzip.eof:
                raise CutOff(f"the packed body ended after {self._received} bytes, before its end mark")
        self._file.flush()

    def _store(self, content: bytes) -> None:
        self._size += len(content)
        if max(self._size, self._received) > self._cap:
            raise NotAnImage(f"{self._source} sends more than {self._cap} bytes")
        # Not in a thread: a local temporary file takes 64 KB faster than the hop there costs.
        self._file.write(content)
