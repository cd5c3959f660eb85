"""Split an image API's response into a small document and the images it carried, decoded as they stream.

``response_reader`` feeds it; gateways read the small document as they read any response. Whether a long string is an
image is decided by its first bytes, never by the name of its field: other vendors use other names. Server-sent events
are split the same way: their lines are the document, so no image of a stream is ever one long line in memory.
"""

from __future__ import annotations

import binascii
import codecs
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import httpx

from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES

# A worker's memory and disk are shared by all its tasks, and a gateway may be broken or hostile: each of these bounds
# what one response can take of them. The largest known response carries 10 images.
MAX_IMAGES = 16
MAX_SKELETON_BYTES = 8 * 1024 * 1024
# Strings up to this length stay in the document, images or not: a file for each would cost more than it saves.
INLINE_BYTES = 4096

# How PNG, JPEG, GIF and RIFF (WebP) files begin, in base64.
_SIGNATURES = (b"iVBORw0KGg", b"/9j/", b"R0lGO", b"UklGR")
_DATA_URL = re.compile(rb"data:[\w.+/-]*(?:;[\w.=+-]+)*;base64,", re.IGNORECASE)
_SCHEME = "data:"
_LETTERS = re.compile(rb"[A-Za-z0-9+/]+")
_END_OF_BASE64 = re.compile(rb"[A-Za-z0-9+/]{0,3}={0,2}")
_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")
_LINE_BREAKS = b"\r\n"
_SHORT_ESCAPES = {b"\\/": b"/", b"\\n": b"\n", b"\\r": b"\r"}
_UNICODE_ESCAPE = re.compile(rb"\\u00([0-7][0-9A-Fa-f])")
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
# Of JSON; of the lines of server-sent events, whose fields are data, event, id and retry, and of their comments.
_FIRST_CHARACTERS = b"{[deir:"
_BACKSLASH = 0x5C
# In which error pages come; JSON is UTF-8. Others are no texts (hex, zlib), or take time quadratic in it (punycode).
_CHARSETS = frozenset({"iso8859-1", "cp1252", "gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"})


class ResponseTooLarge(ValueError):
    """A response holds more than this provider is willing to read; the rest of it was not read."""


@dataclass(frozen=True)
class ResponseContent:
    """A response without its images, and the images.

    :param response: Status, headers and body as they came, except that every image in the body is replaced by
        a marker.
    :param files: Marker → the decoded image. A string is a marker only if it is a key here or in ``damaged``.
    :param damaged: Marker → what is wrong, for strings that begin like an image and are not base64 to the end.
    """

    response: httpx.Response
    files: Mapping[str, Path]
    damaged: Mapping[str, str]
    directory: Path

    def is_image(self, address: str) -> bool:
        """Return whether an address is the image itself: a marker, or a ``data:`` URL."""
        return address in self.files or address in self.damaged or address[: len(_SCHEME)].lower() == _SCHEME

    def file_of(self, text: str) -> tuple[Path | None, str | None]:
        """Return the file of a marker, or of base64 that stayed in the document, or what is wrong with it."""
        if text in self.files or text in self.damaged:
            return self.files.get(text), self.damaged.get(text)
        data = text.encode(errors="replace")
        data_url = _DATA_URL.match(data)
        image = _ImageFile(self.directory / secrets.token_hex(16), MAX_IMAGE_BYTES)
        image.write(data[data_url.end() if data_url else 0 :])
        image.finish()
        return (None if image.damage else image.path), image.damage


def encoding_of(response: httpx.Response) -> str:
    """Return the charset of a response, as far as it is one of those of texts, else UTF-8."""
    try:
        name = codecs.lookup(response.charset_encoding or "").name
    except (LookupError, ValueError):
        return "utf-8"
    return name if name in _CHARSETS else "utf-8"


_Place = Enum("_Place", "START VERBATIM BETWEEN HEAD TEXT IMAGE")
"""Where in a body the extractor is: before its first character; in one that holds no JSON; between two strings; in the
first bytes of a string, when it may be an image; in a long string that stays, or that is decoded."""


