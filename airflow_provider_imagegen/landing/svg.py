"""Vector images (SVG): proven to be one and measured, without drawing anything.

``images`` asks, and only if the caller wants vector images: they can hold scripts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import IO

from airflow_provider_imagegen.landing.formats.parts import PIECE
from airflow_provider_imagegen.landing.formats.xml import BadMarkup, read_markup

MAX_SVG_BYTES = 8 * 1024 * 1024
"""Largest vector image that is read."""
MAX_LENGTH_TEXT = 200
"""Characters of an attribute that says a size."""
DEFAULT_SIZE = (300.0, 150.0)
"""Pixels of an image that does not say its size (CSS 2, 10.3.2)."""
_ROOT = "http://www.w3.org/2000/svg svg"
# Without two ways to read the same digits: a pattern that backtracks holds up the whole process.
_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_LENGTH = re.compile(rf"\s*({_NUMBER})(px|pt|pc|mm|cm|in|q)?\s*", re.IGNORECASE)
_VIEW_BOX = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*|\s+){_NUMBER}(?:\s*,\s*|\s+)({_NUMBER})(?:\s*,\s*|\s+)({_NUMBER})\s*")
_PIXELS = {"px": 1.0, "pt": 96 / 72, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "q": 96 / 101.6}


def svg_size(file: IO[bytes]) -> tuple[int, int]:
    """Prove that a file is an SVG image, and return its width and height in CSS pixels.

    From ``width`` and ``height``; where one is missing or relative, from the proportions of ``viewBox``; where that
    is missing too, :data:`DEFAULT_SIZE`, which is what a browser takes.

    :raises BadMarkup: If it is none, is cut off, declares entities, is too large, or has no area.
    """
    if file.seek(0, 2) > MAX_SVG_BYTES:
        raise BadMarkup(f"vector images may have {MAX_SVG_BYTES} bytes at most")
    file.seek(0)
    root: list[tuple[str, Mapping[str, str]]] = []

    def on_start(name: str, attributes: Mapping[str, str], _: int) -> None:
        if not root:
            root.append((name, attributes))

    read_markup(_pieces(file), on_start)
    name, attributes = root[0]
    if name != _ROOT:
        raise BadMarkup("its outermost element is not <svg> of the SVG namespace")
    if any(len(attributes.get(side, "")) > MAX_LENGTH_TEXT for side in ("width", "height", "viewBox")):
        raise BadMarkup("its size is said in too many words")
    return _whole_pixels(*_sides(attributes))


def _sides(attributes: Mapping[str, str]) -> tuple[float, float]:
    width, height = (_pixels(attributes.get(side, "")) for side in ("width", "height"))
    if width is not None and height is not None:
        return width, height
    box = _VIEW_BOX.fullmatch(attributes.get("viewBox", ""))
    sides = (float(box[1]), float(box[2])) if box else DEFAULT_SIZE
    if 0 in sides:
        return sides
    if width is not None:
        return width, width * sides[1] / sides[0] if box else sides[1]
    if height is not None:
        return height * sides[0] / sides[1] if box else sides[0], height
    return sides


def _pixels(length: str) -> float | None:
    """Return an absolute length in pixels; ``None`` for those that depend on where the image is shown."""
    found = _LENGTH.fullmatch(length)
    return float(found[1]) * _PIXELS[(found[2] or "px").lower()] if found else None


def _whole_pixels(width: float, height: float) -> tuple[int, int]:
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise BadMarkup(f"it is {width:g}x{height:g} pixels large")
    return max(1, round(width)), max(1, round(height))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
