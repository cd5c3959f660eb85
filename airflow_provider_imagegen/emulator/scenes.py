"""What the painter knows to paint: hills, sea, mountains, dunes, a city, arches.

Each scene draws on a canvas twice as large as its image; the painter scales it down, which smooths
all edges.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from airflow_provider_imagegen.emulator.canvas import Canvas, Point
from airflow_provider_imagegen.emulator.palettes import Colour, blend


def _swell(dice: random.Random, waves: int, roughness: float) -> Callable[[float], float]:
    """Return a smooth random curve over 0..1 with values of about -1..1."""
    terms = [(roughness**k, dice.uniform(0.7, 1.4) * 2**k, dice.uniform(0, 2 * math.pi)) for k in range(waves)]
    total = sum(term[0] for term in terms)
    return lambda x: sum(a * math.sin(2 * math.pi * f * x + p) for a, f, p in terms) / total


def _ridge(canvas: Canvas, level: float, rise: float, waves: int, roughness: float) -> list[Point]:
    """Return the outline of one layer of land, closed along the bottom edge."""
    curve = _swell(canvas.dice, waves, roughness)
    steps = 240
    line = [(canvas.width * i / steps, canvas.height * (level - rise * curve(i / steps))) for i in range(steps + 1)]
    return [(0, canvas.height), *line, (canvas.width, canvas.height)]


def _land(canvas: Canvas, outline: list[Point], colour: Colour, below: Colour) -> None:
    """Fill an outline with a colour that sinks into another towards the bottom."""
    mask = Image.new("L", canvas.image.size, 0)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    top = max(0, round(min(y for _, y in outline)))
    if top >= canvas.height:
        return
    layer = Canvas(Image.new("RGB", canvas.image.size, colour), canvas.palette, canvas.dice)
    layer.fade(top, canvas.height, colour, below)
    canvas.image.paste(layer.image, (0, 0), mask)


def _birds(canvas: Canvas, count: int, colour: Colour) -> None:
    x, y = canvas.width * canvas.dice.uniform(0.2, 0.7), canvas.height * canvas.dice.uniform(0.12, 0.3)
    for _ in range(count):
        span = canvas.unit * canvas.dice.uniform(1.2, 2.4)
        wing = max(2, round(canvas.unit * 0.28))
        canvas.pen.arc((x - span, y - span / 2, x, y + span / 2), 200, 340, fill=colour, width=wing)
        canvas.pen.arc((x, y - span / 2, x + span, y + span / 2), 200, 340, fill=colour, width=wing)
        x += canvas.unit * canvas.dice.uniform(3, 7)
        y += canvas.unit * canvas.dice.uniform(-3, 3)


def _pine(canvas: Canvas, foot: Point, height: float, colour: Colour) -> None:
    x, y = foot
    for tier in range(3):
        top, half = y - height * (0.45 + tier * 0.275), height * (0.24 - tier * 0.055)
        base = y - height * tier * 0.24
        canvas.pen.polygon([(x, top), (x - half, base), (x + half, base)], fill=colour)


def hills(canvas: Canvas) -> None:
    """Rolling hills under a low sun, trees in front."""
    palette, dice = canvas.palette, canvas.dice
    canvas.sky(0.7)
    canvas.sun((canvas.width * dice.uniform(0.2, 0.8), canvas.height * dice.uniform(0.22, 0.42)), canvas.unit * 7)
    _birds(canvas, dice.randint(3, 6), blend(palette.zenith, palette.near, 0.7))
    for layer in range(6):
        depth = layer / 5
        colour = blend(blend(palette.far, palette.horizon, 0.45 * (1 - depth)), palette.near, depth**1.2)
        outline = _ridge(canvas, 0.52 + 0.085 * layer, 0.05 + 0.012 * layer, 3, 0.45)
        _land(canvas, outline, colour, blend(colour, palette.near, 0.35))
        if layer in (3, 4):
            for x, y in dice.sample(outline[10:-10], 9):
                _pine(canvas, (x, y + canvas.unit), canvas.unit * (2 + layer), blend(colour, palette.near, 0.55))


def mountains(canvas: Canvas) -> None:
    """Jagged peaks, stars when the sky is dark, pines along the bottom."""
    palette, dice = canvas.palette, canvas.dice
    canvas.sky(0.8)
    if palette.dark:
        canvas.stars(160, 0.6)
    canvas.sun((canvas.width * dice.uniform(0.15, 0.85), canvas.height * dice.uniform(0.12, 0.28)), canvas.unit * 5)
    for layer in range(4):
        depth = layer / 3
        colour = blend(blend(palette.far, palette.horizon, 0.5 * (1 - depth)), palette.near, depth)
        outline = _ridge(canvas, 0.48 + 0.12 * layer, 0.17 - 0.03 * layer, 7, 0.56)
        _land(canvas, outline, colour, blend(colour, palette.horizon, 0.35 * (1 - depth)))
    for _ in range(46):
        foot = (dice.uniform(0, canvas.width), canvas.height * dice.uniform(0.93, 1.02))
        _pine(
            canvas,
            foot,
            canvas.unit * dice.uniform(7, 15),
            blend(palette.near, palette.far, dice.uniform(0, 0.18)),
        )


def sea(canvas: Canvas) -> None:
    """A setting sun over water, its path of light, a sail."""
    palette, dice = canvas.palette, canvas.dice
    horizon = dice.uniform(0.5, 0.6)
    canvas.sky(horizon)
    x = canvas.width * dice.uniform(0.3, 0.7)
    canvas.sun((x, canvas.height * (horizon - dice.uniform(0.02, 0.14))), canvas.unit * 9)
    top = round(canvas.height * horizon)
    canvas.fade(top, canvas.height, blend(palette.horizon, palette.far, 0.7), palette.near)
    for _ in range(60):
        depth = dice.random() ** 1.6
        y = top + (canvas.height - top) * depth
        half = canvas.unit * (3 + 22 * depth) * dice.uniform(0.2, 1)
        shift, thick = canvas.unit * dice.uniform(-4, 4) * (1 + depth), canvas.unit * (0.15 + 0.5 * depth)
        colour = blend(palette.light, blend(palette.far, palette.near, depth), 0.25 + 0.4 * depth)
        box = (x + shift - half, y - thick, x + shift + half, y + thick)
        canvas.pen.rounded_rectangle(box, radius=thick, fill=colour)
    _sail(canvas, (canvas.width * dice.choice((0.2, 0.8)), top + canvas.unit * 4), canvas.unit * 13)
    for layer in range(4):
        colour = blend(palette.far, palette.near, 0.45 + 0.18 * layer)
        _land(canvas, _ridge(canvas, 0.78 + 0.065 * layer, 0.018, 4, 0.7), colour, palette.near)


def _sail(canvas: Canvas, foot: Point, height: float) -> None:
    x, y = foot
    hull = blend(canvas.palette.near, (0, 0, 0), 0.2)
    canvas.pen.polygon(
        [(x, y - height), (x, y - height * 0.12), (x + height * 0.42, y - height * 0.12)],
        fill=canvas.palette.accents[1],
    )
    canvas.pen.polygon(
        [(x - 3, y - height * 0.8), (x - 3, y - height * 0.12), (x - height * 0.3, y - height * 0.12)],
        fill=canvas.palette.accents[0],
    )
    canvas.pen.polygon(
        [(x - height * 0.4, y - height * 0.08), (x + height * 0.5, y - height * 0.08),
         (x + height * 0.32, y + height * 0.06), (x - height * 0.26, y + height * 0.06)],
        fill=hull,
    )  # fmt: skip


def dunes(canvas: Canvas) -> None:
    """Dunes with a lit and a shaded side under a wide sky."""
    palette, dice = canvas.palette, canvas.dice
    canvas.sky(0.65)
    canvas.sun((canvas.width * dice.uniform(0.15, 0.85), canvas.height * dice.uniform(0.15, 0.35)), canvas.unit * 6)
    for layer in range(5):
        depth = layer / 4
        lit = blend(blend(palette.far, palette.light, 0.35), palette.near, depth * 0.7)
        crest = _ridge(canvas, 0.5 + 0.11 * layer, 0.075, 2, 0.4)
        _land(canvas, crest, lit, blend(lit, palette.near, 0.25))
        slope = _swell(dice, 2, 0.5)
        lean = canvas.unit * (10 + 12 * depth)
        foot = [(px + lean * (1.2 + slope(px / canvas.width)), canvas.height) for px, _ in reversed(crest[1:-1])]
        shade = [(-lean, crest[1][1]), *crest[1:-1], *foot, (-lean, canvas.height)]
        dark = blend(palette.near, lit, 0.35)
        canvas.veil(lambda pen, shape=shade: pen.polygon(shape, fill=255), dark, 0.28)  # type: ignore[misc]


def city(canvas: Canvas) -> None:
    """A skyline in three depths with lit windows."""
    palette, dice = canvas.palette, canvas.dice
    canvas.sky(0.9)
    if palette.dark:
        canvas.stars(110, 0.5)
    canvas.sun((canvas.width * dice.uniform(0.2, 0.8), canvas.height * dice.uniform(0.2, 0.45)), canvas.unit * 9)
    for layer in range(3):
        colour = blend(blend(palette.far, palette.horizon, 0.35), palette.near, layer / 2)
        x = -canvas.unit * dice.uniform(0, 6)
        while x < canvas.width:
            wide, tall = (
                canvas.unit * dice.uniform(6, 13),
                canvas.height * dice.uniform(0.16, 0.44 - 0.07 * layer),
            )
            top = canvas.height * (0.74 + 0.13 * layer) - tall
            canvas.pen.rectangle((x, top, x + wide, canvas.height), fill=colour)
            if dice.random() < 0.3:
                canvas.pen.rectangle((x + wide * 0.47, top - tall * 0.2, x + wide * 0.53, top), fill=colour)
            _windows(canvas, (x, top), wide, blend(colour, palette.light, 0.25 + 0.3 * layer))
            x += wide + canvas.unit * dice.uniform(-0.5, 2)


def _windows(canvas: Canvas, corner: Point, wide: float, colour: Colour) -> None:
    step = canvas.unit * 2.1
    columns = max(1, int((wide - step * 0.6) / step))
    margin = (wide - columns * step) / 2
    for row in range(int((canvas.height - corner[1]) / (step * 1.3))):
        for column in range(columns):
            if canvas.dice.random() < 0.42:
                x = corner[0] + margin + (column + 0.25) * step
                y = corner[1] + step * 0.8 + row * step * 1.3
                canvas.pen.rectangle((x, y, x + step * 0.5, y + step * 0.7), fill=colour)


def arches(canvas: Canvas) -> None:
    """Paper shapes in the manner of a mid-century poster: sun, arches, leaves."""
    palette, dice = canvas.palette, canvas.dice
    paper = blend(palette.horizon, (255, 252, 244), 0.6)
    canvas.fade(0, canvas.height, paper, blend(paper, palette.horizon, 0.5))
    centre = (canvas.width * dice.uniform(0.58, 0.78), canvas.height * dice.uniform(0.22, 0.34))
    canvas.disc(centre, canvas.unit * 15, palette.accents[0])
    foot, middle = canvas.height * 0.8, canvas.width * dice.uniform(0.32, 0.46)
    tones = (palette.near, palette.far, palette.accents[0], palette.accents[1], palette.middle)
    for ring, tone in enumerate(tones):
        half, top = canvas.unit * (32 - 6 * ring), foot - canvas.unit * (52 - 6 * ring)
        canvas.pen.rounded_rectangle((middle - half, top, middle + half, foot + half), half, fill=tone)
    for layer in range(3):
        colour = blend(palette.far, palette.near, 0.3 + 0.35 * layer)
        _land(
            canvas,
            _ridge(canvas, 0.76 + 0.07 * layer, 0.035, 2, 0.4),
            colour,
            blend(colour, palette.near, 0.4),
        )
    _leaves(canvas, (canvas.width * dice.uniform(0.74, 0.88), canvas.height * 0.86), canvas.unit * 34)


def _leaves(canvas: Canvas, foot: Point, height: float) -> None:
    x, y = foot
    stem = blend(canvas.palette.near, canvas.palette.accents[-1], 0.35)
    canvas.pen.line((x, y, x, y - height), fill=stem, width=max(2, round(canvas.unit * 0.5)))
    for pair in range(6):
        level, reach = y - height * (0.2 + 0.15 * pair), height * (0.3 - 0.03 * pair)
        for side in (-1, 1):
            tip = (x + side * reach, level - reach * 0.75)
            bulge = (x + side * reach * 0.25, level - reach * 0.7)
            belly = (x + side * reach * 0.75, level - reach * 0.15)
            canvas.pen.polygon([(x, level), bulge, tip, belly], fill=stem)


SCENES: tuple[Callable[[Canvas], None], ...] = (hills, mountains, sea, dunes, city, arches)
