"""What of a result has arrived in its file, and how the rest is asked for after a cut."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

from airflow_provider_imagegen.exceptions import DownloadFailed, NotAnImage

if TYPE_CHECKING:
    from zlib import _Decompress

PIECE = 64 * 1024
"""Bytes that are unpacked at once."""
_CONTENT_RANGE = re.compile(r"bytes (?P<start>[0-9]{1,18})-[0-9]{1,18}/(?P<total>[0-9]{1,18}|\*)")
_PLAIN = {"", "identity"}
_ZIPPED = {"gzip", "x-gzip", "deflate"}


class CutOff(Exception):
    """One try ended before the result was whole; another one may go on."""


class PartialFile:
    """A result on its way into a file; nothing of it is ever held in memory but one piece.

    :param file: An empty file.
    :param source: What errors call the result's address.
    :param cap: Bytes it may have at most.
    """

    _size: int
    _received: int
    _total: int | None
    _validator: tuple[str, str] | None
    _unzip: _Decompress | None

    def __init__(self, file: IO[bytes], source: str, cap: int) -> None:
        self._file = file
        self._source = source
        self._cap = cap
        self._forget()

    @property
    def wanted(self) -> list[tuple[bytes, bytes]]:
        """Headers that ask for what is missing: nothing for all of it."""
        if not self._size or self._validator is None:
            return []
        return [
            (b"Range", b"bytes=%d-" % self._size),
            (b"If-Range", self._validator[1].encode(errors="surrogateescape")),
        ]

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the head of a response; go on where the file ends, or start over.

        :raises CutOff: If the response is a part that does not fit.
        :raises NotAnImage: If it announces too many bytes.
        """
        if status == 206 and self._fits(headers):
            return
        asked_for_a_part, fits_nowhere = bool(self.wanted), status in {206, 416}
        self._forget()
        if fits_nowhere:
            raise CutOff(
                "the response is not the part that was asked for" if asked_for_a_part else f"answered {status}"
            )
        self._start_over(headers)

    def write(self, piece: bytes) -> None:
        """Take a piece of the body.

        :raises CutOff: If it cannot be unpacked.
        :raises NotAnImage: If there are too many bytes.
        :raises OSError: If the disk does not take it.
        """
        self._received += len(piece)
        if self._received > self._cap:
            raise self._too_large()
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

        :raises CutOff: If something is missing, or the responses contradict each other.
        :raises OSError: If the disk does not take it.
        """
        if self._unzip is not None:
            self._store(self._unzip.flush())
            if not self._unzip.eof:
                raise CutOff(f"the packed body ended after {self._received} bytes, before its end mark")
        size, total = self._size, self._total
        if total is not None and size != total:
            if size > total:
                self._forget()
            raise CutOff(f"{size} of {total} bytes came")
        self._file.flush()

    def _start_over(self, headers: Mapping[str, str]) -> None:
        """Prepare for a whole body.

        An encoded one is asked not to come; if it does, it is unpacked, and a cut one is fetched again:
        ranges of it count encoded bytes.
        """
        length = headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else None
        if announced is not None and announced > self._cap:
            raise NotAnImage(f"{self._source} announces {announced} bytes, more than the {self._cap} allowed")
        encoding = _encoding(headers)
        if encoding in _ZIPPED:
            self._unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        elif encoding not in _PLAIN:
            raise DownloadFailed(f"{self._source} sends a body encoded as {encoding[:40]!r}, which was not asked for")
        else:
            self._total = announced
            self._validator = _validator(headers)

    def _fits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a part is the one that was asked for, of the same whole."""
        part = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if part is None or not self.wanted or self._validator is None or _encoding(headers) not in _PLAIN:
            return False
        name, value = self._validator
        total = self._total if part["total"] == "*" else int(part["total"])
        fits = int(part["start"]) == self._size and self._total in {None, total} and headers.get(name, value) == value
        self._total = total
        return fits

    def _forget(self) -> None:
        """Empty the file."""
        self._file.seek(0)
        self._file.truncate()
        self._size = self._received = 0
        self._total = self._validator = self._unzip = None

    def _store(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._cap:
            raise self._too_large()
        # A local temporary file takes 64 KB faster than a hop to a thread costs.
        self._file.write(piece)

    def _too_large(self) -> NotAnImage:
        return NotAnImage(f"{self._source} sends more than {self._cap} bytes")


def _encoding(headers: Mapping[str, str]) -> str:
    return headers.get("content-encoding", "").strip().lower()


def _validator(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the header that proves that a later part belongs to this whole: a strong etag, or else the date.

    Source: RFC 9110, section 13.1.5; a weak etag proves nothing about bytes.
    """
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    etag = headers.get("etag")
    if etag is not None:
        return ("etag", etag) if etag.startswith('"') else None
    date = headers.get("last-modified")
    return ("last-modified", date) if date else None
