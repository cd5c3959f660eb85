"""What deployments may choose about the gallery: section ``imagegen`` of Airflow's configuration."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from airflow.configuration import conf

SECTION = "imagegen"
MEBIBYTE = 1024 * 1024


def is_enabled() -> bool:
    """Return whether this deployment has the gallery: ``[imagegen] gallery``."""
    return bool(conf.getboolean(SECTION, "gallery", fallback=True))


@dataclass(frozen=True)
class GallerySettings:
    """The gallery's configuration.

    :param aws_conn_id: Connection by which the API server reads the images.
    :param redirects: Whether browsers fetch images from S3 themselves.
    :param cache_directory: Where thumbnails are kept.
    :param cache_bytes: How many bytes of them.
    """

    aws_conn_id: str
    redirects: bool
    cache_directory: Path
    cache_bytes: int

    @classmethod
    def configured(cls) -> GallerySettings:
        """Read Airflow's configuration."""
        directory = conf.get(SECTION, "gallery_cache_directory", fallback="")
        return cls(
            aws_conn_id=conf.get(SECTION, "gallery_aws_conn_id", fallback="aws_default"),
            redirects=conf.getboolean(SECTION, "gallery_redirects", fallback=True),
            cache_directory=Path(directory) if directory else _own_temporary_directory(),
            cache_bytes=conf.getint(SECTION, "gallery_cache_megabytes", fallback=256) * MEBIBYTE,
        )


def _own_temporary_directory() -> Path:
    return Path(tempfile.gettempdir()) / f"airflow-imagegen-gallery-{os.getuid()}"
