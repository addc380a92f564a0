"""The seeds of a run in processes of their own, side by side."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from deltarl.errors import ConfigError
from deltarl.training.progress import Report

EXIT_SECONDS = 10
Result = TypeVar("Result")
Job = Callable[[int, Report], Result]  # trains one seed


class SeedFailedError(RuntimeError):
    """Some seeds failed where others finished; the message holds what was raised for the first of them."""


def default_jobs(seeds: int, threads: int) -> int:
    """As many processes as there are cores for them, and no more than seeds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(seeds, cores // threads))


def run_seeds(
    job: Job[Result], seeds: Sequence[int], jobs: int, report: Callable[[int, int, str], None]
) -> list[Result]:
    """Call `job(seed, report)` for each seed, at most `jobs` at once, each in a fresh Python process.

    A seed that fails takes no other with it: what it raised is raised when all have ended.

    Args:
        job: a picklable callable.
        seeds: what it is called with.
        jobs: processes at once.
        report: called with seed, steps and state as the jobs report them.

    Raises:
        ConfigError: if a job raised one.
        SeedFailedError: if a job raised anything else, or its process died.
    """
    # A fork of a process that has run PyTorch or a renderer can hang.
    context = multiprocessing.get_context("spawn")
    waiting = list(seeds)
    results: dict[int, Result] = {}
    failures: dict[int, ConfigError | str] = {}
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                seed = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                child = context.Process(target=_run, args=(job, seed, theirs), name=f"seed {seed}")
                child.start()
                theirs.close()
                running[ours] = (seed, child)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                seed, process = running[connection]
                kind, content = _receive(connection, process)
                if kind == "progress":
                    report(seed, *content)
                    continue
                if kind == "result":
                    results[seed] = content
                else:
                    failures[seed] = content
                # Its work is done and written; what hangs in its exit is nobody's loss.
                process.join(EXIT_SECONDS)
                if process.is_alive():
                    process.kill()
                del running[connection]
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    for seed, failure in failures.items():
        if isinstance(failure, ConfigError):
            raise failure
        raise SeedFailedError(f"seed {seed} failed, {len(results)} of {len(seeds)} seeds have finished:\n{failure}")
    return [results[seed] for seed in seeds]


def _receive(connection: Connection, process: BaseProcess) -> tuple[str, Any]:
    try:
        kind, content = connection.recv()
    except EOFError:
        process.join()
        return "failure", f"its process ended with status {process.exitcode}"
    return kind, content


def _run(job: Job[Any], seed: int, connection: Connection) -> None:
    try:
        result = job(seed, lambda steps, state: connection.send(("progress", (steps, state))))
        connection.send(("result", result))
    except KeyboardInterrupt:
        return  # the parent has had it too, and says so
    except ConfigError as error:
        connection.send(("failure", error))
    except BaseException:
        connection.send(("failure", traceback.format_exc()))
