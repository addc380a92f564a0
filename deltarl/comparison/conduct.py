"""A whole comparison: its runs, the costs of its arms, and its report."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from deltarl import disk, recording
from deltarl.comparison.analysis import METRICS, Analysis, analyse
from deltarl.comparison.cells import Ran, run_cells
from deltarl.comparison.costs import Cost, measure_costs
from deltarl.comparison.erasure import measure_erasure, unmeasured
from deltarl.comparison.looks import record_look
from deltarl.comparison.records import read_measured, read_study
from deltarl.comparison.report import PAGE, is_of, sources_of, write_analysis
from deltarl.comparison.spec import COSTS, UNTUNED, Comparison
from deltarl.comparison.tuning import tuned, untuned
from deltarl.errors import ConfigError
from deltarl.launch.display import default_console
from deltarl.launch.launcher import Launcher
from deltarl.training import RunSpec, TrainingStopped
from deltarl.training import folder as files
from deltarl.training.records import main_settings

REPORT = "report"
SUMMARY = "summary"


@dataclass(frozen=True)
class Compared:
    """How a comparison ended.

    Attributes:
        folder: the comparison's folder.
        finished: number of finished runs in this call's share, now or before.
        failed: error of each failed run, by label.
        stopped: message of each run that stopped because the disk was full and can be resumed, by label.
        report: path of the page; None if there is no task yet on which every arm has a finished run.
    """

    folder: Path
    finished: int
    failed: dict[str, str]
    stopped: dict[str, str]
    report: Path | None


def compare(
    comparison: Comparison,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    shard: tuple[int, int] = (1, 1),
    *,
    launcher: Launcher | None = None,
) -> Compared:
    """Train every unfinished run of a comparison, and write the report.

    The arms are tuned first, if the comparison says so. Interrupted runs are resumed. A run that fails does not stop
    the others; the next call starts it again. When all have finished, the arms' costs are measured once, and policies
    that erase are evaluated once without erasing. If there is nothing left to do, nothing is written. A script needs
    the guard `if __name__ == "__main__":`.

    Args:
        comparison: from `load_comparison`.
        console: where progress is shown; default: stderr.
        command: the command to record in the provenance; default: this process's.
        jobs: processes at once; default: as many as the cores allow.
        shard: (i, n) for the i-th of n machines, from 1; their folders can be copied into one afterwards.
        launcher: where runs are trained, such as `deltarl.launch.on_ray.Ray`; default: in processes of this machine.

    Raises:
        ConfigError: before anything is written, if the folder contains runs of another config, or if a run cannot be
            built from its config.
        SeedFailedError: if no trial of an arm finishes.
        TrainingStopped: if a signal requested it, once everything is stored; or if the disk has no room for the report.
    """
    console, command = console or default_console(), command or sys.argv
    before, without = Ran(()), comparison
    if comparison.spec.tune is not None:
        if shard != (1, 1):
            raise ConfigError("--shard: a comparison with tune cannot be divided among machines; use a launcher")
        comparison = tuned(comparison, console, command, jobs=jobs, launcher=launcher)
    ran = run_cells(comparison, console, command, jobs=jobs, shard=shard, launcher=launcher)
    if comparison.spec.tune is not None:
        console.print("the same without tuning", highlight=False)
        before = run_cells(untuned(without), console, command, jobs=jobs, shard=shard, launcher=launcher)
    finished = len(ran.before) + len(ran.now)
    try:
        with files.usable(comparison.folder):
            page = _report(comparison, ran, console)
    except Exception as error:
        if not disk.is_full(error):
            raise
        raise TrainingStopped(
            f"no space left on the disk: {finished} of {len(comparison.cells)} runs have finished; when there is room, "
            "repeat the command to resume"
        ) from error
    failed, stopped = (
        {**getattr(ran, kind), **{f"{UNTUNED}/{label}": why for label, why in getattr(before, kind).items()}}
        for kind in ("failed", "stopped")
    )
    return Compared(comparison.folder, finished, failed, stopped, page)


def _report(comparison: Comparison, ran: Ran, console: Console) -> Path | None:
    """Write the report unless it is up to date; None if there is too little for one."""
    folder, finished = comparison.folder, (*ran.before, *ran.now)
    if len(finished) == len(comparison.cells) and not _has_costs(comparison):
        console.print("measuring the costs of the arms, interleaved in this process", highlight=False)
        _measure_costs(comparison)
    have = {(cell.task, cell.arm) for cell in finished}
    if not any(all((task, arm) in have for arm in comparison.spec.arms) for task in comparison.spec.tasks):
        return None
    page = folder / REPORT / PAGE
    if unmeasured(finished):
        measure_erasure(read_study(folder).records, console)
    sources = sources_of(folder)
    if not is_of(page.parent, sources, comparison.spec.reference):
        analysis = analyse(read_study(folder))
        write_summary(analysis)
        write_analysis(analysis, page.parent, sources)
        record_look(analysis.study)
    return page


def write_summary(analysis: Analysis) -> None:
    """Write the settings and scores of each task and arm where runs are compared, so that the scores rank the arms.

    The scores include those of the runs, because TensorBoard shows the columns of one row for all.
    """
    study = analysis.study
    for task in study.tasks:
        for arm in study.arms:
            folder = study.folder / SUMMARY / task / arm
            spec = study.of(task, arm)[0].spec
            settings = main_settings(spec)
            if (size := study.sizes.get(task, {}).get(arm)) is not None:
                settings["parameters"] = size["parameters"]
            scores = {"eval/return_mean": analysis.summary(task, arm).mean.estimate}
            for metric in METRICS:
                found = analysis.summary(task, arm, metric)
                scores[f"comparison/{metric}_mean"] = found.mean.estimate
                scores[f"comparison/{metric}_iqm"] = found.intervals["iqm"].estimate
            recording.write_summary(folder, settings, dict(sorted(scores.items())), spec.total_timesteps)


def _has_costs(comparison: Comparison) -> bool:
    costs = read_measured(comparison.folder / COSTS, Cost)
    return all(costs.get(task, {}).keys() >= comparison.spec.arms.keys() for task in comparison.spec.tasks)


def _measure_costs(comparison: Comparison) -> None:
    by_task: dict[str, dict[str, RunSpec]] = {}
    for cell in comparison.cells:
        by_task.setdefault(cell.task, {}).setdefault(cell.arm, cell.spec)
    costs = {task: {arm: asdict(cost) for arm, cost in measure_costs(arms).items()} for task, arms in by_task.items()}
    files.write_json(comparison.folder / COSTS, costs)
