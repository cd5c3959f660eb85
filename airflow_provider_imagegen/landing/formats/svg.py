"""The outermost element of an SVG file and the size it states; read only if the caller accepts svg."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import IO

from airflow_provider_imagegen.landing.formats.parts import PIECE, BrokenImage
from airflow_provider_imagegen.landing.formats.xml import read_markup

MAX_SVG_BYTES = 8 * 1024 * 1024
DEFAULT_SIZE = (300.0, 150.0)
"""Pixels of an image that does not state its size (CSS 2, 10.3.2)."""
_ROOT = "http://www.w3.org/2000/svg svg"


def svg_size(file: IO[bytes]) -> tuple[int, int]:
    """Prove that a file is an SVG image, and return its width and height in CSS pixels.

    From ``width`` and ``height`` where both are pixels, else from ``viewBox``, else :data:`DEFAULT_SIZE`.
    """
    if file.seek(0, 2) > MAX_SVG_BYTES:
        raise BrokenImage(f"svg images may have {MAX_SVG_BYTES} bytes at most")
    file.seek(0)
    root: list[tuple[str, Mapping[str, str]]] = []

    def on_start(name: str, attributes: Mapping[str, str], _: int) -> None:
        if not root:
            root.append((name, attributes))

    # To its end, although the root comes first: only there a cut shows, and entities may be declared before it.
    read_markup(iter(lambda: file.read(PIECE), b""), on_start)
    name, attributes = root[0]
    if name != _ROOT:
        raise BrokenImage("its outermost element is not <svg> of the SVG namespace")
    width, height = _size(attributes)
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise BrokenImage(f"it is {width:g}x{height:g} pixels large")
    return max(1, round(width)), max(1, round(height))


def _size(attributes: Mapping[str, str]) -> tuple[float, float]:
    box = attributes.get("viewBox", "").replace(",", " ").split()
    for stated in ([attributes.get("width", ""), attributes.get("height", "")], box[2:]):
        try:
            # No regular expression: one that backtracks on a hostile attribute would hold up the whole process.
            width, height = (float(side.removesuffix("px")) for side in stated)
        except ValueError:
            continue
        return width, height
    return DEFAULT_SIZE
