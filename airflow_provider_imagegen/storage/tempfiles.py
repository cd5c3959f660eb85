"""Images in temporary files, and the disk they are on: what its faults mean, and whether there is space for one."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from airflow_provider_imagegen.exceptions import Billed, TempFileFailed

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Largest image that is read from a response, fetched, or stored."""
SVG = "image/svg+xml"

# Disk full, over quota, over the limit of a file, broken, read-only, no such directory, out of files. Any other
# OSError is a fault of ours or of the network, and must not be reported as one of the disk.
_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENOENT, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True)
class VerifiedFile:
    """An image in a temporary file, proven to be one."""

    file: IO[bytes]
    bytes: int
    sha256: str
    content_type: str
    extension: str
    width: int
    height: int


@contextmanager
def temp_file_errors(billed: Billed = "yes") -> Iterator[None]:
    """Tell a disk that is full or broken from everything else that can go wrong in the block."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAULTS:
            raise
        words = f"the image could not be kept in {tempfile.gettempdir()}: {error.strerror}"
        raise TempFileFailed(words, billed=billed) from None


def check_disk_space(needed: int) -> None:
    """Refuse to go on without space for an image that nobody would keep for us."""
    with temp_file_errors(billed="no"):
        free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < needed:
        words = f"{tempfile.gettempdir()} has {free} bytes to spare, and an image may need {needed}"
        raise TempFileFailed(words, billed="no", advice="Free space there or point TMPDIR elsewhere; nothing was sent.")
