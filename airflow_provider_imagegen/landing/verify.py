"""Proof that a file is an image: by its bytes, never by a header or a name, which a server takes from anybody."""

from __future__ import annotations

import hashlib
import io
from typing import IO

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.landing.formats import FORMATS
from airflow_provider_imagegen.landing.formats.parts import PIECE, BrokenImage
from airflow_provider_imagegen.landing.formats.svg import svg_size
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.tempfiles import SVG, VerifiedFile

MAX_PIXELS = 80_000_000
"""Largest image that is accepted; the largest known model makes 8 294 400 pixels."""


def verify(file: IO[bytes], svg: bool = False) -> VerifiedFile:
    """Prove by a file's bytes alone that it holds one whole, acceptable image; leave it at its start."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size = file.seek(0, io.SEEK_END)
    try:
        content_type, extension, (width, height) = _identify(file, svg)
    except BrokenImage as error:
        words = redacted(str(error))
        names = "png, jpeg, webp, gif or svg" if svg else "png, jpeg, webp or gif"
        raise NotAnImage(f"{size} bytes are not a whole {names} image: {words}") from None
    if not width * height:
        raise NotAnImage(f"the image has {width}x{height} pixels")
    # Whoever opens the image next decodes it: a bomb must not reach a bucket that others trust.
    if width * height > MAX_PIXELS:
        raise NotAnImage(f"the image has {width}x{height} pixels, more than {MAX_PIXELS}")
    file.seek(0)
    return VerifiedFile(file, size, digest, content_type, extension, width, height)


def _identify(file: IO[bytes], svg: bool) -> tuple[str, str, tuple[int, int]]:
    file.seek(0)
    head = file.read(PIECE)
    for image_format in FORMATS:
        if head.startswith(image_format.SIGNATURE):
            for _ in image_format.walk(file):
                pass
            return image_format.CONTENT_TYPE, image_format.EXTENSION, image_format.size(file)
    if svg:
        return SVG, "svg", svg_size(file)
    hint = "; it looks like svg, which is taken only where it is asked for" if b"<svg" in head else ""
    raise BrokenImage(f"it begins like none of them{hint}")
