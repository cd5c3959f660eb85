"""Small versions of images, made in a process of its own: ``python -m airflow_provider_imagegen.gallery.shrinking``.

The images come from strangers, and what decoders take of time and memory is decided by the image. So the process has
limits, which the kernel enforces, and knows no secrets; :class:`~airflow_provider_imagegen.gallery.decoder.Decoder`
starts it. It imports nothing of Airflow, so that this takes a tenth of a second.
"""

from __future__ import annotations

import io
import math
import resource
import struct
import sys
import time
from contextlib import suppress
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = 480
"""Pixels of the longer side: twice what a card has, for dense screens."""
MAX_PIXELS = 40_000_000
"""Largest image that is decoded, which takes four bytes for each; larger ones are shown by address only."""
HEADER = struct.Struct(">?Q")
"""What precedes every image on the way in and out: whether it is one (or a text, why it is none), and its bytes."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_UNDECODABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError, MemoryError)


class NoThumbnail(Exception):
    """The image is too large, or cannot be decoded."""


def shrunk(content: bytes) -> bytes:
    """Return an image's small version.

    :raises NoThumbnail: If there can be none.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NoThumbnail(f"the image has {image.width}x{image.height} pixels (limit: {MAX_PIXELS} pixels)")
            image.draft("RGB", (SIDE, SIDE))
            small = ImageOps.exif_transpose(image)
            small.thumbnail((SIDE, SIDE), reducing_gap=2.0)
            if small.mode not in {"RGB", "RGBA"}:
                small = small.convert("RGBA" if small.has_transparency_data else "RGB")
            file = io.BytesIO()
            small.save(file, "WEBP", quality=82, method=3, icc_profile=image.info.get("icc_profile"))
    except _UNDECODABLE as error:
        raise NoThumbnail(f"the image cannot be decoded: {type(error).__name__}") from error
    return file.getvalue()


def receive(file: IO[bytes]) -> tuple[bool, bytes]:
    """Read one image or text from a pipe.

    :raises EOFError: If the process at the other end is gone.
    """
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    is_image, size = HEADER.unpack(header)
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return is_image, content


def send(file: IO[bytes], is_image: bool, content: bytes) -> None:
    """Write one image or text to a pipe."""
    file.write(HEADER.pack(is_image, len(content)))
    file.write(content)
    file.flush()


def main(cpu_seconds: int, memory_bytes: int) -> None:
    """Shrink images from standard input until it ends.

    :param cpu_seconds: Time that one image may take.
    :param memory_bytes: Address space of the process.
    """
    # A process that the kernel ends for its CPU time would leave an image of its memory.
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory_bytes)
    with suppress(EOFError):
        while True:
            _, content = receive(sys.stdin.buffer)
            # CPU time, not that of a clock: on a busy machine an honest image takes long too.
            _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + cpu_seconds)
            try:
                send(sys.stdout.buffer, True, shrunk(content))
            except NoThumbnail as error:
                send(sys.stdout.buffer, False, str(error).encode())


def _limit(kind: int, soft: int) -> None:
    # Not every system knows every limit.
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
