"""What the scenes paint with: gradients, glows, discs and stars on an image, in the colours of a palette."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from airflow_provider_imagegen.emulator.palettes import Colour, Palette, blend

Point = tuple[float, float]


@dataclass
class Canvas:
    """An image under the brush, with its colours and its dice."""

    image: Image.Image
    palette: Palette
    dice: random.Random

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.image.height

    @property
    def unit(self) -> float:
        """One hundredth of the shorter edge: the measure of small things."""
        return min(self.image.size) / 100

    def sky(self, bottom: float = 1.0) -> None:
        """Fill from the top to ``bottom`` (a fraction of the height) through the palette's three tones."""
        seam, end = round(self.height * bottom * 0.55), round(self.height * bottom)
        self.fade(0, seam, self.palette.zenith, self.palette.middle)
        self.fade(seam, end, self.palette.middle, self.palette.horizon)
        self.fade(end, self.height, self.palette.horizon, self.palette.horizon)

    def fade(self, top: int, bottom: int, upper: Colour, lower: Colour) -> None:
        """Fill a band across the canvas with a vertical gradient."""
        if bottom <= top:
            return
        mask = Image.linear_gradient("L").resize((self.width, bottom - top), Image.Resampling.BILINEAR)
        self.image.paste(upper, (0, top, self.width, bottom))
        self.image.paste(lower, (0, top), mask)

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float) -> None:
        """Lay a soft light around a point."""
        edge = max(2, round(radius * 2))
        falloff = Image.radial_gradient("L").resize((edge, edge), Image.Resampling.BILINEAR)
        mask = falloff.point([round(max(0.0, 1 - level / 180) ** 2 * 255 * strength) for level in range(256)])
        self.image.paste(colour, (round(centre[0] - radius), round(centre[1] - radius)), mask)

    def veil(self, shape: Callable[[ImageDraw.ImageDraw], None], colour: Colour, opacity: float) -> None:
        """Paste a translucent shape, drawn by the caller on a mask."""
        mask = Image.new("L", self.image.size, 0)
        shape(ImageDraw.Draw(mask))
        self.image.paste(colour, (0, 0), mask.point([round(level * opacity) for level in range(256)]))

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        x, y = centre
        self.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def sun(self, centre: Point, radius: float) -> None:
        """Draw the sun or the moon with its halo."""
        self.glow(centre, radius * 6, self.palette.light, 0.55)
        self.glow(centre, radius * 2.4, self.palette.light, 0.7)
        self.disc(centre, radius, self.palette.light)

    def stars(self, count: int, bottom: float) -> None:
        """Scatter stars, small ones mostly, above ``bottom``."""
        for _ in range(count):
            size = self.unit * self.dice.choice((0.08, 0.1, 0.12, 0.22))
            place = (self.dice.uniform(0, self.width), self.dice.uniform(0, self.height * bottom))
            self.disc(place, size, blend(self.palette.middle, (255, 255, 255), self.dice.uniform(0.5, 1)))

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        """Draws shapes on the image."""
        return ImageDraw.Draw(self.image)
