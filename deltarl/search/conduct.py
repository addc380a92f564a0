"""Conducts a search: workers side by side on one study, and a report at the end."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from deltarl import places, rendering
from deltarl.errors import ConfigError, SeedFailedError
from deltarl.launch.display import default_console
from deltarl.launch.launcher import Job, Launcher
from deltarl.launch.local import InTurn, Processes, default_jobs
from deltarl.search.given import give
from deltarl.search.progress import Board
from deltarl.search.report import BEST, PAGE, Found, found_in, write_report
from deltarl.search.space import Value
from deltarl.search.spec import Search
from deltarl.search.storage import LOCK, Place, check_packages, check_same, open_study, write_study
from deltarl.search.trials import Budget, work
from deltarl.training import folder as files
from deltarl.training.build import built
from deltarl.training.locks import locked
from deltarl.training.signals import TrainingStopped, stop_on_signals

DEFAULT_TRIALS = 30  # of a study, if neither a number nor a time is given


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    Attributes:
        folder: the study's folder.
        found: its trials.
        best: the best config's file; None if no trial has finished.
        page: Optuna's plots.
    """

    folder: Path
    found: Found
    best: Path | None
    page: Path


def tune(
    search: Search,
    console: Console | None = None,
    command: list[str] | None = None,
    *,
    trials: int | None = None,
    hours: float | None = None,
    jobs: int | None = None,
    storage: str | None = None,
    launcher: Launcher | None = None,
    given: Mapping[str, Mapping[str, Value]] | None = None,
) -> Tuned:
    """Search for the best values of a config's options.

    Every trial is a run of the library for each of the tuning seeds, below `trials` in the study's folder. The same
    call resumes a stopped study: finished trials stay, and running ones resume from their checkpoints.
    Several calls may work on one study at the same time.

    Args:
        search: from `load_search`.
        console: where progress is shown; default: stderr.
        command: the command to record in the provenance; default: this process's.
        trials: trials of the whole study, earlier ones included; default: 30, or any number if `hours` is given.
        hours: no trial begins after this time; running ones are trained to their end.
        jobs: trials at once; default: as many as the cores allow. 1 trains in this process.
        storage: Optuna's URL, or `journal:PATH` for a journal file; default: SQLite in the study's folder.
        launcher: where trials are trained, such as `deltarl.launch.on_ray.Ray`; default: in processes of this machine.
        given: values of options by path, for trials that are trained once and to their end, by where the values come
            from; they count among `trials`.

    Raises:
        ConfigError: before anything is written, if the folder contains something else, if the runs cannot be built, or
            if the storage cannot be reached.
        TrainingStopped: if a signal requested it, once everything is stored.
        SeedFailedError: if the process of a worker died.
    """
    console, command = console or default_console(), command or sys.argv
    check_packages(search)
    place = Place(search.folder, storage)
    most = trials if trials is not None or hours is not None else DEFAULT_TRIALS
    budget = Budget(most, None if hours is None else time.time() + 3600 * hours)
    check_same(search, place)
    places.check_folder(place.folder, "out")
    _check(search)
    if storage is not None:
        open_study(search, place)  # before anything is written
    with files.usable(place.folder):
        place.folder.mkdir(parents=True, exist_ok=True)
        with locked(place.folder / LOCK, wait=True):
            check_same(search, place)  # another process may have begun it meanwhile
            write_study(search, place)
    with files.usable(place.folder), locked(place.folder / LOCK, wait=True):
        study = open_study(search, place)
        for source, values in (given or {}).items():
            give(search, study, values, source)
    try:
        if left := _left(budget, found_in(study)):
            jobs = default_jobs(left, search.run.threads) if jobs is None else min(jobs, left)
            where = launcher or (Processes(jobs) if jobs > 1 else InTurn())
            _work(search, place, budget, console, command, where, workers=min(left, where.room()))
    finally:
        # What there is so far is of use when the study was stopped, too.
        with files.usable(place.folder), locked(place.folder / LOCK, wait=True):
            found = write_report(search, place, study, _shown(command))
    best = place.folder / BEST
    return Tuned(place.folder, found, best if found.best else None, place.folder / PAGE)


def _check(search: Search) -> None:
    """Build one run, so that an error that every trial would hit is reported once, before anything is written."""
    run = search.run
    if run.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: PyTorch finds no CUDA device for '{run.device}'; use device=cpu")
    if run.eval.video:
        rendering.set_up()
    for seed in (search.seeds[0], search.seeds[-1]):
        run.env.first_seed(seed)
    with built(run, search.seeds[0]):
        pass


def _left(budget: Budget, found: Found) -> int:
    """Trials that have not ended."""
    ended = sum(count for state, count in found.counts.items() if state not in {"running", "waiting"})
    return sys.maxsize if budget.trials is None else max(0, budget.trials - ended)


def _work(  # noqa: PLR0917
    search: Search,
    place: Place,
    budget: Budget,
    console: Console,
    command: list[str],
    launcher: Launcher,
    workers: int,
) -> None:
    jobs = [
        Job(
            f"worker {number}",
            partial(work, search, place, budget, command),
            log=place.folder / places.LOGS / f"worker-{number}.log",
        )
        for number in range(1, workers + 1)
    ]
    with Board(budget.trials, console) as board, stop_on_signals() as stop:
        try:
            outcomes = launcher.run(jobs, board.update, stop)
        except TrainingStopped:
            if not stop:
                raise
    if stop:
        raise TrainingStopped(f"{stop.reason}: stopped; repeat the command to resume {place.folder}")
    for name, outcome in outcomes.items():
        if isinstance(outcome.failure, Exception):
            raise outcome.failure
        if outcome.kind == "failure":
            raise SeedFailedError(f"{name} failed; repeat the command to continue:\n{outcome.failure}")
        if outcome.stopped is not None:
            raise TrainingStopped(outcome.stopped)


def _shown(command: list[str]) -> list[str]:
    """The command, without the path of the program."""
    return [Path(command[0]).name, *map(shlex.quote, command[1:])] if command else []
