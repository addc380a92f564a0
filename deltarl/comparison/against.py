"""Figures of scores against the axes of a comparison."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from deltarl.comparison.analysis import METRICS, Analysis
from deltarl.comparison.axes import Value, text_of
from deltarl.comparison.drawing import HEIGHT, INK, WIDTH, plain, styles, with_legend

WIDE = 8.0  # largest over smallest value from which an axis is logarithmic


def scores_against(analysis: Analysis) -> Iterator[tuple[str, str, Figure]]:
    """Name, description and figure for every task and axis, with the other axes held at each of their values."""
    spec = analysis.study.spec
    for path, values in spec.axes.items():
        lines: dict[str, dict[Value, str]] = {}  # the tasks that were run, by what they have in common
        for task in analysis.study.tasks:
            in_file, point = spec.points[task]
            others = [f"{key}={text_of(value)}" for key, value in point.items() if key != path]
            lines.setdefault(", ".join([in_file, *others]), {})[point[path]] = task
        for title, tasks in lines.items():
            name = f"against-{path}-{title}".replace(", ", "-")
            ordered = {value: tasks[value] for value in values if value in tasks}
            yield (
                name,
                f"{title}: {METRICS[spec.metric]} against {path}, by arm",
                _against(analysis, path, title, ordered),
            )


def _against(analysis: Analysis, path: str, title: str, tasks: dict[Value, str]) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axis = figure.subplots()
    plain(axis)
    values = list(tasks)
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    numeric = len(numbers) == len(values)
    x = np.array(numbers if numeric else range(len(values)), float)
    if numeric and x.min() > 0 and x.max() / x.min() >= WIDE:
        axis.set_xscale("log")
        axis.minorticks_off()
    metric = analysis.study.spec.metric
    for arm, (colour, dash, marker) in styles(analysis.study.arms).items():
        means = [analysis.summary(task, arm, metric).mean for task in tasks.values()]
        scores = np.array([each.estimate for each in means], float)
        # NaN if a single seed gives no interval; matplotlib skips it.
        low, high = np.array([(each.low, each.high) for each in means], float).T
        order = np.argsort(x)
        axis.plot(x[order], scores[order], color=colour, linestyle=dash, marker=marker, markersize=4, label=arm)
        axis.fill_between(x[order], low[order], high[order], color=colour, alpha=0.12, linewidth=0)
    axis.set_xticks(x, [text_of(value) for value in values])
    axis.set_xlabel(path)
    axis.set_ylabel(METRICS[metric])
    axis.set_title(title, color=INK, fontsize=10)
    return with_legend(figure, axis)
