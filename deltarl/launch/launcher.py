"""The launcher protocol: run named jobs somewhere, pass on their progress, and return how each ended."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from deltarl.disk import FullDiskError
from deltarl.errors import ConfigError, NonFiniteError
from deltarl.training.progress import Progress, Report
from deltarl.training.signals import StopRequest, TrainingStopped

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Something to run.

    Attributes:
        name: unique among the jobs of a call.
        work: called with a function to report progress to and a stop request. It must be picklable, because it may run
            in another process.
        again: called in place of `work` if the process or machine that did the work was lost; default: `work`.
        log: the file for what the work prints where nobody would see it, as on a cluster.
    """

    name: str
    work: Callable[[Report, StopRequest], Result]
    again: Callable[[Report, StopRequest], Result] | None = None
    log: Path | None = None


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """How a job ended.

    Attributes:
        result: its return value, if it finished.
        failure: the exception it raised, or the traceback if the exception is not one of the library's own.
        stopped: its message, if it was asked to stop.
    """

    kind: Literal["result", "failure", "stopped"]
    result: Result | None = None
    failure: Exception | str | None = None
    stopped: str | None = None


# By the names of jobs: what is called with their progress and with their outcomes, and all outcomes.
Told = Callable[[str, Progress], None]
Ended = Callable[[str, Outcome[Result]], None]
Outcomes = dict[str, Outcome[Result]]


def unheard(_name: str, _outcome: Outcome[Any]) -> None:
    """The default of `ended`."""


class Launcher(Protocol):
    """Where jobs run."""

    def room(self) -> int:
        """How many jobs can run at once, at least 1."""

    def run(
        self, jobs: Sequence[Job[Result]], report: Told, stop: StopRequest, *, ended: Ended[Result] = unheard
    ) -> Outcomes[Result]:
        """Run jobs. A job that fails does not stop the others.

        Args:
            jobs: jobs with distinct names.
            report: called with a job's name and its progress.
            stop: once requested, running jobs are asked to stop and no others are started.
            ended: called with a job's name and outcome when it has ended.

        Returns:
            The outcome of each started job, by name.
        """


def ended_as(work: Callable[[Report, StopRequest], Result], report: Report, stop: StopRequest) -> Outcome[Result]:
    """Do a job's work, and return how it ended in a form that can be sent to another process."""
    try:
        return Outcome("result", work(report, stop))
    except TrainingStopped as error:
        return Outcome("stopped", stopped=str(error))
    except (ConfigError, NonFiniteError, FullDiskError) as error:
        return Outcome("failure", failure=error)
    except BaseException:
        return Outcome("failure", failure=traceback.format_exc())
