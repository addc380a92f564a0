"""Figures of a report, with one panel each so that they are readable on a phone as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deltarl.comparison.against import scores_against
from deltarl.comparison.analysis import METRICS, Analysis
from deltarl.comparison.drawing import (
    HEIGHT,
    INK,
    ROW,
    WIDTH,
    common_grid,
    draw_interval,
    plain,
    rows_of,
    styles,
    thousands,
    with_legend,
)
from deltarl.comparison.estimates import OVER_TASKS
from deltarl.comparison.intervals import Array
from deltarl.comparison.records import Record, Study
from deltarl.comparison.spec import Metric
from deltarl.comparison.statistics import mean
from deltarl.errors import ConfigError
from deltarl.gates.drawing import BETA_LABEL, SHARE_LABEL
from deltarl.gates.figures import gated_networks
from deltarl.training import folder as files

Axis = Callable[[Study, Record], Array]


def _steps(study: Study, record: Record) -> Array:
    del study
    return record.steps


def _minutes(study: Study, record: Record) -> Array:
    del study
    return record.seconds / 60


def flops(study: Study, record: Record) -> Array:
    """FLOPs of inference and training up to each evaluation of a run, `[T]`; NaN if they were not measured."""
    cost = study.costs.get(record.task, {}).get(record.arm)
    if cost is None:
        return np.full_like(record.steps, np.nan)
    trained: Array = cost["flops_per_step"] * record.steps + cost["flops_per_update"] * record.updates
    return trained


AXES: Mapping[str, tuple[str, Axis]] = {
    "steps": ("environment steps", _steps),
    "minutes": ("minutes of training", _minutes),
    "flops": ("FLOPs of inference and training", flops),
}


def figures(analysis: Analysis) -> Iterator[tuple[str, str, Figure]]:
    """Name, description and figure of everything that a report shows, in order."""
    study = analysis.study
    yield "learning", "Learning curves of all tasks", learning(analysis)
    yield from scores_against(analysis)
    for kind, (label, _) in AXES.items():
        for task in study.tasks:
            if (figure := curves(study, task, kind)) is not None:
                yield f"curves-{kind}-{task}", f"{task}: mean return of the evaluations against {label}", figure
    for task in study.tasks:
        yield f"final-{task}", f"{task}: return of the final policies, by arm", finals(analysis, task)
    if analysis.aggregates:
        for metric, label in METRICS.items():
            yield f"aggregates-{metric}", f"Over all tasks, normalised: {label}", aggregates(analysis, metric)
        yield "improvement", f"Chance to score above {analysis.reference}", improvement(analysis)
        yield "profile", "Share of runs above each normalised score", profile(analysis)
    for task in study.tasks:
        for arm in study.arms:
            if (figure := gates(study, task, arm)) is not None:
                yield f"gates-{task}@{arm}", f"{task}, {arm}: gate and erase share of each block while learning", figure


def learning(analysis: Analysis) -> Figure:
    """Learning curves of all tasks side by side; the figure to use outside the report."""
    study = analysis.study
    columns = min(3, len(study.tasks))
    rows = -(-len(study.tasks) // columns)
    figure = Figure(figsize=(0.4 + 3.1 * columns, 0.5 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, task in zip(panels, study.tasks, strict=False):
        _draw_curves(panel, study, task, "steps")
        panel.set_title(task, color=INK, fontsize=10)
    for panel in panels[len(study.tasks) :]:
        panel.remove()
    return with_legend(figure, panels[0])


def curves(study: Study, task: str, kind: str) -> Figure | None:
    """Mean and pointwise interval over seeds against one of `AXES`; None if that was not measured."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axis = figure.subplots()
    if not _draw_curves(axis, study, task, kind):
        return None
    axis.set_title(task, color=INK, fontsize=10)
    return with_legend(figure, axis)


def finals(analysis: Analysis, task: str) -> Figure:
    """Each seed's final return, and the mean with its interval."""
    arms = analysis.study.arms
    figure, axis = rows_of(len(arms))
    for row, (arm, (colour, _, marker)) in enumerate(styles(arms).items()):
        summary = analysis.summary(task, arm)
        axis.plot(summary.scores, np.full(len(summary.scores), row), "|", color=colour, alpha=0.6, markersize=9)
        draw_interval(axis, row, summary.mean, colour, marker)
    axis.set_yticks(range(len(arms)), arms)
    axis.set_xlabel("return of the final policy: seeds, mean, 95% interval")
    axis.set_title(task, color=INK, fontsize=10)
    return figure


