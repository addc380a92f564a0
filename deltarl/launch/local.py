"""Launchers on this machine: side by side in separate processes, or one after the other in this one."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from deltarl.launch.launcher import Ended, Job, Outcome, Outcomes, Result, Told, ended_as, unheard
from deltarl.training.progress import Progress, Report
from deltarl.training.signals import StopRequest, held_back, stop_on_message

EXIT_SECONDS = 10
LOOK_SECONDS = 0.2


def default_jobs(jobs: int, threads: int) -> int:
    """The number of processes that the cores can run with this many threads each, and at most `jobs`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(jobs, cores // threads))


class InTurn:
    """Run jobs one after the other in this process. A stop request ends all of them."""

    def room(self) -> int:
        """One job; see `Launcher.room`."""
        return 1

    def run(
        self, jobs: Sequence[Job[Result]], report: Told, stop: StopRequest, *, ended: Ended[Result] = unheard
    ) -> Outcomes[Result]:
        """Run jobs; unlike other launchers, raise what a job raises.

        Raises:
            TrainingStopped: from the job that was stopped.
        """
        outcomes: Outcomes[Result] = {}
        for job in jobs:
            try:
                outcomes[job.name] = Outcome("result", job.work(partial(report, job.name), stop))
            except Exception as error:
                outcomes[job.name] = Outcome("failure", failure=error)
            ended(job.name, outcomes[job.name])
        return outcomes


class Processes:
    """Run each job in a fresh Python process.

    Args:
        most: the maximum number of processes at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def room(self) -> int:
        """See `Launcher.room`."""
        return self.most

    def run(
        self, jobs: Sequence[Job[Result]], report: Told, stop: StopRequest, *, ended: Ended[Result] = unheard
    ) -> Outcomes[Result]:
        """Run jobs; see `Launcher.run`."""
        waiting = list(jobs)
        outcomes: Outcomes[Result] = {}
        with _Children(stop) as children:
            while waiting or children.running:
                if stop:
                    waiting = []
                    children.tell(stop.reason)
                while waiting and len(children.running) < self.most:
                    children.start(waiting.pop(0))
                for name, message in children.messages():
                    if isinstance(message, Progress):
                        report(name, message)
                    else:
                        outcomes[name] = message
                        ended(name, message)
        return outcomes


class _Children:
    """Child processes, each with a job and a pipe; none outlives the context."""

    def __init__(self, stop: StopRequest) -> None:
        # Not fork: a fork of a process that has used PyTorch or a renderer can hang.
        self._context = multiprocessing.get_context("spawn")
        self._stop = stop
        self._told = False
        self.running: dict[Connection[Any, Any], tuple[str, BaseProcess]] = {}

    def __enter__(self) -> _Children:
        with held_back():  # Python's helper process inherits the mask; it would otherwise be started within `start`
            resource_tracker.ensure_running()
        return self

    def __exit__(self, *exception: object) -> None:
        for _, process in self.running.values():
            process.kill()
            process.join()

    def start(self, job: Job[Any]) -> None:
        ours, theirs = self._context.Pipe()
        child = self._context.Process(target=_run, args=(job.work, theirs), name=job.name)
        with held_back():  # until the child has installed its handlers
            child.start()
        theirs.close()
        self.running[ours] = (job.name, child)

    def tell(self, reason: str | None) -> None:
        """Ask all children to stop, once."""
        for connection in () if self._told else self.running:
            with suppress(OSError):
                connection.send(reason)
        self._told = True

    def messages(self) -> Iterator[tuple[str, Progress | Outcome[Any]]]:
        """Yield a job's name with its progress, or with its outcome, also that of a process that ended without one."""
        for connection in wait(list(self.running), timeout=LOOK_SECONDS):
            assert isinstance(connection, Connection)
            name, process = self.running[connection]
            message = self._receive(connection, process)
            if isinstance(message, Outcome):
                # Its work is done and written; nothing is lost if it hangs at exit.
                process.join(EXIT_SECONDS)
                if process.is_alive():
                    process.kill()
                del self.running[connection]
            yield name, message

    def _receive(self, connection: Connection[Any, Any], process: BaseProcess) -> Progress | Outcome[Any]:
        try:
            received: Progress | Outcome[Any] = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            how = f"its process ended with status {process.exitcode}"
            return Outcome("stopped", stopped=how) if self._stop else Outcome("failure", failure=how)
        return received


def _run(work: Callable[[Report, StopRequest], Any], connection: Connection[Any, Any]) -> None:
    with stop_on_message(connection) as stop:
        outcome = ended_as(work, connection.send, stop)
        try:
            connection.send(outcome)
        except Exception:  # it cannot be pickled
            connection.send(Outcome("failure", failure=traceback.format_exc()))
