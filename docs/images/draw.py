"""Draw the images of the architecture page: ``python docs/images/draw.py`` writes them again.

Every text has its own background, so it is readable on a light page and on a dark one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

DARK, MIDDLE, LIGHT = "#3d3758", "#6a609b", "#f5f3fc"
LINE = "#8f88b5"
WIDTH = 800
LAYERS_WIDTH = 600
FONT = "font-family='system-ui, sans-serif'"

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
BESIDE = "emulator"
"""Drawn separately: it imports no other package, and no other package imports it."""

_LANES = {"worker": 85, "S3": 330, "gateway": 530, "triggerer": 715}
CALLS: Sequence[tuple[str, str, str]] = (
    ("worker", "worker", "render, validate: free"),
    ("worker", "S3", "create the claim"),
    ("worker", "gateway", "submit, once"),
    ("gateway", "worker", "task id"),
    ("worker", "S3", "record the task id"),
    ("worker", "triggerer", "after 10 s: defer, with ids and deadline"),
    ("triggerer", "gateway", "poll, for all tasks"),
    ("triggerer", "worker", "event: ids and status"),
    ("worker", "gateway", "look up the result"),
    ("gateway", "worker", "download, verify"),
    ("worker", "S3", "put, SHA-256 checked"),
    ("worker", "S3", "record: landed; manifest"),
    ("worker", "worker", "manifest to XCom"),
)
"""Sender, receiver, message."""


def layers() -> str:
    """Return the drawing of the package's layers, as import-linter reads them, and of the separate package."""
    listed = [[name.strip() for name in layer.split("|")] for layer in _contract("layers")["layers"]]
    top = 0
    parts: list[str] = []
    for names in (*([name for name in names if name != BESIDE] for names in listed), [BESIDE]):
        top += 10 * (names == [BESIDE])
        parts += _layer(names, y=top)
        top += 33
    return _svg(LAYERS_WIDTH, top - 3, "The layers of the package; imports only look down", parts)


def _contract(name: str) -> Mapping[str, Sequence[str]]:
    contracts = tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["id"] == name)


def _layer(names: Sequence[str], *, y: int) -> Iterator[str]:
    yield f"<rect y='{y}' width='{LAYERS_WIDTH}' height='30' rx='6' fill='{LINE}' opacity='.2'/>"
    widths = [7.1 * len(name) + 14 for name in names]
    x = (LAYERS_WIDTH - sum(widths) - 8 * (len(names) - 1)) / 2
    for name, wide in zip(names, widths, strict=True):
        yield f"<rect x='{x:g}' y='{y + 4}' width='{wide:g}' height='22' rx='4' fill='{MIDDLE}'/>"
        yield _centred(x + wide / 2, y + 19, name)
        x += wide + 8


def path_of_one_image() -> str:
    """Return the drawing of the path of one image."""
    top, step = 46, 32
    height = top + step * len(CALLS) + 6
    lines = list(_lanes(height)) + [part for n, call in enumerate(CALLS) for part in _call(call, top + step * n)]
    return _svg(WIDTH, height, "The path of one image, from the worker to S3 and XCom", lines)


def _x(lane: str) -> int:
    return _LANES[lane]


def _lanes(height: int) -> Iterator[str]:
    yield (
        f"<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' "
        f"orient='auto-start-reverse'><path d='M0 0L8 4L0 8z' fill='{LINE}'/></marker></defs>"
    )
    for lane in _LANES:
        x = _x(lane)
        yield f"<path d='M{x:g} 30V{height}' stroke='{LINE}' stroke-dasharray='2 4'/>"
        yield f"<rect x='{x - 60:g}' y='2' width='120' height='28' rx='6' fill='{DARK}'/>"
        yield _centred(x, 21, lane)


def _call(call: tuple[str, str, str], y: int) -> Iterator[str]:
    source, target, label = call
    wide = 6.4 * len(label) + 18
    start, end = _x(source), _x(target)
    if source == target:
        middle = max(start, wide / 2 + 2)
        yield f"<circle cx='{start:g}' cy='{y + 11}' r='4' fill='{LINE}'/>"
    else:
        gap = 6 if end > start else -6
        middle = max((start + end) / 2, wide / 2 + 2)
        yield f"<path d='M{start:g} {y + 11}H{end - gap:g}' stroke='{LINE}' stroke-width='1.6' marker-end='url(#tip)'/>"
    yield f"<rect x='{middle - wide / 2:g}' y='{y}' width='{wide:g}' height='22' rx='4' fill='{MIDDLE}'/>"
    yield _centred(middle, y + 15, label)


def _centred(x: float, y: float, text: str) -> str:
    return f"<text x='{x:g}' y='{y:g}' fill='{LIGHT}' font-size='12' text-anchor='middle'>{escape(text)}</text>"


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT} role='img'>"
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>"]) + "\n"


DRAWINGS = {"layers.svg": layers, "path-of-one-image.svg": path_of_one_image}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (Path(__file__).parent / name).write_text(draw())
