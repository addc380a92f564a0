"""The style of figures of comparisons and runs: colours, axes, legends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from deltarl.comparison.intervals import Array, Interval

INK, RULE = "#1f2933", "#d5dbe1"
# Okabe and Ito's palette for colour-blind readers, without the colours that are hard to see on white or dark pages.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*Xhd"
WIDTH, HEIGHT = 4.6, 3.6
ROW = 0.34  # height of one arm among intervals


def styles(arms: list[str]) -> dict[str, tuple[str, str, str]]:
    """Colour, dash and marker of each arm; if there are more arms than colours, dash and marker tell them apart."""
    dashes = [DASHES[(index // len(COLOURS)) % len(DASHES)] for index in range(len(arms))]
    return dict(
        zip(
            arms,
            zip(islice(cycle(COLOURS), len(arms)), dashes, islice(cycle(MARKERS), len(arms)), strict=True),
            strict=True,
        )
    )


def common_grid(steps: Sequence[Array]) -> Array:
    """All steps at which runs were evaluated, within the range that every run covers."""
    grid = np.unique(np.concatenate(list(steps)))
    inside = (grid >= max(each[0] for each in steps)) & (grid <= min(each[-1] for each in steps))
    found: Array = grid[inside] if inside.any() else grid
    return found


def rows_of(count: int) -> tuple[Figure, Axes]:
    """Make a figure with `count` rows, the first at the top."""
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * count), layout="constrained")
    axis = figure.subplots()
    plain(axis)
    axis.set_ylim(count - 0.4, -0.6)
    return figure, axis


def draw_interval(axis: Axes, row: float, interval: Interval, colour: str, marker: str) -> None:
    """Draw an estimate in a row, with its interval if it has one."""
    if interval.low is not None and interval.high is not None:
        axis.plot([interval.low, interval.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
    axis.plot([interval.estimate], [row], marker, color=colour, markersize=6, markeredgecolor=INK, markeredgewidth=0.5)


def plain(axis: Axes) -> None:
    """Remove the frame and background of the axes, to fit pages of any colour."""
    axis.grid(color=RULE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, labelsize=9, length=0)
    axis.patch.set_visible(False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    for text in (axis.xaxis.label, axis.yaxis.label):
        text.set_color(INK)
        text.set_fontsize(10)


def thousands(axis: Axes) -> None:
    """Put a few round ticks on the x axis, with 100k for 100,000."""
    if axis.get_xlim()[1] > 1_000:
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def with_legend(figure: Figure, axis: Axes) -> Figure:
    """Add the legend of one of its axes below a figure."""
    handles, labels = axis.get_legend_handles_labels()
    columns = max(1, min(len(labels), int(figure.get_figwidth() / 1.25)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)
    return figure