class Base64Extractor:
    """Splits JSON text or events of it, fed in pieces, into a small document and decoded images; judges no grammar.

    Every string longer than :data:`INLINE_BYTES` that starts like an image in base64 (either alphabet, padded
    or not, line breaks and JSON escapes allowed, also as a ``data:`` URL) is decoded into a file and replaced by
    a marker that nobody outside can guess. Everything else is copied byte for byte, and so is a body that is
    neither. A string that was not fed to its end leaves no file, and a document that is not JSON.
    """

    def __init__(
        self, directory: Path, *, max_image_bytes: int = MAX_IMAGE_BYTES, max_skeleton_bytes: int = MAX_SKELETON_BYTES
    ) -> None:
        self.files: dict[str, Path] = {}
        self.damaged: dict[str, str] = {}
        self._directory = directory
        self._max_image_bytes = max_image_bytes
        self._max_skeleton_bytes = max_skeleton_bytes
        # In every marker: a response that names a file of its own choice must lead nowhere.
        self._nonce = secrets.token_hex(16)
        self._skeleton = bytearray()
        self._place = _Place.START
        self._head = bytearray()
        self._held = b""
        self._image: _ImageFile | None = None

    @property
    def skeleton(self) -> bytes:
        """The document so far."""
        return bytes(self._skeleton)

    def skeleton_from(self, start: int) -> bytes:
        """Return what the document has from a position on."""
        return bytes(self._skeleton[start:])

    @property
    def _images(self) -> int:
        return len(self.files) + len(self.damaged)

    def copy(self, piece: bytes) -> None:
        """Take what is known to be no image."""
        if len(self._skeleton) + len(piece) > self._max_skeleton_bytes:
            raise ResponseTooLarge(f"the response holds more than {self._max_skeleton_bytes} bytes beside its images")
        self._skeleton += piece

    def feed(self, data: bytes) -> None:
        """Take a further piece of the body, cut anywhere."""
        data = self._held + data
        self._held = b""
        position = 0
        while position < len(data):
            match self._place:
                case _Place.START:
                    position = self._find_start(data, position)
                case _Place.VERBATIM:
                    self.copy(data)
                    position = len(data)
                case _Place.BETWEEN:
                    position = self._copy_to_quote(data, position)
                case _:
                    position = self._take_string(data, position)

    def close(self) -> None:
        """End the body, and with it a string that is still open."""
        if self._image is not None:
            self._image.discard()
            self._image = None
        else:
            self._skeleton += self._head + self._held
        self._head, self._held, self._place = bytearray(), b"", _Place.VERBATIM

    def _find_start(self, data: bytes, position: int) -> int:
        first = data[position:].lstrip(_BEFORE_JSON)[:1]
        if first:
            self._place = _Place.BETWEEN if first in _FIRST_CHARACTERS else _Place.VERBATIM
            return position
        self.copy(data[position:])
        return len(data)

    def _copy_to_quote(self, data: bytes, position: int) -> int:
        quote = data.find(b'"', position)
        end = len(data) if quote < 0 else quote + 1
        self.copy(data[position:end])
        if quote >= 0:
            self._place = _Place.HEAD
        return end

    def _take_string(self, data: bytes, position: int) -> int:
        quote = _closing_quote(data, position)
        end = quote if quote >= 0 else _end_of_characters(data, position)
        self._take(data[position:end])
        if quote < 0:
            self._held = data[end:]
            return len(data)
        self._end_string()
        return quote + 1

    def _take(self, piece: bytes) -> None:
        if self._image is not None:
            self._image.write(_unescaped(piece))
        elif self._place is _Place.TEXT:
            self.copy(piece)
        else:
            self._head += piece
            if len(self._head) > INLINE_BYTES:
                self._decide()

    def _decide(self) -> None:
        head = bytes(self._head)
        self._head.clear()
        # Always of the same length, so that where the network cuts the body decides nothing.
        first = head[:INLINE_BYTES]
        start = _start_of_base64(_unescaped(first[: _end_of_characters(first, 0)]))
        if start is None:
            self._place = _Place.TEXT
            self.copy(head)
            return
        self._place = _Place.IMAGE
        self._image = _ImageFile(self._directory / f"{self._nonce}-{self._images}", self._max_image_bytes)
        if self._images >= MAX_IMAGES:
            # Not refused: the first ones are paid for. Of the others no byte is kept.
            self._image.damage = f"the response holds more than {MAX_IMAGES} images"
        self._image.write(_unescaped(head)[start:])

    def _end_string(self) -> None:
        if self._image is not None:
            marker = f"imagegen-file:{self._nonce}:{self._images}"
            self._image.finish()
            if self._image.damage is None:
                self.files[marker] = self._image.path
            else:
                # Not dropped: an image that was paid for is missing, and whoever lands it must say so.
                self.damaged[marker] = self._image.damage
            self._image = None
            self.copy(marker.encode())
        self.copy(bytes(self._head) + b'"')
        self._head.clear()
        self._place = _Place.BETWEEN


