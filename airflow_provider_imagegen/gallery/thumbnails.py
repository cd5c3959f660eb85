"""Small versions of images, kept on the API server's disk within bounds. Blocking.

They are keyed by the SHA-256 of the image, so all runs and users share them; who may see one is decided elsewhere.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock

from airflow_provider_imagegen.gallery.shrinking import SIDE

log = logging.getLogger(__name__)

MEDIA_TYPE = "image/webp"
MAX_BYTES = 64 * 1024 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SWEPT_TO = 0.8
_SWEEP_EVERY = 0.05


class ThumbnailCache:
    """Files in a directory that is the server's own.

    :param directory: Where; made if it is not there, and not used if others can write there.
    :param max_bytes: How many bytes; what was used longest ago goes first.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        if not _is_own(directory):
            self._directory = Path(tempfile.mkdtemp(prefix="imagegen-gallery-"))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._max_bytes = max_bytes
        self._since_sweep = max_bytes
        self._lock = Lock()

    def get(self, sha256: str) -> bytes | None:
        """Return the thumbnail of an image; ``None`` if there is none."""
        path = self._path(sha256)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return content

    def put(self, sha256: str, content: bytes) -> None:
        """Keep a thumbnail, if the disk takes it."""
        path = self._path(sha256)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_at_once(path, content)
        except OSError as error:
            log.warning("Cannot write a thumbnail to %s: %s", self._directory, error)
            return
        self._account(len(content))

    def _account(self, size: int) -> None:
        with self._lock:
            self._since_sweep += size
            if self._since_sweep < self._max_bytes * _SWEEP_EVERY:
                return
            self._since_sweep = 0
        self.sweep()

    def sweep(self) -> None:
        """Delete what was used longest ago, if there is too much."""
        files = sorted(_files(self._directory))
        total = sum(size for _, size, _ in files)
        if total <= self._max_bytes:
            return
        for _, size, path in files:
            with suppress(OSError):
                path.unlink()
            total -= size
            if total <= self._max_bytes * _SWEPT_TO:
                return

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256")
        return self._directory / sha256[:2] / f"{sha256}-{SIDE}.webp"


def _write_at_once(path: Path, content: bytes) -> None:
    """Write a file that is never seen half."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def _files(directory: Path) -> list[tuple[float, int, Path]]:
    """Return time of last use, size and path of every file; other servers may be deleting them."""
    found = []
    for path in directory.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            if path.is_file() and not path.is_symlink():
                found.append((status.st_mtime, status.st_size, path))
    return found


def _is_own(directory: Path) -> bool:
    """Return whether a directory is there, or can be, in which nobody else can write."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        log.warning("Cannot use %s for thumbnails: %s", directory, error)
        return False
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return True
    log.warning("Cannot use %s for thumbnails: other users can write to it.", directory)
    return False
