"""Draws one image: the same bytes for the same words, size and format, whoever asks and when.

Called by the gallery in its threads; pure, slow (tenths of a second), no I/O.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import struct
import zlib
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFilter

from airflow_provider_imagegen.emulator.canvas import Canvas
from airflow_provider_imagegen.emulator.caption import write_caption
from airflow_provider_imagegen.emulator.palettes import PALETTES
from airflow_provider_imagegen.emulator.scenes import SCENES

LONGEST_WORKING_EDGE = 1024
CONTENT_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True)
class Drawing:
    """What to draw: this alone decides every byte.

    :param number: tells apart the images of one request
    :param salt: tells apart edits of different source images
    :param transparent: the scene stands in a rounded window, clear around it (png and webp)
    :param compression: 0 to 100, for jpeg and webp
    :param draft: 1.0 and more is a blurred preview, 0 the finished image
    :param weight: when set, a noise PNG of exactly this many bytes instead of a scene
    """

    prompt: str
    size: tuple[int, int] = (1024, 1024)
    format: str = "png"
    number: int = 0
    salt: str = ""
    transparent: bool = False
    compression: int = 90
    draft: float = 0.0
    weight: int | None = None

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.size[1]

    def series(self, count: int) -> tuple[Drawing, ...]:
        """Return this image and its variations, numbered from 0."""
        return tuple(replace(self, number=number) for number in range(count))

    @property
    def content_type(self) -> str:
        """The media type of its bytes."""
        return CONTENT_TYPES["png" if self.weight is not None else self.format]

    @property
    def essence(self) -> Drawing:
        """The image without what makes no difference: all noise of one weight is the same."""
        return self if self.weight is None else Drawing("", weight=self.weight)


def paint(drawing: Drawing) -> bytes:
    """Draw an image and return its encoded bytes."""
    if drawing.weight is not None:
        return noise_png(drawing.weight)
    digest = hashlib.sha256(f"{drawing.number}\n{drawing.salt}\n{drawing.prompt}".encode()).digest()
    dice = random.Random(int.from_bytes(digest[:8]))
    work = _working_size(drawing)
    canvas = Canvas(
        image=Image.new("RGB", (work[0] * 2, work[1] * 2)),
        palette=PALETTES[digest[8] % len(PALETTES)],
        dice=dice,
    )
    SCENES[digest[9] % len(SCENES)](canvas)
    size = drawing.size
    image = canvas.image.resize(size, Image.Resampling.BOX if work == size else Image.Resampling.LANCZOS)
    if drawing.draft:
        image = image.filter(ImageFilter.GaussianBlur(min(size) / 100 * drawing.draft))
    else:
        write_caption(image, drawing.prompt)
    return _encode(_windowed(image) if drawing.transparent else image, drawing)


def _working_size(drawing: Drawing) -> tuple[int, int]:
    """Keep the effort of a 4K image that of a 1K one: beyond that, the drawing is scaled up."""
    share = min(1.0, LONGEST_WORKING_EDGE / max(drawing.width, drawing.height))
    return max(1, round(drawing.width * share)), max(1, round(drawing.height * share))


def _windowed(image: Image.Image) -> Image.Image:
    """Clear everything outside a rounded window."""
    edge = min(image.size)
    mask = Image.new("L", image.size, 0)
    inset = edge * 0.04
    box = (inset, inset, image.width - inset, image.height - inset)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=edge * 0.16, fill=255)
    image = image.convert("RGBA")
    image.putalpha(mask.filter(ImageFilter.GaussianBlur(edge / 512)))
    return image


def _encode(image: Image.Image, drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    if drawing.format == "png":
        image.save(buffer, "PNG", compress_level=4)
    elif drawing.format == "webp":
        image.save(buffer, "WEBP", quality=drawing.compression, method=2)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=max(1, min(95, drawing.compression)))
    return buffer.getvalue()


def noise_png(weight: int) -> bytes:
    """Return a valid PNG of noise that is exactly ``weight`` bytes long.

    :param weight: bytes, at least 200
    :raises ValueError: when no PNG can be that small
    """
    edge = max(1, int(((weight - 200) / 3.01) ** 0.5)) if weight >= 200 else 1
    buffer = io.BytesIO()
    Image.frombytes("RGB", (edge, edge), os.urandom(edge * edge * 3)).save(buffer, "PNG", compress_level=0)
    plain = buffer.getvalue()
    padding = weight - len(plain) - 12
    if padding < 0:
        raise ValueError(f"no PNG of {weight} bytes: give at least 200")
    end = plain.rindex(b"IEND") - 4
    return plain[:end] + png_chunk(b"fiLl", bytes(padding)) + plain[end:]


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file: length, name, data, checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
