"""Images to edit and their masks: read from where the user has them, checked before anything is paid."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from airflow_provider_imagegen.exceptions import InvalidRequest
from airflow_provider_imagegen.redaction import is_utf8
from airflow_provider_imagegen.schemas import EditRequest, ImageSource
from airflow_provider_imagegen.schemas.requests import UTF8
from airflow_provider_imagegen.storage.destination import split_uri

MAX_SOURCE_BYTES = 50 * 1024 * 1024
MAX_MASK_BYTES = 4 * 1024 * 1024
MAX_DALL_E_2_BYTES = 4 * 1024 * 1024

ReadObject = Callable[[str, str], bytes]
"""Reads an S3 object: bucket, key, and gives its bytes."""

_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_WITH_ALPHA = frozenset({"RGBA", "LA", "PA"})


def read_sources(
    given: Sequence[str | bytes], field: str, bucket: str | None, read_object: ReadObject
) -> tuple[ImageSource, ...]:
    """Turn addresses, S3 keys and bytes into image sources; https addresses stay, all else becomes bytes."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InvalidRequest(field, type(given).__name__, "a list of addresses, S3 keys or bytes")
    return tuple(_read_source(entry, field, bucket, read_object) for entry in given)


def name_sources(given: Sequence[str], bucket: str) -> tuple[ImageSource, ...]:
    """Turn addresses and S3 keys into image sources by address alone, nothing of which is read."""
    for entry in given:
        _check_utf8(entry, "images")
    return tuple(ImageSource(url=entry if "://" in entry else f"s3://{bucket}/{entry}") for entry in given)


def _read_source(entry: str | bytes, field: str, bucket: str | None, read_object: ReadObject) -> ImageSource:
    if isinstance(entry, bytes):
        return _source_of(entry, field, "image")
    if not isinstance(entry, str) or not entry:
        raise InvalidRequest(field, entry, "addresses, S3 keys or bytes")
    _check_utf8(entry, field)
    if entry.startswith(("http://", "https://")):
        return ImageSource(url=entry)
    named, key = split_uri(entry)
    bucket = named or bucket
    if not bucket or not key or key.startswith("s3://"):
        raise InvalidRequest(field, entry, "an https:// address, s3://bucket/key, or a key in s3_bucket")
    return _source_of(read_object(bucket, key), field, PurePosixPath(key).stem)


def _check_utf8(entry: str, field: str) -> None:
    if not is_utf8(entry):
        raise InvalidRequest(field, entry, UTF8)


def _source_of(content: bytes, field: str, stem: str) -> ImageSource:
    if len(content) > MAX_SOURCE_BYTES:
        raise InvalidRequest(field, f"{len(content)} bytes", f"at most {MAX_SOURCE_BYTES} bytes an image")
    kind, _, _ = _header(content, field)
    return ImageSource(content=content, name=f"{stem}.{kind.lower()}", content_type=_MEDIA_TYPES[kind])


def check_sources(request: EditRequest) -> None:
    """Refuse images and masks that are known to be wrong, as far as their bytes are here.

    Source: the parameter list of OpenAI's ``images/edits`` page.
    """
    kinds = {source.content is None for source in request.sources}
    # Gateways take addresses as JSON and files as multipart: one request cannot carry both.
    if len(kinds) > 1:
        raise InvalidRequest("images", "addresses and files", "all addresses, or all S3 keys and bytes")
    if request.model == "dall-e-2":
        _check_dall_e_2(request)
    if request.mask is not None and request.mask.content is not None:
        _check_mask(request.mask.content, request.images[0].content or b"")


def _check_dall_e_2(request: EditRequest) -> None:
    if len(request.images) != 1:
        raise InvalidRequest("images", f"{len(request.images)} images", "one image with dall-e-2")
    content = request.images[0].content
    if content is None:
        return
    kind, (width, height), _ = _header(content, "images")
    if kind != "PNG" or width != height or len(content) > MAX_DALL_E_2_BYTES:
        raise InvalidRequest(
            "images", f"{kind} of {width}x{height}, {len(content)} bytes", "a square png of at most 4 MB with dall-e-2"
        )


def _check_mask(mask: bytes, image: bytes) -> None:
    kind, size, mode = _header(mask, "mask")
    if kind != "PNG" or mode not in _WITH_ALPHA:
        raise InvalidRequest("mask", f"{kind} with mode {mode}", "a png with an alpha channel")
    if len(mask) > MAX_MASK_BYTES:
        raise InvalidRequest("mask", f"{len(mask)} bytes", f"at most {MAX_MASK_BYTES} bytes")
    _, image_size, _ = _header(image, "images")
    if size != image_size:
        allowed = f"the first image's size, {image_size[0]}x{image_size[1]}"
        raise InvalidRequest("mask", f"{size[0]}x{size[1]}", allowed)


def _header(content: bytes, field: str) -> tuple[str, tuple[int, int], str]:
    """Return format, size and mode of an image, from its header alone."""
    # One format at a time: Pillow has other names for some files of a format, such as MPO for a jpeg with two images.
    for kind in _MEDIA_TYPES:
        try:
            # open() reads the header alone; the pixels of a stranger's file are never decoded here.
            with Image.open(io.BytesIO(content), formats=[kind]) as image:
                return kind, image.size, image.mode
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
            continue
    raise InvalidRequest(field, f"{len(content)} bytes", "a png, jpeg or webp image")
