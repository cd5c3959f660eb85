"""What came back is a picture, or is refused: decided by the bytes, never by a header or a name."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import IO

from PIL import Image, UnidentifiedImageError

from airflow_provider_imagegen.answer_body import MAX_IMAGE_BYTES
from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.redaction import redacted

MAX_BYTES = MAX_IMAGE_BYTES
"""Largest image that is fetched."""
MAX_PIXELS = 80_000_000
"""Largest image that is accepted; the largest known model makes 8 294 400 pixels."""
PIECE = 64 * 1024

_MEDIA_TYPES = {
    "PNG": ("image/png", "png"),
    "JPEG": ("image/jpeg", "jpg"),
    "WEBP": ("image/webp", "webp"),
    "GIF": ("image/gif", "gif"),
}


@dataclass(frozen=True)
class VerifiedFile:
    """An image in a temporary file, proven to be one.

    :param file: The open file, at its start.
    """

    file: IO[bytes]
    bytes: int
    sha256: str
    content_type: str
    extension: str
    width: int
    height: int


def decode_base64(text: str, file: IO[bytes]) -> None:
    """Decode base64 into a file, piece by piece.

    :raises NotAnImage: If the text is not base64, or decodes to more than :data:`MAX_BYTES`.
    """
    if len(text) // 4 * 3 > MAX_BYTES:
        raise NotAnImage(f"the answer holds more than {MAX_BYTES} bytes of base64")
    try:
        for start in range(0, len(text), PIECE):
            file.write(base64.b64decode(text[start : start + PIECE], validate=True))
    except (binascii.Error, ValueError) as error:
        raise NotAnImage(f"the answer's b64_json is not base64: {error}") from None


def verify(file: IO[bytes]) -> VerifiedFile:
    """Prove that a file holds one acceptable picture, by its bytes alone.

    Only the header is decoded, so a decompression bomb stays packed.

    :param file: The file; left at its start.
    :raises NotAnImage: If it is none, is cut off, or has too many pixels.
    """
    digest, size = _digest(file)
    _check_end(file)
    file.seek(0)
    try:
        with Image.open(file, formats=list(_MEDIA_TYPES)) as image:
            kind, (width, height) = image.format or "", image.size
            if width * height > MAX_PIXELS:
                raise NotAnImage(f"the picture has {width}x{height} pixels, more than {MAX_PIXELS}")
            image.verify()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        words = redacted(f"{type(error).__name__} {error}")
        raise NotAnImage(f"{size} bytes are not a whole png, jpeg, webp or gif picture: {words}") from None
    file.seek(0)
    content_type, extension = _MEDIA_TYPES[kind]
    return VerifiedFile(file, size, digest, content_type, extension, width, height)


def _check_end(file: IO[bytes]) -> None:
    """Refuse a JPEG or GIF that is cut off, which Pillow's own check does not notice.

    Some encoders pad their files, so the end mark may have a little behind it. In a JPEG's data the mark
    cannot occur by chance.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(-min(1024, file.seek(0, 2)), 2)
    tail = file.read()
    is_cut = (head.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in tail) or (
        head == b"GIF8" and not tail.rstrip(b"\0").endswith(b"\x3b")
    )
    if is_cut:
        raise NotAnImage("the picture is cut off: its end mark is missing")


def _digest(file: IO[bytes]) -> tuple[str, int]:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size
