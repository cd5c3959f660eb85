"""One overview image of many images."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

_CELL = 480
_CAPTION = 28
_GAP = 16
_PAPER = "#f4f1ea"
_INK = "#33302a"


def draw_contact_sheet(images: Sequence[Path], sheet: Path) -> None:
    """
    Draw small versions of images side by side, each with its name and size below it.

    :param images: files to show, at least one
    :param sheet: PNG file to write
    """
    columns = min(4, ceil(len(images) ** 0.5))
    small = [_shrink(path) for path in images]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    heights = [max(image.height for image, _ in row) + _CAPTION for row in rows]
    paper = Image.new("RGB", (_GAP + columns * (_CELL + _GAP), _GAP + sum(heights) + len(rows) * _GAP), _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (image, caption) in enumerate(row):
            _paste(paper, image, caption, (_GAP + column * (_CELL + _GAP), top))
        top += height + _GAP
    paper.save(sheet)


def _shrink(path: Path) -> tuple[Image.Image, str]:
    """Make the small version of an image, and its caption."""
    with Image.open(path) as image:
        caption = f"{path.name}   {image.width} x {image.height}"
        return ImageOps.contain(image.convert("RGB"), (_CELL, _CELL)), caption


def _paste(paper: Image.Image, image: Image.Image, caption: str, corner: tuple[int, int]) -> None:
    left, top = corner
    paper.paste(image, (left + (_CELL - image.width) // 2, top))
    position = (left + (_CELL - image.width) // 2, top + image.height + 4)
    ImageDraw.Draw(paper).text(position, caption, fill=_INK, font=ImageFont.load_default(size=16))
