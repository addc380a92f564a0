"""A comparison from beginning to end: its runs, what its arms cost, and its report."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat

from deltarl.comparison.analysis import METRICS, Analysis, analyse
from deltarl.comparison.cells import run_cells
from deltarl.comparison.costs import Cost, measure_costs
from deltarl.comparison.erasure import measure_erasure, unmeasured
from deltarl.comparison.records import read_measured, read_study
from deltarl.comparison.report import PAGE, write_analysis
from deltarl.comparison.spec import COSTS, Comparison
from deltarl.training import RunSpec
from deltarl.training import folder as files
from deltarl.training.progress import default_console
from deltarl.training.records import main_settings

REPORT = "report"
SUMMARY = "summary"


@dataclass(frozen=True)
class Compared:
    """How a comparison ended.

    Attributes:
        folder: of all its runs.
        finished: how many runs of this call's share have finished, now or before.
        failed: what was said of each run that failed, by its label.
        report: the page; None where there is no task yet on which every arm has a finished run.
    """

    folder: Path
    finished: int
    failed: dict[str, str]
    report: Path | None


def compare(
    comparison: Comparison,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    shard: tuple[int, int] = (1, 1),
) -> Compared:
    """Train every run of a comparison that has not finished, and write the report.

    Runs that were interrupted go on; one that fails takes no other with it, and the next call begins it again. When all
    have finished, the arms' costs are measured once; policies that erase are scored without their erasure once. Where
    nothing is left to do, nothing is written. A script needs Python's usual guard, `if __name__ == "__main__":`.

    Args:
        comparison: from `load_comparison`.
        console: where progress goes, stderr if not given.
        command: what the provenance names as the command, this process's own if not given.
        jobs: processes at once; as many as the cores allow if not given.
        shard: (i, n) for the i-th of n machines, from 1; their folders can be copied into one.

    Raises:
        ConfigError: before anything is written, if the folder holds runs of another config, or if a run cannot be made
            as its config says.
        TrainingStopped: if a signal asked for it, when all is stored.
    """
    console = console or default_console()
    ran = run_cells(comparison, console, command or sys.argv, jobs=jobs, shard=shard)
    folder = comparison.folder
    finished = len(ran.before) + len(ran.now)
    measured = finished == len(comparison.cells) and not _has_costs(comparison)
    page = folder / REPORT / PAGE
    with files.usable(folder):
        if measured:
            console.print("measuring what the arms cost, in turns in this process", highlight=False)
            _measure_costs(comparison)
        finished_cells = (*ran.before, *ran.now)
        if ran.now or ran.changed or measured or not page.exists() or unmeasured(finished_cells):
            have = {(cell.task, cell.arm) for cell in finished_cells}
            if not any(all((task, arm) in have for arm in comparison.spec.arms) for task in comparison.spec.tasks):
                return Compared(folder, finished, ran.failed, None)
            study = read_study(folder)
            measure_erasure(study.records, console)
            analysis = analyse(study)
            write_analysis(analysis, page.parent)
            write_summary(analysis)
    return Compared(folder, finished, ran.failed, page)


def write_summary(analysis: Analysis) -> None:
    """For TensorBoard's HParams: a row for each task and arm, whose scores rank the arms.

    It has the columns of the runs' own rows too, since TensorBoard shows those of one row for all.
    """
    study = analysis.study
    for task in study.tasks:
        for arm in study.arms:
            folder = study.folder / SUMMARY / task / arm
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            spec = study.of(task, arm)[0].spec
            settings = main_settings(spec)
            if (size := study.sizes.get(task, {}).get(arm)) is not None:
                settings["parameters"] = size["parameters"]
            scores = {"eval/return_mean": analysis.summary(task, arm).mean.estimate}
            for metric in METRICS:
                found = analysis.summary(task, arm, metric)
                scores[f"comparison/{metric}_mean"] = found.mean.estimate
                scores[f"comparison/{metric}_iqm"] = found.iqm.estimate
            output = TensorBoardOutputFormat(str(folder))
            values = {"hparams": HParam(settings, dict.fromkeys(scores, 0.0)), **scores}
            output.write(values, dict.fromkeys(values, ()), spec.total_timesteps)
            output.close()


def _has_costs(comparison: Comparison) -> bool:
    costs = read_measured(comparison.folder / COSTS, Cost)
    return all(costs.get(task, {}).keys() >= comparison.spec.arms.keys() for task in comparison.spec.tasks)


def _measure_costs(comparison: Comparison) -> None:
    by_task: dict[str, dict[str, RunSpec]] = {}
    for cell in comparison.cells:
        by_task.setdefault(cell.task, {}).setdefault(cell.arm, cell.spec)
    costs = {task: {arm: asdict(cost) for arm, cost in measure_costs(arms).items()} for task, arms in by_task.items()}
    files.write_json(comparison.folder / COSTS, costs)
