"""A response's body on its way into a file: bounded, unpacked, and known to be whole at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO

from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage
from airflow_provider_imagegen.gateways.unpack import DamagedBody, UnknownCoding, Unpacker


class CutOff(Exception):
    """One attempt ended before the body was whole; another one may bring it."""


class BodyFile:
    """One body in a file; no more of it than one piece is held in memory.

    A cut shows without being looked for: httpcore raises when fewer bytes come than ``Content-Length`` or chunks
    announced. The next attempt fetches the body from its start.

    """

    def __init__(self, file: IO[bytes], headers: Mapping[str, str], source: str, cap: int) -> None:
        self._file, self._source, self._cap = file, source, cap
        self._received = self.size = 0
        # Asking for the rest only (Range) saves seconds, and two versions of an image could be glued together.
        file.seek(0)
        file.truncate()
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > cap:
            raise NotAnImage(f"{source} announces {length} bytes, more than the {cap} allowed")
        try:
            # Objects that were stored packed are served packed, although only plain bytes are asked for.
            self._unpacker = Unpacker(headers.get("content-encoding", ""))
        except UnknownCoding as error:
            raise DownloadFailed(f"{source} sends {error}") from None

    def write(self, piece: bytes) -> None:
        """Take a piece of the body."""
        # Both sides are counted: a packed body may unpack to gigabytes, or to nothing without end.
        self._received += len(piece)
        try:
            for content in self._unpacker.unpack(piece):
                self._store(content)
        except DamagedBody as error:
            raise CutOff(str(error)) from None

    def finish(self) -> None:
        """Check that all has arrived."""
        self._store(self._unpacker.finish())
        if not self._unpacker.is_whole:
            raise CutOff(f"the packed body ended after {self._received} bytes, before its end mark")
        self._file.flush()

    def _store(self, content: bytes) -> None:
        self.size += len(content)
        if max(self.size, self._received) > self._cap:
            raise NotAnImage(f"{self._source} sends more than {self._cap} bytes")
        # Not in a thread: a local temporary file takes 64 KB faster than the hop there costs.
        self._file.write(content)
