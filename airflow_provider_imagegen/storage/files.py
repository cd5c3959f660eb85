"""A verified image in a temporary file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO

MAX_IMAGE_BYTES = 64 * 1024 * 1024
"""Largest image that is read from a response, fetched, or stored."""
SVG = "image/svg+xml"


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

    @property
    def content_disposition(self) -> str | None:
        """How the object is to be served: vector images can hold scripts, so a browser must not open them."""
        return "attachment" if self.content_type == SVG else None