class _ImageFile:
    """One image on its way from base64 to a file."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.damage: str | None = None
        self._limit = limit
        self._file = path.open("xb")
        self._rest = b""
        self._read = 0
        self._written = 0

    def write(self, text: bytes) -> None:
        """Decode a further piece of base64; once something else came, only count."""
        self._read += len(text)
        if self.damage is None:
            self._decode(text)
        # Line breaks and garbage write nothing, so what is read has a limit too.
        if self._read > 2 * self._limit + INLINE_BYTES:
            raise self._too_large()

    def finish(self) -> None:
        """Decode what is left, whether padded or not; a damaged image leaves no file."""
        if self.damage is None:
            letters = self._rest.rstrip(b"=")
            self._rest = b""
            self._put(letters + b"=" * (-len(letters) % 4))
        self._file.close()
        if self.damage is not None:
            self.path.unlink()

    def discard(self) -> None:
        """Leave no file."""
        try:
            self._file.close()
        finally:
            self.path.unlink(missing_ok=True)

    def _decode(self, text: bytes) -> None:
        text = self._rest + text.translate(_STANDARD_ALPHABET, _LINE_BREAKS)
        padding = text.find(b"=")
        letters = len(text) if padding < 0 else padding
        whole = letters - letters % 4
        self._rest = text[whole:]
        self._put(text[:whole])
        if not _END_OF_BASE64.fullmatch(self._rest):
            self._spoil()

    def _put(self, quartets: bytes) -> None:
        try:
            self._written += self._file.write(binascii.a2b_base64(quartets, strict_mode=True))
        except binascii.Error:
            self._spoil()
        if self._written > self._limit:
            raise self._too_large()

    def _too_large(self) -> ResponseTooLarge:
        return ResponseTooLarge(f"the response holds an image of more than {self._limit} bytes")

    def _spoil(self) -> None:
        self._rest = b""
        self.damage = "the image in the response is not base64 to its end"


def _start_of_base64(text: bytes) -> int | None:
    """Return where the base64 of an image starts in the first bytes of a string, or ``None`` if there is none."""
    data_url = _DATA_URL.match(text)
    start = data_url.end() if data_url else 0
    letters = text[start:].translate(_STANDARD_ALPHABET, _LINE_BREAKS)
    return start if letters.startswith(_SIGNATURES) and _LETTERS.fullmatch(letters) else None


def _closing_quote(data: bytes, start: int) -> int:
    """Return the position of the quote that ends the string, or -1; ``start`` is not inside an escape."""
    quote = data.find(b'"', start)
    while quote >= 0 and _is_escaped(data, quote, start):
        quote = data.find(b'"', quote + 1)
    return quote


def _end_of_characters(data: bytes, start: int) -> int:
    """Return where to cut ``data`` so that no escape is torn."""
    last = data.rfind(b"\\", max(start, len(data) - 5))
    if last < 0 or _is_escaped(data, last, start):
        return len(data)
    length = 6 if data[last + 1 : last + 2] == b"u" else 2
    return last if len(data) - last < length else len(data)


def _is_escaped(data: bytes, position: int, start: int) -> bool:
    before = position
    while before > start and data[before - 1] == _BACKSLASH:
        before -= 1
    return (position - before) % 2 == 1


def _unescaped(raw: bytes) -> bytes:
    """Resolve the escapes that base64 can hold; any other keeps its backslash, which is not base64."""
    if b"\\" not in raw or b"\\\\" in raw:
        return raw
    for escape, letter in _SHORT_ESCAPES.items():
        raw = raw.replace(escape, letter)
    return _UNICODE_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)
