"""The source images of an edit: counted, looked at, and distinguished from others."""

from __future__ import annotations

import hashlib
import io
import json

from PIL import Image, UnidentifiedImageError

from airflow_provider_imagegen.emulator.calls import Call, Refusal

MOST_SOURCES = 16
MOST_MASK_BYTES = 4 * 1024 * 1024
IMAGE_FIELDS = ("image", "image[]")
SOURCE_FIELDS = ("image", "images", "image_urls", "mask")


def count_sources(call: Call) -> int:
    """Return how many source images an edit has; uploads are looked at, URLs are not fetched.

    :raises Refusal: ``bad_request`` when there are none, too many, or an upload is no image
    """
    uploads = [data for name, data in call.uploads if name in IMAGE_FIELDS]
    count = len(uploads) + _count_links(call)
    if not 1 <= count <= MOST_SOURCES:
        raise Refusal("bad_request", f"an edit takes 1 to {MOST_SOURCES} images", param="image")
    sizes = [_open(data, "image").size for data in uploads]
    masks = [data for name, data in call.uploads if name == "mask"]
    if masks and sizes:
        _check_mask(masks[0], sizes[0])
    return count


def _count_links(call: Call) -> int:
    links = 0
    for name in ("image", "images"):
        value = call.body.get(name)
        links += len(value) if isinstance(value, list) else isinstance(value, str)
    return links


def _open(data: bytes, param: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise Refusal("bad_request", f"{param} is not an image", param=param) from error


def _check_mask(data: bytes, size: tuple[int, int]) -> None:
    mask = _open(data, "mask")
    if len(data) > MOST_MASK_BYTES:
        raise Refusal("bad_request", "mask is larger than 4 MB", param="mask")
    if mask.format != "PNG" or "A" not in mask.getbands():
        raise Refusal("bad_request", "mask is a PNG with an alpha channel", param="mask")
    if mask.size != size:
        raise Refusal("bad_request", "mask has the size of the image", param="mask")


def salt_of(call: Call) -> str:
    """Return a short text that differs when the source images differ; empty without any."""
    linked = {name: call.body[name] for name in SOURCE_FIELDS if name in call.body}
    if not call.uploads and not linked:
        return ""
    digest = hashlib.sha256(json.dumps(linked, sort_keys=True).encode())
    for name, data in call.uploads:
        digest.update(name.encode() + data)
    return digest.hexdigest()[:16]
