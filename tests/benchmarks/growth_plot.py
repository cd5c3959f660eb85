"""Plot the results of `batch-growth` for the docs; nothing else needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tests.benchmarks.batch_growth import Growth

INK, FAINT, GRID = "#333f48", "#8a949b", "#e6e9eb"
WALL, CPU, MEMORY = "#2f6f9f", "#d08a3c", "#4d8c6a"
STYLE = {
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.marker": "o",
    "lines.markersize": 6,
}


def draw(measured: Sequence[Growth], path: Path) -> None:
    """Draw it as a PNG of 1800 × 720 pixels, to be shown half as wide.

    :param measured: batches in order of their rows
    :param path: the file; its folder is made
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_time(left, measured)
        _draw_memory(right, measured)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200)


def _draw_time(axes: Axes, measured: Sequence[Growth]) -> None:
    rows = [each.rows for each in measured]
    axes.set_title("Time for one row, ms")
    for name, colour, values in (
        ("wall-clock", WALL, [each.wall_of_a_row for each in measured]),
        ("CPU", CPU, [each.cpu_of_a_row for each in measured]),
    ):
        axes.plot(rows, values, color=colour)
        _name(axes, name, colour, rows[-1], values[-1])
    axes.set_ylim(bottom=0)
    axes.margins(y=0.2)
    _count_rows(axes, rows)


def _draw_memory(axes: Axes, measured: Sequence[Growth]) -> None:
    rows, memory = [each.rows for each in measured], [each.memory for each in measured]
    axes.set_title("Memory for the whole batch, MiB")
    in_proportion = [memory[0] * count / rows[0] for count in rows]
    axes.plot(rows, in_proportion, color=FAINT, linewidth=1, linestyle=(0, (4, 4)), marker="")
    axes.plot(rows, memory, color=MEMORY)
    _name(axes, "measured", MEMORY, rows[-1], memory[-1])
    _name(axes, "in proportion", FAINT, rows[-1], in_proportion[-1])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_minor_locator(NullLocator())
    _count_rows(axes, rows)


def _name(axes: Axes, name: str, colour: str, x: float, y: float) -> None:
    """Write a line's name where it ends."""
    axes.annotate(name, (x, y), (10, 0), textcoords="offset points", va="center", color=colour)


def _count_rows(axes: Axes, rows: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(rows))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel("rows in the batch")


def _number(value: float, _: int | None) -> str:
    return f"{value:,g}".replace(",", "\u2009")
