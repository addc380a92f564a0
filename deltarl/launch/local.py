"""Jobs in processes of their own, side by side: the seeds of a run, or the runs of a comparison."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, TypeVar

from deltarl.disk import FullDiskError
from deltarl.errors import ConfigError
from deltarl.training.finite import NonFiniteError
from deltarl.training.progress import Report
from deltarl.training.signals import StopRequest, TrainingStopped, held_back, stop_on_message

EXIT_SECONDS = 10
LOOK_SECONDS = 0.2
Result = TypeVar("Result")
Job = Callable[[int, Report, StopRequest], Result]  # called with its number, of a seed or whatever it may be


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """How a job ended.

    Attributes:
        result: what it returned, if it finished.
        failure: what it raised, or of what the user need not know the type, its traceback.
        stopped: what it said when it was asked to stop.
    """

    kind: Literal["result", "failure", "stopped"]
    result: Result | None = None
    failure: Exception | str | None = None
    stopped: str | None = None


class SeedFailedError(RuntimeError):
    """Some seeds failed where others finished; the message holds what was raised for the first of them."""


def default_jobs(seeds: int, threads: int) -> int:
    """As many processes as there are cores for them, and no more than seeds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(seeds, cores // threads))


def run_in_turn(
    job: Job[Result], seeds: Sequence[int], report: Callable[[int], Report], stop: StopRequest
) -> list[Result]:
    """Call `job(seed, report(seed), stop)` for each seed, one after the other, in this process.

    A seed that fails takes no other with it: what the first one raised is raised when all have ended. A stop ends all.
    """
    results: list[Result] = []
    failures: list[Exception] = []
    for seed in seeds:
        try:
            results.append(job(seed, report(seed), stop))
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return results


def run_seeds(
    job: Job[Result],
    seeds: Sequence[int],
    jobs: int,
    report: Callable[[int, int, str], None],
    stop: StopRequest,
) -> list[Result]:
    """`run_apart` for the seeds of one run: their results in order, or one exception for all.

    Raises:
        ConfigError, NonFiniteError, FullDiskError: if a job raised one.
        TrainingStopped: if the jobs were asked to stop, when they have.
        SeedFailedError: if a job raised anything else, or its process died.
    """
    outcomes = run_apart(job, seeds, jobs, report, stop)
    results = {seed: outcome.result for seed, outcome in outcomes.items() if outcome.kind == "result"}
    failures = {seed: outcome.failure for seed, outcome in outcomes.items() if outcome.kind == "failure"}
    for seed, failure in failures.items():
        if isinstance(failure, Exception):
            raise failure
        raise SeedFailedError(f"seed {seed} failed, {len(results)} of {len(seeds)} seeds have finished:\n{failure}")
    if len(results) < len(seeds):
        stopped = [outcome.stopped for outcome in outcomes.values() if outcome.stopped is not None]
        raise TrainingStopped("\n".join(stopped) or f"{stop.reason}: stopped before anything had begun")
    return [results[seed] for seed in seeds]  # type: ignore[misc]  # None only where the job itself returns it


def run_apart(
    job: Job[Result],
    numbers: Sequence[int],
    jobs: int,
    report: Callable[[int, int, str], None],
    stop: StopRequest,
    *,
    ended: Callable[[int, Outcome[Result]], None] = lambda _number, _outcome: None,
) -> dict[int, Outcome[Result]]:
    """Call `job(number, report, stop)` for each number, at most `jobs` at once, each in a fresh Python process.

    A job that fails takes no other with it.

    Args:
        job: a picklable callable.
        numbers: what it is called with.
        jobs: processes at once.
        report: called with number, steps and state as the jobs report them.
        stop: when it is made, the running jobs are asked to stop, and no others are begun.
        ended: called with number and outcome as the jobs end.

    Returns:
        The outcome of each job that was begun.
    """
    waiting = list(numbers)
    outcomes: dict[int, Outcome[Result]] = {}
    with _Children(job, stop) as children:
        while waiting or children.running:
            if stop:
                waiting = []
                children.tell(stop.reason)
            while waiting and len(children.running) < jobs:
                children.start(waiting.pop(0))
            for number, kind, content in children.messages():
                if kind == "progress":
                    report(number, *content)
                else:
                    outcomes[number] = Outcome(kind, **{kind: content})  # type: ignore[arg-type]
                    ended(number, outcomes[number])
    return outcomes


class _Children:
    """Processes, each with a number and a pipe; none outlives the context."""

    def __init__(self, job: Job[Any], stop: StopRequest) -> None:
        # A fork of a process that has run PyTorch or a renderer can hang.
        self._context = multiprocessing.get_context("spawn")
        self._job, self._stop = job, stop
        self._told = False
        self.running: dict[Connection[Any, Any], tuple[int, BaseProcess]] = {}

    def __enter__(self) -> _Children:
        with held_back():  # Python's own helper process inherits that, and would else be begun within `start`
            resource_tracker.ensure_running()
        return self

    def __exit__(self, *exception: object) -> None:
        for _, process in self.running.values():
            process.kill()
            process.join()

    def start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=_run, args=(self._job, number, theirs), name=f"job {number}")
        with held_back():  # until the child knows what to do with them
            child.start()
        theirs.close()
        self.running[ours] = (number, child)

    def tell(self, reason: str | None) -> None:
        """Ask all to stop, once."""
        for connection in () if self._told else self.running:
            with suppress(OSError):
                connection.send(reason)
        self._told = True

    def messages(self) -> Iterator[tuple[int, str, Any]]:
        """Number, kind and content of what has come; of a process that says no more, its end."""
        for connection in wait(list(self.running), timeout=LOOK_SECONDS):
            assert isinstance(connection, Connection)
            number, process = self.running[connection]
            kind, content = self._receive(connection, process)
            if kind != "progress":
                # Its work is done and written; what hangs in its exit is nobody's loss.
                process.join(EXIT_SECONDS)
                if process.is_alive():
                    process.kill()
                del self.running[connection]
            yield number, kind, content

    def _receive(self, connection: Connection[Any, Any], process: BaseProcess) -> tuple[str, Any]:
        try:
            kind, content = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            kind = "stopped" if self._stop else "failure"
            return kind, f"its process ended with status {process.exitcode}"
        return kind, content


def _run(job: Job[Any], number: int, connection: Connection[Any, Any]) -> None:
    with stop_on_message(connection) as stop:
        try:
            result = job(number, lambda steps, state: connection.send(("progress", (steps, state))), stop)
            connection.send(("result", result))
        except TrainingStopped as error:
            connection.send(("stopped", str(error)))
        except (ConfigError, NonFiniteError, FullDiskError) as error:
            connection.send(("failure", error))
        except BaseException:
            connection.send(("failure", traceback.format_exc()))
