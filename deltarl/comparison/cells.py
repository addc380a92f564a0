"""Runs the unfinished cells of a comparison, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from deltarl import places, rendering
from deltarl.comparison.progress import Board
from deltarl.comparison.records import FREE
from deltarl.comparison.spec import COMPARISON, SIZES, Cell, Comparison
from deltarl.errors import ConfigError
from deltarl.launch.launcher import Job, Launcher
from deltarl.launch.local import Processes, default_jobs
from deltarl.reading import check_plain
from deltarl.training import RunResult, TrainingStopped
from deltarl.training import folder as files
from deltarl.training.build import built
from deltarl.training.differences import differences, differing, fixed_differences
from deltarl.training.progress import Report
from deltarl.training.result import result_in
from deltarl.training.resume import has_finished
from deltarl.training.session import train_one
from deltarl.training.signals import StopRequest, stop_on_signals
from deltarl.training.spec import RunSpec


@dataclass(frozen=True)
class Ran:
    """How the cells of a comparison ended.

    Attributes:
        before: cells that had already finished.
        now: cells that finished now.
        failed: error of each failed cell, by label.
        stopped: message of each cell that stopped by itself and can be resumed, by label.
    """

    before: tuple[Cell, ...]
    now: tuple[Cell, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)


def run_cells(
    comparison: Comparison,
    console: Console,
    command: list[str],
    jobs: int | None,
    shard: tuple[int, int],
    *,
    launcher: Launcher | None = None,
) -> Ran:
    """Train every unfinished cell in its own process, resuming those that were interrupted.

    A cell that fails does not stop the others.

    Args:
        comparison: from `load_comparison`.
        console: where progress is shown.
        command: the command to record in the provenance.
        jobs: processes at once; default: as many as the cores allow.
        shard: (i, n) for the i-th of n machines, from 1.
        launcher: where cells are trained; default: in processes of this machine.

    Raises:
        ConfigError, TrainingStopped: as in `compare`.
    """
    cells = comparison.shard(*shard)
    if comparison.folder.exists():
        check_plain(comparison.folder)
    done = [cell for cell in cells if (folder := started(cell)) is not None and has_finished(folder, cell.spec)]
    todo = [cell for cell in cells if cell not in done]
    if todo:
        places.check_folder(comparison.folder, "out")
    _check_alike(done)
    _check(todo)
    write_description(comparison)
    if not todo:
        return Ran(tuple(done))
    jobs = default_jobs(len(todo), max(cell.spec.threads for cell in todo)) if jobs is None else jobs
    named = {cell.label: cell for cell in todo}
    placed = [replace(cell, spec=placed_on_a_device(cell.spec, number)) for number, cell in enumerate(todo)]
    logs = comparison.folder / places.LOGS
    work = [
        Job(cell.label, partial(train_cell, cell, command), log=logs / cell.task / cell.arm / f"seed-{cell.seed}.log")
        for cell in placed
    ]
    with (
        Board(cells, done, console) as board,
        stop_on_signals() as stop,
    ):
        outcomes = (launcher or Processes(jobs)).run(
            work,
            lambda name, progress: board.update(named[name], progress),
            stop,
            ended=lambda name, outcome: board.end(named[name], outcome),
        )
    if stop:
        ended = len(done) + sum(outcome.kind == "result" for outcome in outcomes.values())
        raise TrainingStopped(
            f"{stop.reason}: stopped with {ended} of {len(cells)} runs finished; repeat the command to resume"
        )
    return Ran(
        tuple(done),
        tuple(named[name] for name, outcome in outcomes.items() if outcome.kind == "result"),
        {name: str(outcome.failure) for name, outcome in outcomes.items() if outcome.kind == "failure"},
        {name: str(outcome.stopped) for name, outcome in outcomes.items() if outcome.kind == "stopped"},
    )


def train_cell(cell: Cell, command: list[str], report: Report, stop: StopRequest) -> RunResult:
    """Train a cell, or resume it; the result of one that has finished in the meantime is read."""
    # Looked up again, because another process on the same folder may have started it first.
    found = started(cell)
    if found is not None and has_finished(found, cell.spec):
        return result_in(found)
    return train_one(cell.spec, cell.seed, found, command=command, report=report, stop=stop)


def started(cell: Cell) -> Path | None:
    """The folder of a cell that was started; None if it was not.

    Raises:
        ConfigError: if it has another config.
    """
    if not (cell.folder / files.CONFIG).exists():
        return None
    if keys := fixed_differences(files.load_spec(cell.folder), cell.spec):
        raise ConfigError(f"{differing(cell.folder, keys)}; or give the comparison another name=")
    return cell.folder


def _check_alike(done: Sequence[Cell]) -> None:
    """Refuse changes that resuming would allow but the report would not, because other runs have finished without."""
    for cell in done:
        for key, (there, here) in differences(files.load_spec(cell.folder), cell.spec).items():
            if key.partition(".")[0] not in FREE:
                raise ConfigError(
                    f"{cell.folder}: has finished with {key} {there}, but it is now {here}; change it back, or give "
                    "the comparison another name="
                )


def _check(todo: Sequence[Cell]) -> None:
    """Build one run of each task and arm, so that errors are reported once, before any process starts."""
    for cell in {(cell.task, cell.arm): cell for cell in todo}.values():
        if cell.spec.device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device: PyTorch finds no CUDA device for '{cell.spec.device}'; use device=cpu")
        if cell.spec.eval.video:
            rendering.set_up()
        with built(cell.spec, cell.seed):
            pass


def placed_on_a_device(spec: RunSpec, number: int) -> RunSpec:
    """Distribute runs that do not name a GPU over the available ones, in turn."""
    count = torch.cuda.device_count()
    if count < 2 or spec.device not in {"auto", "cuda"}:
        return spec
    return spec.model_copy(update={"device": f"cuda:{number % count}"})


def write_description(comparison: Comparison) -> None:
    """Write the description of the comparison, and the sizes of its arms, into its folder."""
    sizes = {task: {arm: asdict(size) for arm, size in arms.items()} for task, arms in comparison.sizes.items()}
    with files.usable(comparison.folder):
        comparison.folder.mkdir(parents=True, exist_ok=True)
        for name, text in ((COMPARISON, comparison.text), (SIZES, json.dumps(sizes, indent=2) + "\n")):
            path = comparison.folder / name
            if not path.is_file() or path.read_bytes() != text.encode():
                files.write_text(path, text)
