"""The standard machine-readable mark of AI-made images, added to a file without touching a pixel.

The landing calls :func:`mark_as_ai_made` between verifying and putting. Each format's module knows where the mark
goes; what it says is in ``xmp``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import IO

from airflow_provider_imagegen.landing.formats import FORMATS
from airflow_provider_imagegen.landing.formats.parts import BrokenImage, ImageFormat, NotMarkable, Splice, copy
from airflow_provider_imagegen.landing.xmp import Packet, new_packet


class AiMark(StrEnum):
    """What became of the mark; goes into the manifest."""

    ADDED = "added"
    """The file now says that AI made it."""
    ALREADY_STATED = "already-stated"
    """The file said how it was made before, as the gateway wrote it; nothing was changed."""
    SIGNED_C2PA = "signed-c2pa"
    """The file has C2PA data, whose signature any change would break; nothing was changed."""
    UNSUPPORTED = "unsupported"
    """The format, or the way this file is laid out, takes no mark; nothing was changed."""


def mark_as_ai_made(source: IO[bytes], target: IO[bytes], content_type: str, model: str | None = None) -> AiMark:
    """Copy an image, adding IPTC's Digital Source Type ``trainedAlgorithmicMedia`` as XMP where it may be added.

    Pixels stay as they are encoded; nothing larger than an XMP packet is held in memory. The target holds the whole
    image afterwards: unless the mark is ``ADDED``, byte for byte that of the source. Both are left at their start.

    :param model: The model that made it, for the field ``xmp:CreatorTool``, if the file does not name a tool.
    """
    splices, outcome = _plan(source, content_type, model)
    copy(source, target, splices)
    source.seek(0)
    target.seek(0)
    return outcome


def _plan(source: IO[bytes], content_type: str, model: str | None) -> tuple[list[Splice], AiMark]:
    image_format = next((known for known in FORMATS if content_type == known.CONTENT_TYPE), None)
    if image_format is None:
        return [], AiMark.UNSUPPORTED
    try:
        return _plan_in(image_format, source, model)
    except (BrokenImage, NotMarkable):
        # An image without the mark is worth more than none: it is paid for.
        return [], AiMark.UNSUPPORTED


def _plan_in(image_format: ImageFormat, source: IO[bytes], model: str | None) -> tuple[list[Splice], AiMark]:
    found = image_format.survey(source)
    # A signature proves more than our mark states, and breaks with the first byte that is changed.
    if found.is_signed:
        return [], AiMark.SIGNED_C2PA
    if found.xmp is None:
        return image_format.splices(source, found, new_packet(model)), AiMark.ADDED
    packet = Packet(found.packet)
    if packet.is_signed:
        return [], AiMark.SIGNED_C2PA
    if packet.states_source:
        return [], AiMark.ALREADY_STATED
    return image_format.splices(source, found, packet.marked(model)), AiMark.ADDED
