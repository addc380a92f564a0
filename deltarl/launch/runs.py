"""Train or resume the seeds of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from deltarl import places, rendering
from deltarl.errors import ConfigError, SeedFailedError
from deltarl.launch.display import Display, default_console
from deltarl.launch.launcher import Job, Launcher, Outcome, Result
from deltarl.launch.local import InTurn, Processes, default_jobs
from deltarl.training import folder as files
from deltarl.training.build import built
from deltarl.training.callbacks import Callbacks, as_callbacks, copies
from deltarl.training.differences import differing, fixed_differences
from deltarl.training.lookup import resumable_in
from deltarl.training.progress import Report
from deltarl.training.result import RunResult, result_in
from deltarl.training.resume import demand_stored_callbacks, has_finished
from deltarl.training.session import train_one
from deltarl.training.signals import StopRequest, TrainingStopped, stop_on_signals
from deltarl.training.spec import Part, RunSpec, fields_of


def train(
    spec: RunSpec,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    resume: bool = False,
    *,
    callbacks: Callbacks = None,
    launcher: Launcher | None = None,
) -> list[RunResult]:
    """Train `spec` once for each of its seeds.

    Several seeds are trained side by side, each in its own process with `spec.threads` threads; the results do not
    depend on how many run at once. A script that trains several seeds needs the guard `if __name__ == "__main__":`.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 stop the runs once they have written a checkpoint; a second signal ends the
    process at once.

    Args:
        spec: the run.
        console: where progress is shown; default: stderr.
        command: the command to record in the provenance; default: this process's.
        jobs: processes at once; default: as many as the cores allow. 1 trains in this process.
        resume: resume interrupted runs of this config, skip finished ones and start the others. The same call then
            works the first time and after every interruption.
        callbacks: a callback of Stable-Baselines3, a function of `locals` and `globals`, or a list of them. If one
            returns False, the run ends, is evaluated, and its result has the status `stopped`. A single seed calls the
            objects themselves; several seeds call pickled copies. Checkpoints store their state; with
            `checkpoint.exact`, callbacks whose state cannot be stored are refused.
        launcher: where seeds are trained, such as `deltarl.launch.on_ray.Ray`; default: on this machine.

    Returns:
        One result per seed, in the order of `spec.seeds`.

    Raises:
        ConfigError: before anything is written, if a run of the same config has finished in its folder, is
            training there or can be resumed, if the device is not available, if environment and algorithm are
            incompatible, if `spec.init_from` is not a run to start from, or if a callback cannot be copied or stored;
            with `resume`, if the existing run has a different config or no valid checkpoint.
        NonFiniteError: if an observation, reward, loss or parameter is NaN or infinite.
        TrainingStopped: if a signal requested it or the disk is full, and the run can be resumed.
        FullDiskError: if the disk had no room for any checkpoint.
        SeedFailedError: if a process failed in another way; the other seeds are still trained.
    """
    spec.check_seeds()
    if not resume:
        for seed in spec.seeds:
            files.choose_folder(spec, seed)
        return _train(
            [(spec, seed, None) for seed in spec.seeds], console, command, jobs, given=callbacks, launcher=launcher
        )
    found = {seed: files.find_run(spec, seed) for seed in spec.seeds}
    done = {
        seed: result_in(folder) for seed, folder in found.items() if folder is not None and has_finished(folder, spec)
    }
    left = [(spec, seed, found[seed]) for seed in spec.seeds if seed not in done]
    results = iter(_train(left, console, command, jobs, given=callbacks, launcher=launcher)) if left else iter(())
    return [done[seed] if seed in done else next(results) for seed in spec.seeds]


def resume(
    run: Path | str,
    changed: Callable[[Path], RunSpec] | None = None,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    *,
    callbacks: Callbacks = None,
    launcher: Launcher | None = None,
) -> list[RunResult]:
    """Resume an interrupted run from its newest valid checkpoint.

    Args:
        run: the folder of a run, or the folder that holds several seeds' runs; finished ones are skipped.
        changed: maps the path of a run's config file to the config to resume with; default: the run's own config. It
            may differ in `eval`, `checkpoint`, `gates`, `logging`, `threads` and `device`, and have a larger
            `total_timesteps`.
        console: where progress is shown; default: stderr.
        command: the command to record; default: this process's.
        jobs: processes at once; default: as many as the cores allow.
        callbacks: as in `train`; give those that the run was trained with.
        launcher: as in `train`.

    Returns:
        One result per resumed run.

    Raises:
        ConfigError: if there is no run, if all have finished, if the config differs where it must not, or if no
            checkpoint is valid.
        NonFiniteError, FullDiskError, TrainingStopped, SeedFailedError: as in `train`.
    """
    run = Path(run)
    folders = resumable_in(run)
    jobs_to_do: list[_Job] = []
    for folder in folders:
        stored = files.load_spec(folder)
        spec = stored if changed is None else changed(folder / files.CONFIG)
        spec = spec.model_copy(update={name: getattr(stored, name) for name in fields_of(Part.PLACE)})
        if keys := fixed_differences(stored, spec):
            raise differing(folder, keys)
        if not has_finished(folder, spec):
            jobs_to_do.append((spec, stored.seeds[0], folder))
    if len({seed for _, seed, _ in jobs_to_do}) < len(jobs_to_do):
        raise ConfigError(f"{run}: contains two runs of the same seed; resume one folder at a time")
    if not jobs_to_do:
        total = files.load_spec(folders[0]).total_timesteps
        ended = "already finished"
        if (result := result_in(folders[0])).status == "stopped":
            ended, total = "stopped by a callback", result.steps
        raise ConfigError(f"{run}: {ended} at {total:,} steps; to train longer, give a larger total_timesteps")
    return _train(jobs_to_do, console, command, jobs, given=callbacks, launcher=launcher)


_Job = tuple[RunSpec, int, Path | None]  # a run, its seed, and the folder to resume in


def _train(
    todo: Sequence[_Job],
    console: Console | None,
    command: list[str] | None,
    jobs: int | None,
    *,
    given: Callbacks,
    launcher: Launcher | None,
) -> list[RunResult]:
    spec = todo[0][0]
    callbacks = as_callbacks(given)
    demand_stored_callbacks(spec, callbacks)
    for_each = copies(callbacks, len(todo))
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: PyTorch finds no CUDA device for '{spec.device}'; use device=cpu")
    for run, seed, found in todo:
        places.check_folder(found or places.expanded(run.out, "out") / run.name / f"seed-{seed}", "out")
    if spec.eval.video:
        rendering.set_up()
    jobs = default_jobs(len(todo), spec.threads) if jobs is None else jobs
    work = []
    for (run, seed, found), own in zip(todo, for_each, strict=True):
        rest = command or sys.argv, own
        again = partial(_train_seed_again, run, seed, *rest)
        log = places.expanded(run.out, "out") / run.name / places.LOGS / f"seed-{seed}.log"
        work.append(Job(f"seed {seed}", partial(_train_seed, run, seed, found, *rest), again, log))
    side_by_side = launcher is not None or (jobs > 1 and len(todo) > 1)
    if launcher is None:
        launcher = Processes(jobs) if side_by_side else InTurn()
    with (
        Display([job.name for job in work], spec.total_timesteps, console or default_console()) as display,
        stop_on_signals() as stop,
    ):
        if side_by_side:
            with built(*todo[0]):
                pass  # report what cannot be built once, before any process starts
        return results_of(work, launcher.run(work, display.update, stop), stop)


def results_of(jobs: Sequence[Job[Result]], outcomes: Mapping[str, Outcome[Result]], stop: StopRequest) -> list[Result]:
    """The results of one run's seeds in the order of `jobs`, or a single exception for all of them.

    Raises:
        ConfigError, NonFiniteError, FullDiskError: if a job raised one.
        TrainingStopped: if the jobs were asked to stop.
        SeedFailedError: if a job raised anything else in its own process, or the process died.
    """
    results = {name: outcome.result for name, outcome in outcomes.items() if outcome.kind == "result"}
    failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.kind == "failure"}
    for name, failure in failures.items():
        if isinstance(failure, Exception):
            raise failure
        raise SeedFailedError(f"{name} failed, {len(results)} of {len(jobs)} seeds have finished:\n{failure}")
    if len(results) < len(jobs):
        stopped = [outcome.stopped for outcome in outcomes.values() if outcome.stopped is not None]
        raise TrainingStopped("\n".join(stopped) or f"{stop.reason}: stopped before anything started")
    return [results[job.name] for job in jobs]  # type: ignore[misc]  # None only where the job itself returns it


def _train_seed(  # noqa: PLR0917 - what a launcher calls it with comes last
    spec: RunSpec,
    seed: int,
    found: Path | None,
    command: list[str],
    callbacks: tuple[BaseCallback, ...],
    report: Report,
    stop: StopRequest,
) -> RunResult:
    return train_one(spec, seed, found, command=command, report=report, stop=stop, callbacks=callbacks)


def _train_seed_again(  # noqa: PLR0917
    spec: RunSpec,
    seed: int,
    command: list[str],
    callbacks: tuple[BaseCallback, ...],
    report: Report,
    stop: StopRequest,
) -> RunResult:
    """Train a seed whose process was lost, from its newest checkpoint if it has written one."""
    return _train_seed(spec, seed, files.find_run(spec, seed), command, callbacks, report, stop)