def aggregates(analysis: Analysis, metric: Metric) -> Figure:
    """IQM, median and mean of normalised scores over all tasks."""
    found = [each for each in analysis.aggregates if each.metric == metric]
    names = list(found[0].statistics)
    labels = {each.name: each.label for each in OVER_TASKS}
    figure = Figure(figsize=(WIDTH, 0.8 + 0.75 * ROW * len(found) * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False).ravel()
    looks = styles(analysis.study.arms)
    for panel, name in zip(panels, names, strict=True):
        plain(panel)
        for row, each in enumerate(found):
            colour, _, marker = looks[each.arm]
            draw_interval(panel, row, each.statistics[name], colour, marker)
        panel.set_yticks(range(len(found)), [each.arm for each in found])
        panel.set_ylim(len(found) - 0.4, -0.6)
        panel.set_title(labels[name], color=INK, fontsize=9, loc="left")
    panels[-1].set_xlabel(f"normalised {METRICS[metric]}")
    return figure


def improvement(analysis: Analysis) -> Figure:
    """Probability that a run of an arm scores above one of the reference, over all tasks, for the final policy."""
    found = [each for each in analysis.aggregates if each.metric == "final" and each.improvement is not None]
    figure, axis = rows_of(len(found))
    looks = styles(analysis.study.arms)
    axis.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    for row, each in enumerate(found):
        assert each.improvement is not None
        colour, _, marker = looks[each.arm]
        draw_interval(axis, row, each.improvement, colour, marker)
    axis.set_yticks(range(len(found)), [each.arm for each in found])
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(f"chance to score above {analysis.reference}")
    return figure


def profile(analysis: Analysis) -> Figure:
    """Fraction of runs whose normalised final score is above each threshold."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axis = figure.subplots()
    plain(axis)
    thresholds = analysis.thresholds["final"]
    looks = styles(analysis.study.arms)
    for each in analysis.aggregates:
        if each.metric == "final":
            colour, dash, _ = looks[each.arm]
            share, low, high = each.profile
            axis.plot(thresholds, share, color=colour, linestyle=dash, label=each.arm)
            axis.fill_between(thresholds, low, high, color=colour, alpha=0.12, linewidth=0)
    axis.set_xlabel("normalised score τ")
    axis.set_ylabel("share of runs above τ")
    axis.set_ylim(-0.02, 1.02)
    return with_legend(figure, axis)


def gates(study: Study, task: str, arm: str) -> Figure | None:
    """Mean beta and erase share of each block over training: seeds thin, their mean thick. None without gates."""
    records: list[Mapping[str, Array]] = []
    for each in study.of(task, arm):
        if (found := _gates_of(each)) is not None:
            records.append(found)
            if _depths(found) != _depths(records[0]):
                raise ConfigError(f"{each.folder / files.GATES}: has different networks than the arm's first run")
    nets = gated_networks(records[0]) if records else []
    if not nets:
        return None
    rows = [
        (net, name, label)
        for net in nets
        for name, label in (("beta_mean", BETA_LABEL), ("erase_share", SHARE_LABEL))
        if all(f"gates/{net}/{name}" in record for record in records)
    ]
    figure = Figure(figsize=(WIDTH, 0.7 + 1.2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False).ravel()
    for panel, (net, name, label) in zip(panels, rows, strict=True):
        plain(panel)
        runs = [record[f"gates/{net}/{name}"] for record in records]
        looks = styles([str(block) for block in range(runs[0].shape[1])])
        grid = common_grid([record["steps"] for record in records])
        for block, (colour, dash, _) in enumerate(looks.values()):
            for record, run in zip(records, runs, strict=True):
                panel.plot(record["steps"], run[:, block], color=colour, linewidth=0.6, alpha=0.5)
            average = np.mean(
                [np.interp(grid, record["steps"], run[:, block]) for record, run in zip(records, runs, strict=True)],
                axis=0,
            )
            panel.plot(grid, average, color=colour, linestyle=dash, label=f"block {block}")
        if name == "beta_mean":
            panel.axhline(1, color=INK, linewidth=0.6, linestyle=":")
        else:
            panel.set_ylim(0, 1)
        panel.set_ylabel(f"{net}\n{label}")
    panels[0].set_title(f"{task}, {arm}", color=INK, fontsize=10)
    thousands(panels[-1])
    panels[-1].set_xlabel("environment steps")
    return with_legend(figure, panels[0])


def _depths(record: Mapping[str, Array]) -> dict[str, int]:
    return {net: record[f"gates/{net}/beta_mean"].shape[1] for net in gated_networks(record)}


def _gates_of(record: Record) -> Mapping[str, Array] | None:
    path = record.folder / files.GATES
    return files.read_gates(record.folder) if path.exists() else None  # a run without gates, or without its record


def _draw_curves(axis: Axes, study: Study, task: str, kind: str) -> bool:
    """Draw the arms' curves; return whether anything could be drawn."""
    label, along = AXES[kind]
    plain(axis)
    drawn = False
    every = np.concatenate([run.returns for arm in study.arms for run in study.of(task, arm)])
    # Scale the panel to the scores; wide intervals of few seeds would otherwise dominate it.
    margin = 0.05 * (np.ptp(every) or 1.0)
    axis.set_ylim(every.min() - margin, every.max() + margin)
    for arm, (colour, dash, marker) in styles(study.arms).items():
        runs = study.of(task, arm)
        grid = common_grid([run.steps for run in runs])
        x = np.mean([np.interp(grid, run.steps, along(study, run)) for run in runs], axis=0)
        if not np.isfinite(x).any():
            continue
        scores = np.stack([np.interp(grid, run.steps, run.returns) for run in runs])
        found = [mean(column) for column in scores.T]
        axis.plot(
            x, [each.estimate for each in found], color=colour, linestyle=dash, marker=marker, markersize=3, label=arm
        )
        # NaN if a single seed gives no interval; matplotlib skips it.
        ends = np.array([(each.low, each.high) for each in found], float)
        axis.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.12, linewidth=0)
        drawn = True
    thousands(axis)
    axis.set_xlabel(label)
    axis.set_ylabel("return")
    return drawn
