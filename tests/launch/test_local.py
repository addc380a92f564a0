"""Jobs in separate processes, and in this one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial

import forked
import pytest

from deltarl.errors import ConfigError
from deltarl.launch import SeedFailedError
from deltarl.launch.launcher import Job, Launcher, Result
from deltarl.launch.local import InTurn, Processes, default_jobs
from deltarl.launch.runs import results_of
from deltarl.training.progress import Progress, Report
from deltarl.training.signals import SIGNALS, StopRequest, TrainingStopped

Shown = list[tuple[str, Progress]]


def run_seeds(
    work: Callable[[int, Report, StopRequest], Result],
    seeds: Sequence[int],
    launcher: Launcher,
    report: Callable[[str, Progress], None] = lambda *_: None,
    stop: StopRequest | None = None,
) -> list[Result]:
    jobs = [Job(f"seed {seed}", partial(work, seed)) for seed in seeds]
    stop = StopRequest() if stop is None else stop  # false until a stop is requested
    return results_of(jobs, launcher.run(jobs, report, stop), stop)


def double(seed: int, report: Report, stop: StopRequest) -> tuple[int, int]:
    del stop
    report(Progress(seed, 2.0, return_mean=0.5))
    return 2 * seed, os.getpid()


def wrong_where(bad: int, error: str, seed: int, report: Report, stop: StopRequest) -> int:
    del report, stop
    if seed == bad:
        if error == "config":
            raise ConfigError(f"seed {seed} is wrong")
        if error == "bug":
            raise ZeroDivisionError("a bug")
        os._exit(7)
    time.sleep(0.1)
    return seed


def test_results_come_in_the_order_of_the_seeds_from_processes_of_their_own() -> None:
    shown: Shown = []
    results = run_seeds(double, [3, 1], Processes(2), lambda *progress: shown.append(progress))
    assert [value for value, _ in results] == [6, 2]
    assert len({os.getpid(), *(process for _, process in results)}) == 3
    assert sorted(shown, key=lambda each: each[0]) == [(f"seed {n}", Progress(n, 2.0, return_mean=0.5)) for n in (1, 3)]


def test_a_config_error_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    forked.launched(monkeypatch)
    with pytest.raises(ConfigError, match=r"^seed 1 is wrong$"):
        run_seeds(partial(wrong_where, 1, "config"), [0, 1], Processes(2))


@pytest.mark.parametrize(
    ("error", "message"), [("bug", "ZeroDivisionError: a bug"), ("death", "its process ended with status 7")]
)
def test_a_failed_seed_stops_no_other(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forked.launched(monkeypatch)
    with pytest.raises(SeedFailedError, match="seed 0 failed, 2 of 3 seeds have finished") as caught:
        run_seeds(partial(wrong_where, 0, error), [0, 1, 2], Processes(2))
    assert message in str(caught.value)


class Signalled:
    """A job whose process receives a signal to the whole group while it is still starting."""

    def __call__(self, seed: int, report: Report, stop: StopRequest) -> list[signal.Signals]:
        del report, stop, seed
        return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS))

    def __setstate__(self, state: object) -> None:
        for number in SIGNALS:
            os.kill(os.getpid(), number)

    def __getstate__(self) -> tuple[int]:
        return (1,)


def test_a_signal_harms_no_process_that_is_still_being_set_up() -> None:
    assert run_seeds(Signalled(), [0, 1], Processes(2)) == [[], []]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)


def until_stopped(seed: int, report: Report, stop: StopRequest) -> int:
    while not stop:
        report(Progress(0, 1.0))
        time.sleep(0.01)
    raise TrainingStopped(f"seed {seed}: {stop.reason}")


def test_a_stop_reaches_the_running_jobs_and_begins_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    forked.launched(monkeypatch)
    stop = StopRequest()
    seen: set[str] = set()

    def report(name: str, progress: Progress) -> None:
        del progress
        seen.add(name)
        if len(seen) == 2:
            stop.make("SIGTERM")

    with pytest.raises(TrainingStopped) as caught:
        run_seeds(until_stopped, [0, 1, 2], Processes(2), report, stop)
    assert sorted(str(caught.value).split("\n")) == ["seed 0: SIGTERM", "seed 1: SIGTERM"]
    assert caught.value.code == 75


def test_in_turn_a_failed_job_stops_no_other() -> None:
    ran: list[int] = []
    shown: Shown = []

    def work(seed: int, report: Report, stop: StopRequest) -> int:
        del stop
        report(Progress(seed, 2.0))
        if seed == 1:
            raise ZeroDivisionError("a bug")
        ran.append(seed)
        return seed

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_seeds(work, [0, 1, 2], InTurn(), lambda *progress: shown.append(progress))
    assert ran == [0, 2]
    assert shown == [(f"seed {n}", Progress(n, 2.0)) for n in (0, 1, 2)]
    assert run_seeds(work, [2, 0], InTurn()) == [2, 0]


def test_in_turn_a_stop_ends_all() -> None:
    stop = StopRequest()
    with pytest.raises(TrainingStopped, match="seed 0: SIGTERM"):
        run_seeds(until_stopped, [0, 1], InTurn(), lambda *_: stop.make("SIGTERM"), stop)


def test_there_are_as_many_processes_as_cores_allow() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_jobs(jobs=1_000, threads=1) == cores
    assert default_jobs(jobs=1, threads=1) == 1
    assert default_jobs(jobs=3, threads=10 * cores) == 1


def unpicklable(report: Report, stop: StopRequest) -> object:
    del report, stop
    return lambda: None


def test_a_result_that_cannot_be_sent_says_why() -> None:
    outcomes = Processes(1).run([Job("one", unpicklable)], lambda *_: None, StopRequest())
    assert "pickle" in str(outcomes["one"].failure)
