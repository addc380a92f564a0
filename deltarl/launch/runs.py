"""Train the seeds of a run, or go on with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from deltarl import places, rendering
from deltarl.errors import ConfigError, SeedFailedError
from deltarl.launch.display import Display, default_console
from deltarl.launch.launcher import Job, Launcher, Outcome, Result
from deltarl.launch.local import InTurn, Processes, default_jobs
from deltarl.reading import check_plain
from deltarl.training import folder as files
from deltarl.training.build import built
from deltarl.training.progress import Report
from deltarl.training.result import RunResult, result_in
from deltarl.training.resume import has_finished
from deltarl.training.session import train_one
from deltarl.training.signals import StopRequest, TrainingStopped, stop_on_signals
from deltarl.training.spec import Part, RunSpec, fields_of


def train(
    spec: RunSpec,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    resume: bool = False,
) -> list[RunResult]:
    """Train `spec` once for each of its seeds.

    Several seeds are trained side by side, each in a process of its own with `spec.threads` threads; what is learned
    does not depend on how many at once. A script that trains several seeds needs Python's usual guard,
    `if __name__ == "__main__":`.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 stop the runs once they have written a checkpoint; a second one ends the
    process at once.

    Args:
        spec: the run.
        console: where progress goes, stderr if not given.
        command: what the provenance names as the command, this process's own if not given.
        jobs: processes at once; as many as the cores allow if not given; 1 trains in this process.
        resume: go on with runs of this config that were interrupted, and leave alone those that have finished; those
            that have not begun are begun. The same call is then right the first time and after every interruption.

    Returns:
        One result a seed, in the order of `spec.seeds`.

    Raises:
        ConfigError: before anything is written, if a run of the same config has finished in its folder, is
            training there or can be resumed, if the device is not to be had, if environment and algorithm do not fit
            each other, or if `spec.init_from` is no run to start from; with `resume`, if the run that is there has
            another config or no checkpoint that verifies.
        NonFiniteError: if an observation, a reward, a loss or a parameter is NaN or infinite.
        TrainingStopped: if a signal asked for it, or the disk is full, and the run can be gone on with.
        FullDiskError: if the disk had no room for any checkpoint.
        SeedFailedError: if a process failed in another way; the other seeds are trained all the same.
    """
    spec.check_seeds()
    if not resume:
        for seed in spec.seeds:
            files.choose_folder(spec, seed)
        return _train([(spec, seed, None) for seed in spec.seeds], console, command, jobs)
    found = {seed: files.find_run(spec, seed) for seed in spec.seeds}
    done = {
        seed: result_in(folder) for seed, folder in found.items() if folder is not None and has_finished(folder, spec)
    }
    left = [(spec, seed, found[seed]) for seed in spec.seeds if seed not in done]
    results = iter(_train(left, console, command, jobs)) if left else iter(())
    return [done[seed] if seed in done else next(results) for seed in spec.seeds]


def resume(
    run: Path | str,
    changed: Callable[[Path], RunSpec] | None = None,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
) -> list[RunResult]:
    """Go on with an interrupted run from its newest checkpoint that verifies, as if nothing had happened.

    Args:
        run: the folder of a run, or one that holds several seeds' runs, of which those that have finished are left.
        changed: gives the config to go on with for a run's config file; its own if not given. It may differ in
            `eval`, `checkpoint`, `threads`, `device`, and have a larger `total_timesteps`.
        console: as in `train`.
        command: as in `train`.
        jobs: as in `train`.

    Returns:
        One result for each run that was gone on with.

    Raises:
        ConfigError: if there is no run, if all have finished, if the config differs where it must not, or if no
            checkpoint verifies.
        NonFiniteError, FullDiskError, TrainingStopped, SeedFailedError: as in `train`.
    """
    run = Path(run)
    folders = _runs_in(run)
    jobs_to_do: list[_Job] = []
    for folder in folders:
        stored = files.load_spec(folder)
        spec = stored if changed is None else changed(folder / files.CONFIG)
        spec = spec.model_copy(update={name: getattr(stored, name) for name in fields_of(Part.PLACE)})
        if keys := files.fixed_differences(stored, spec):
            raise files.differing(folder, keys)
        if not has_finished(folder, spec):
            jobs_to_do.append((spec, stored.seeds[0], folder))
    if len({seed for _, seed, _ in jobs_to_do}) < len(jobs_to_do):
        raise ConfigError(f"{run}: holds the same seed's run twice; resume one folder at a time")
    if not jobs_to_do:
        total = files.load_spec(folders[0]).total_timesteps
        raise ConfigError(f"{run}: has finished, at {total:,} steps; to train longer, give a larger total_timesteps")
    return _train(jobs_to_do, console, command, jobs)


_Job = tuple[RunSpec, int, Path | None]  # a run, its seed, and the folder of one to go on with


def _train(
    todo: Sequence[_Job], console: Console | None, command: list[str] | None, jobs: int | None
) -> list[RunResult]:
    spec = todo[0][0]
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: PyTorch finds no CUDA device for '{spec.device}'; use device=cpu")
    for run, seed, found in todo:
        places.check_folder(found or places.expanded(run.out, "out") / run.name / f"seed-{seed}", "out")
    if spec.eval.video:
        rendering.set_up()
    jobs = default_jobs(len(todo), spec.threads) if jobs is None else jobs
    work = [
        Job(f"seed {seed}", partial(_train_seed, run, seed, found, command or sys.argv)) for run, seed, found in todo
    ]
    side_by_side = jobs > 1 and len(todo) > 1
    launcher: Launcher = Processes(jobs) if side_by_side else InTurn()
    with (
        Display([job.name for job in work], spec.total_timesteps, console or default_console()) as display,
        stop_on_signals() as stop,
    ):
        if side_by_side:
            with built(*todo[0]):
                pass  # what cannot be made is said once, and before any process starts
        return results_of(work, launcher.run(work, display.update, stop), stop)


def results_of(jobs: Sequence[Job[Result]], outcomes: Mapping[str, Outcome[Result]], stop: StopRequest) -> list[Result]:
    """The results of the seeds of one run, in the order of `jobs`, or one exception for all.

    Raises:
        ConfigError, NonFiniteError, FullDiskError: if a job raised one.
        TrainingStopped: if the jobs were asked to stop, when they have.
        SeedFailedError: if a job raised anything else in a process of its own, or that died.
    """
    results = {name: outcome.result for name, outcome in outcomes.items() if outcome.kind == "result"}
    failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.kind == "failure"}
    for name, failure in failures.items():
        if isinstance(failure, Exception):
            raise failure
        raise SeedFailedError(f"{name} failed, {len(results)} of {len(jobs)} seeds have finished:\n{failure}")
    if len(results) < len(jobs):
        stopped = [outcome.stopped for outcome in outcomes.values() if outcome.stopped is not None]
        raise TrainingStopped("\n".join(stopped) or f"{stop.reason}: stopped before anything had begun")
    return [results[job.name] for job in jobs]  # type: ignore[misc]  # None only where the job itself returns it


def _train_seed(  # noqa: PLR0917 - what a launcher calls it with comes last
    spec: RunSpec, seed: int, found: Path | None, command: list[str], report: Report, stop: StopRequest
) -> RunResult:
    return train_one(spec, seed, found, command=command, report=report, stop=stop)


def _runs_in(folder: Path) -> list[Path]:
    """A run's folder itself, or those of its seeds."""
    found = [folder] if (folder / files.CONFIG).is_file() else []
    for path in () if found else sorted(folder.glob("seed-*")):
        if path.is_symlink():
            raise ConfigError(f"{path}: is a link; resume what it points to instead")
        if path.name[5:].isdigit() and (path / files.CONFIG).is_file():
            found.append(path)
    if not found:
        raise ConfigError(f"{folder}: no run there" if folder.is_dir() else f"{folder}: no such folder")
    for path in found:
        check_plain(path)
    return found
