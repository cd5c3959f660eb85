"""One overview picture of many, for people in a hurry."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

_CELL = 480
_CAPTION = 28
_GAP = 16
_PAPER = "#f4f1ea"
_INK = "#33302a"


def draw_contact_sheet(pictures: Sequence[Path], sheet: Path) -> None:
    """
    Draw small versions of pictures side by side, each with its name and size below it.

    :param pictures: files to show, at least one
    :param sheet: PNG file to write
    """
    columns = min(4, ceil(len(pictures) ** 0.5))
    small = [_shrink(path) for path in pictures]
    rows = [small[start : start + columns] for start in range(0, len(small), columns)]
    heights = [max(picture.height for picture, _ in row) + _CAPTION for row in rows]
    paper = Image.new("RGB", (_GAP + columns * (_CELL + _GAP), _GAP + sum(heights) + len(rows) * _GAP), _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (picture, caption) in enumerate(row):
            _paste(paper, picture, caption, (_GAP + column * (_CELL + _GAP), top))
        top += height + _GAP
    paper.save(sheet)


def _shrink(path: Path) -> tuple[Image.Image, str]:
    """Make the small version of a picture, and its caption."""
    with Image.open(path) as picture:
        caption = f"{path.name}   {picture.width} x {picture.height}"
        return ImageOps.contain(picture.convert("RGB"), (_CELL, _CELL)), caption


def _paste(paper: Image.Image, picture: Image.Image, caption: str, corner: tuple[int, int]) -> None:
    left, top = corner
    paper.paste(picture, (left + (_CELL - picture.width) // 2, top))
    position = (left + (_CELL - picture.width) // 2, top + picture.height + 4)
    ImageDraw.Draw(paper).text(position, caption, fill=_INK, font=ImageFont.load_default(size=16))
