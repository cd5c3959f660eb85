"""What came back is an image, or is refused: decided by the bytes, never by a header or a name."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from PIL import Image, UnidentifiedImageError

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.landing.formats import gif, jpeg, png, webp
from airflow_provider_imagegen.landing.formats.parts import PIECE, BrokenImage, Part
from airflow_provider_imagegen.landing.formats.svg import svg_size
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.tempfiles import MAX_IMAGE_BYTES, SVG, VerifiedFile

MAX_PIXELS = 80_000_000
"""Largest image that is accepted; the largest known model makes 8 294 400 pixels."""

__all__ = ["MAX_PIXELS", "PIECE", "decode_base64", "verify"]


def decode_base64(text: str, file: IO[bytes]) -> None:
    """Decode base64 into a file, piece by piece.

    :raises NotAnImage: If the text is not base64, or decodes to more than :data:`MAX_IMAGE_BYTES`.
    """
    if len(text) // 4 * 3 > MAX_IMAGE_BYTES:
        raise NotAnImage(f"the response holds more than {MAX_IMAGE_BYTES} bytes of base64")
    try:
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            if piece.endswith("=") and start + PIECE < len(text):
                raise binascii.Error("data after padding")
            file.write(base64.b64decode(piece, validate=True))
    except ValueError as error:
        raise NotAnImage(f"the response's b64_json is not base64: {error}") from None


def verify(file: IO[bytes], svg: bool = False) -> VerifiedFile:
    """Prove that a file holds one acceptable image, by its bytes alone.

    Every part of the file is walked through, which notices any that is missing; only the header is decoded, so a
    decompression bomb stays packed.

    :param file: The file; left at its start.
    :param svg: Whether vector images are acceptable too.
    :raises NotAnImage: If it is none, is cut off, has no pixels or too many.
    :raises OSError: If the file cannot be read.
    """
    digest, size = _digest(file)
    try:
        content_type, extension, (width, height) = _identify(file, svg)
    except BrokenImage as error:
        words = redacted(str(error))
        names = "png, jpeg, webp, gif or svg" if svg else "png, jpeg, webp or gif"
        raise NotAnImage(f"{size} bytes are not a whole {names} image: {words}") from None
    if width * height > MAX_PIXELS:
        raise NotAnImage(f"the image has {width}x{height} pixels, more than {MAX_PIXELS}")
    file.seek(0)
    return VerifiedFile(file, size, digest, content_type, extension, width, height)


def _identify(file: IO[bytes], svg: bool) -> tuple[str, str, tuple[int, int]]:
    file.seek(0)
    head = file.read(PIECE)
    for kind in _RASTERS:
        if head.startswith(kind.signature):
            for _ in kind.parts(file):
                pass
            return kind.content_type, kind.extension, kind.size(file)
    if svg:
        return SVG, "svg", svg_size(file)
    hint = "; it looks like svg, which is taken only where it is asked for" if b"<svg" in head else ""
    raise BrokenImage(f"it begins like none of them{hint}")


def _size_by_pillow(name: str, header: bytes) -> tuple[int, int]:
    """Let Pillow read a header; no other part of the file can trouble it, however damaged or hostile."""
    try:
        with Image.open(io.BytesIO(header), formats=[name]) as image:
            return image.size
    except _PILLOW_ERRORS as error:
        raise BrokenImage(f"{type(error).__name__} {error}") from None


def _size_of_webp(file: IO[bytes]) -> tuple[int, int]:
    # Pillow reads the whole file and sets up a decoder for all pixels only to tell their number.
    canvas = webp.canvas(file)
    return canvas.width, canvas.height


# What Pillow raises on damaged headers, as fuzzing found it (tests/fuzz).
_PILLOW_ERRORS = (
    UnidentifiedImageError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class _Raster:
    signature: bytes
    content_type: str
    extension: str
    parts: Callable[[IO[bytes]], Iterator[Part]]
    size: Callable[[IO[bytes]], tuple[int, int]]


_RASTERS = (
    _Raster(png.SIGNATURE, "image/png", "png", png.parts, lambda file: _size_by_pillow("PNG", png.header(file))),
    _Raster(jpeg.SIGNATURE, "image/jpeg", "jpg", jpeg.parts, lambda file: _size_by_pillow("JPEG", jpeg.header(file))),
    _Raster(webp.SIGNATURE, "image/webp", "webp", webp.parts, _size_of_webp),
    _Raster(gif.SIGNATURE, "image/gif", "gif", gif.parts, lambda file: _size_by_pillow("GIF", gif.header(file))),
)


def _digest(file: IO[bytes]) -> tuple[str, int]:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size
