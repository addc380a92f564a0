"""What a launcher is: it runs named jobs somewhere, passes on how far they come, and says how each ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from deltarl.training.progress import Progress, Report
from deltarl.training.signals import StopRequest

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job(Generic[Result]):
    """Something to run.

    Attributes:
        name: what it is called, unlike all others of a call.
        work: called with where progress goes and whether to stop; picklable, for it may run in another process.
    """

    name: str
    work: Callable[[Report, StopRequest], Result]


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


class Launcher(Protocol):
    """Where jobs run."""

    def run(
        self,
        jobs: Sequence[Job[Result]],
        report: Callable[[str, Progress], None],
        stop: StopRequest,
        *,
        ended: Callable[[str, Outcome[Result]], None] = lambda _name, _outcome: None,
    ) -> dict[str, Outcome[Result]]:
        """Run jobs. One that fails takes no other with it.

        Args:
            jobs: of names that differ.
            report: called with a job's name and how far it has come.
            stop: when it is made, the running jobs are asked to stop, and no others are begun.
            ended: called with a job's name and outcome when it has ended.

        Returns:
            The outcome of each job that was begun, by its name.
        """
