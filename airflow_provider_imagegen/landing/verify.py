"""Proof that a file is an image: by its bytes, never by a header or a name, which a server takes from anybody."""

from __future__ import annotations

import hashlib
import io
from typing import IO

from airflow_provider_imagegen.exceptions import NotAnImage
from airflow_provider_imagegen.landing.formats import FORMATS
from airflow_provider_imagegen.landing.formats.jpeg import START_OF_SCAN
from airflow_provider_imagegen.landing.formats.parts import PIECE, BrokenImage
from airflow_provider_imagegen.landing.formats.svg import svg_size
from airflow_provider_imagegen.redaction import redacted
from airflow_provider_imagegen.storage.tempfiles import SVG, VerifiedFile

MAX_PIXELS = 80_000_000
"""Largest image that is accepted; the largest known model makes 8 294 400 pixels."""
MAX_SCANNED_PIXELS = 2_000_000_000
"""Pixels times scans of a JPEG: 25 scans of the largest image. Encoders write about ten."""


def verify(file: IO[bytes], svg: bool = False) -> VerifiedFile:
    """Prove by a file's bytes alone that it holds one whole, acceptable image; leave it at its start."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size = file.seek(0, io.SEEK_END)
    try:
        content_type, extension, (width, height), scans = _identify(file, svg)
    except BrokenImage as error:
        words = redacted(str(error))
        names = "png, jpeg, webp, gif or svg" if svg else "png, jpeg, webp or gif"
        raise NotAnImage(f"{size} bytes are not a whole {names} image: {words}") from None
    if not width * height:
        raise NotAnImage(f"the image has {width}x{height} pixels")
    # Whoever opens the image next decodes it: a bomb must not reach a bucket that others trust.
    if width * height > MAX_PIXELS:
        raise NotAnImage(f"the image has {width}x{height} pixels, more than {MAX_PIXELS}")
    # A decoder goes through all pixels for every scan: 200 kB with hundreds of scans keep it busy for minutes. Refused
    # although paid for: no known encoder writes half as many.
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise NotAnImage(f"the image has {scans} scans of {width}x{height} pixels, too many to be decoded")
    file.seek(0)
    return VerifiedFile(file, size, digest, content_type, extension, width, height)


def _identify(file: IO[bytes], svg: bool) -> tuple[str, str, tuple[int, int], int]:
    """Return media type, extension, size and number of JPEG scans."""
    file.seek(0)
    head = file.read(PIECE)
    for image_format in FORMATS:
        if head.startswith(image_format.SIGNATURE):
            scans = sum(part.kind == START_OF_SCAN for part in image_format.walk(file))
            return image_format.CONTENT_TYPE, image_format.EXTENSION, image_format.size(file), scans
    if svg:
        return SVG, "svg", svg_size(file), 0
    hint = "; it looks like svg, which is taken only where it is asked for" if b"<svg" in head else ""
    raise BrokenImage(f"it begins like none of them{hint}")
