"""Learning curves of runs; the seeds of each config form a group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from deltarl.comparison.drawing import INK, common_grid, plain, styles, thousands, with_legend
from deltarl.comparison.intervals import Array
from deltarl.comparison.statistics import mean
from deltarl.errors import ConfigError, suggestion
from deltarl.reading import check_plain
from deltarl.recording import metrics_in
from deltarl.training import folder as files
from deltarl.training import packed
from deltarl.training.records import evaluations_in

EVALUATIONS, ROLLOUTS = "eval/return_mean", "rollout/ep_rew_mean"
DENSE = 30  # curves with at least this many points have no markers
SIZE = (6.4, 4.2)


@dataclass(frozen=True)
class Curve:
    """One number of a run over training.

    Attributes:
        steps: environment steps, `[T]`, increasing.
        values: `[T]`.
    """

    folder: Path
    steps: Array
    values: Array


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """The run folders that paths name: runs themselves, packed agents, or folders that hold runs at any depth.

    Raises:
        ConfigError: if a path does not exist or holds no run.
    """
    found: dict[Path, None] = {}
    for path in map(packed.found, paths):
        if path.is_file():
            found[path] = None
            continue
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder")
        inside = (
            [path]
            if (path / files.CONFIG).exists()
            else sorted(each.parent for each in path.glob(f"**/seed-*/{files.CONFIG}"))
        )
        if not inside:
            raise ConfigError(f"{path}: holds no run (no seed-<n>/{files.CONFIG} below it)")
        found |= dict.fromkeys(inside)
    return list(found)


def curve_of(run: Path, key: str) -> Curve:
    """A number of a run against its steps.

    Args:
        run: the folder of a run, finished or not, or a packed agent, which has a part of the records.
        key: as in metrics.jsonl; `eval/return_mean` is read from evaluations.csv.

    Raises:
        ConfigError: if the run has not recorded `key`; names the nearest key that it has.
    """
    with packed.opened(run) as folder:
        check_plain(folder)
        if key == EVALUATIONS:
            points = _returns_in(folder)
            known: set[str] = set()
        else:
            rows = metrics_in(folder / files.METRICS) if (folder / files.METRICS).exists() else []
            points = {row["step"]: row[key] for row in rows if row.get(key) is not None}
            known = {name for row in rows for name in row} - {"step"}
    if not points:
        raise ConfigError(f"{run}: has not recorded {key!r}{suggestion(key, sorted(known)) if known else ''}")
    steps = np.array(sorted(points), float)
    return Curve(run, steps, np.array([points[step] for step in steps], float))


def default_key(runs: Sequence[Path]) -> str:
    """The return of the evaluations if every run has at least two, else that of the training episodes."""
    return EVALUATIONS if all(_has_several_evaluations(run) for run in runs) else ROLLOUTS


def _has_several_evaluations(run: Path) -> bool:
    with packed.opened(run) as folder:
        return len(_returns_in(folder)) > 1


def _returns_in(folder: Path) -> dict[int, float]:
    """The mean return of each evaluation by step."""
    found = evaluations_in(folder) if (folder / files.EVALUATIONS).exists() else {}
    return {step: evaluation.return_mean for step, evaluation in found.items()}


def grouped(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The curves of each config, named by the part of the folder names that differs."""
    groups: dict[Path, list[Curve]] = {}
    for curve in curves:
        place = curve.folder.absolute()
        groups.setdefault(place.with_suffix("") if place.is_file() else place.parent, []).append(curve)
    # A single group is named after its folder.
    shared = Path(os.path.commonpath([folder.parent for folder in groups]))
    return {str(folder.relative_to(shared)): own for folder, own in groups.items()}


def learning_curves(groups: dict[str, list[Curve]], key: str) -> Figure:
    """Draw each group's mean over seeds with a pointwise 95% interval (Student's t), or the curve of a single seed.

    A group is drawn over the range of steps that all of its seeds cover.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    plain(axis)
    values = np.concatenate([curve.values for own in groups.values() for curve in own])
    margin = 0.05 * (np.ptp(values) or 1.0)
    axis.set_ylim(values.min() - margin, values.max() + margin)
    for name, (colour, dash, marker) in styles(list(groups)).items():
        own = groups[name]
        grid = common_grid([curve.steps for curve in own])
        each = np.stack([np.interp(grid, curve.steps, curve.values) for curve in own])
        found = [mean(column) for column in each.T]
        label = name if len(own) == 1 else f"{name} ({len(own)} seeds)"
        shown = marker if len(grid) < DENSE else ""
        axis.plot(
            grid, [one.estimate for one in found], color=colour, linestyle=dash, label=label, marker=shown, markersize=3
        )
        ends = np.array([(one.low, one.high) for one in found], float)  # NaN for a single seed: nothing is drawn
        axis.fill_between(grid, ends[:, 0], ends[:, 1], color=colour, alpha=0.12, linewidth=0)
    thousands(axis)
    axis.set_xlabel("environment steps", color=INK)
    axis.set_ylabel(
        {EVALUATIONS: "return of the evaluations", ROLLOUTS: "return of the training episodes"}.get(key, key)
    )
    return with_legend(figure, axis)
