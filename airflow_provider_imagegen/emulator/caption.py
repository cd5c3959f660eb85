"""Writes the prompt on an image: wrapped, on a soft dark band at the foot."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

MOST_LINES = 4


def write_caption(image: Image.Image, text: str) -> None:
    """Write a text over the lower part of an image, cut with an ellipsis where it is too long.

    :param image: drawn on in place, mode RGB
    :param text: any text; what the embedded font has no letters for is left out
    """
    size = max(11, round(min(image.size) * 0.036))
    font = ImageFont.load_default(size)
    margin = round(size * 1.6)
    lines = _wrap(_legible(text, font), font, image.width - 2 * margin)
    pitch = round(size * 1.4)
    top = image.height - margin - pitch * len(lines)
    _darken(image, max(0, top - round(size * 3.2)))
    pen = ImageDraw.Draw(image)
    shade = max(1, size // 16)
    for number, line in enumerate(lines):
        place = (margin, top + number * pitch)
        pen.text((place[0] + shade, place[1] + shade), line, font=font, fill=(0, 0, 0))
        pen.text(place, line, font=font, fill=(255, 255, 255))


def _darken(image: Image.Image, top: int) -> None:
    """Fade the foot of an image towards black, so that white letters stand out on any colour."""
    band = (image.width, image.height - top)
    ramp = Image.linear_gradient("L").resize(band, Image.Resampling.BILINEAR)
    mask = ramp.point([min(170, round(level * 1.05)) for level in range(256)])
    image.paste((8, 10, 20), (0, top), mask)


def _legible(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Drop the characters that the embedded font would show as empty boxes."""
    missing = bytes(font.getmask("\uffff"))
    known = {char: char.isspace() or char.isascii() or bytes(font.getmask(char)) != missing for char in set(text)}
    readable = sum(known[char] for char in text)
    if readable * 2 < len(text):
        return f"({len(text)} characters)"
    return " ".join("".join(char if known[char] else " " for char in text).split())


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text into at most four lines no wider than ``width`` pixels."""
    lines: list[str] = []
    line = ""
    for word in text[:600].split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width or not line:
            line = longer
            continue
        lines.append(line)
        line = word
    lines.append(line)
    lines = [_clip(each, font, width) for each in lines]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], _clip(lines[MOST_LINES - 1] + " …", font, width)]
    return lines


def _clip(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Shorten one line until it fits."""
    if font.getlength(line) <= width:
        return line
    line = line.removesuffix("…").rstrip()
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
