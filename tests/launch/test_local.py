"""Seeds in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest

from deltarl.errors import ConfigError
from deltarl.launch.local import SeedFailedError, default_jobs, run_seeds
from deltarl.training.progress import Report
from deltarl.training.signals import SIGNALS, StopRequest, TrainingStopped

Shown = list[tuple[int, int, str]]


def double(seed: int, report: Report, stop: StopRequest) -> tuple[int, int]:
    del stop
    report(seed, f"at {seed}")
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
    results = run_seeds(double, [3, 1, 2], 2, lambda *progress: shown.append(progress), StopRequest())
    assert [value for value, _ in results] == [6, 2, 4]
    assert len({os.getpid(), *(process for _, process in results)}) == 4
    assert sorted(shown) == [(1, 1, "at 1"), (2, 2, "at 2"), (3, 3, "at 3")]


def test_a_config_error_is_raised_as_it_is() -> None:
    with pytest.raises(ConfigError, match=r"^seed 1 is wrong$"):
        run_seeds(partial(wrong_where, 1, "config"), [0, 1], 2, lambda *_: None, StopRequest())


@pytest.mark.parametrize(
    ("error", "message"), [("bug", "ZeroDivisionError: a bug"), ("death", "its process ended with status 7")]
)
def test_a_seed_that_fails_takes_no_other_with_it(error: str, message: str) -> None:
    with pytest.raises(SeedFailedError, match="seed 0 failed, 2 of 3 seeds have finished") as caught:
        run_seeds(partial(wrong_where, 0, error), [0, 1, 2], 2, lambda *_: None, StopRequest())
    assert message in str(caught.value)


class Signalled:
    """A job that a signal to the whole group meets while its process is still being set up."""

    def __call__(self, seed: int, report: Report, stop: StopRequest) -> list[signal.Signals]:
        del report, stop, seed
        return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS))

    def __setstate__(self, state: object) -> None:
        for number in SIGNALS:
            os.kill(os.getpid(), number)

    def __getstate__(self) -> tuple[int]:
        return (1,)


def test_a_signal_harms_no_process_that_is_still_being_set_up() -> None:
    assert run_seeds(Signalled(), [0, 1], 2, lambda *_: None, StopRequest()) == [[], []]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)


def until_stopped(seed: int, report: Report, stop: StopRequest) -> int:
    while not stop:
        report(seed, "going on")
        time.sleep(0.01)
    raise TrainingStopped(f"seed {seed}: {stop.reason}")


def test_a_stop_reaches_the_running_jobs_and_begins_no_others() -> None:
    stop = StopRequest()
    seen: set[int] = set()

    def report(seed: int, steps: int, state: str) -> None:
        del steps, state
        seen.add(seed)
        if len(seen) == 2:
            stop.make("SIGTERM")

    with pytest.raises(TrainingStopped) as caught:
        run_seeds(until_stopped, [0, 1, 2], 2, report, stop)
    assert sorted(str(caught.value).split("\n")) == ["seed 0: SIGTERM", "seed 1: SIGTERM"]
    assert caught.value.code == 75


def test_there_are_as_many_processes_as_cores_allow() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_jobs(seeds=1_000, threads=1) == cores
    assert default_jobs(seeds=1, threads=1) == 1
    assert default_jobs(seeds=3, threads=10 * cores) == 1
