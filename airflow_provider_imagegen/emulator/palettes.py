"""The painter's colours: a handful of moods, each a sky, a light, and the layers of a land."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Mix two colours; a share of 0 is the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def parse_hex(text: str) -> Colour:
    """Read ``ffb347``."""
    return (int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16))


@dataclass(frozen=True)
class Palette:
    """One mood. ``far`` and ``near`` bound the layers of land; the accents are for small things."""

    name: str
    zenith: Colour
    middle: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour
    accents: tuple[Colour, ...]

    @property
    def dark(self) -> bool:
        """Whether stars would be seen in this sky."""
        return sum(self.zenith) < 230


def _mood(name: str, colours: str) -> Palette:
    zenith, middle, horizon, light, far, near, *accents = (parse_hex(word) for word in colours.split())
    return Palette(name, zenith, middle, horizon, light, far, near, tuple(accents))


PALETTES: tuple[Palette, ...] = (
    _mood("dawn", "5b7db1 e8a0a8 ffd9a8 fff3d0 c58fa5 3b2f55 ff8f70 ffe0b5 8e5b8a"),
    _mood("dusk", "2b1f54 8c3f76 ff8a5c ffd27a 8a4a7d 1c1236 ff5f6d ffc371 5f3b8c"),
    _mood("meadow", "7fc4e8 c7e9f1 fdf6d8 fff6c2 9cc9a2 1f5b46 f2b84b f7f3e3 3f8f6b"),
    _mood("ocean", "0f4c75 3f8fb5 cdeef0 fff8dc 6fb3c8 0b2f4a ffb26b f5f7fa 2a9d8f"),
    _mood("desert", "f2b880 f8d3a0 fff0d2 fffbe6 e0a070 7a3b2e c8553d f5e0b7 38686a"),
    _mood("night", "0b1033 1e2a5e 4b4f8f f4f1de 39417a 070a1f 7de2d1 f7b2ad 9b8cff"),
    _mood("aurora", "041c32 06465a 2a9d8f e9f5db 1f5f6b 031420 64dfdf 80ffdb b892ff"),
    _mood("candy", "a18cd1 fbc2eb ffe3ec fffdf5 d9a7d9 6a4c93 ff6f91 ffc75f 845ec2"),
    _mood("citrus", "f6d365 fda085 fff1c9 fffef0 f4a261 a63c06 e76f51 fefae0 2a9d8f"),
    _mood("mist", "a9bcd0 d8dee9 f3f0ec ffffff a3b4c4 3d5366 d98c8c f8f4ef 6c8ead"),
    _mood("forest", "86b6a8 cfe3c8 f6f1cf fffbe0 8fb59a 16382d d9a441 f3ead3 4f7f5d"),
    _mood("ember", "1f1021 5c1a33 e2583e ffcf70 7a2840 150914 ff9f1c ffe8c2 b23a48"),
)
