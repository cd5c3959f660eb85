"""What is put into S3, and where: ``objects`` packs it, ``sending`` and ``multipart`` carry it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One object on its way.

    :param file: The content, seekable.
    :param bytes: Its length.
    :param sha256: Its SHA-256, in hexadecimal.
    :param arguments: boto3's arguments: bucket, key, and all that S3 is told about the object.
    """

    file: IO[bytes]
    bytes: int
    sha256: str
    arguments: Mapping[str, Any]


def base64_digest(hexadecimal: str) -> str:
    """Return a digest as S3's checksum headers spell it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
