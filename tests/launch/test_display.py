"""The wording of progress."""

from __future__ import annotations

import errno
import io
import os

import pytest
from rich.console import Console

from deltarl.launch.display import Display, PatientConsole, worded
from deltarl.training.progress import Progress


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(12_345, 6_789.4), "12,345 steps  6,789/s"),
        (Progress(5, 0.4, return_mean=-1234.56), "5 steps  0/s  return -1,234.6"),
        (Progress(5, 1.0, 0.0, 0.0), "5 steps  1/s  return 0.0  success 0.00"),
        (Progress(5, 1.0, 0.0, evaluating=True), "5 steps  1/s  return 0.0  evaluating"),
    ],
)
def test_what_is_not_known_yet_is_left_out(progress: Progress, text: str) -> None:
    assert worded(progress) == text


def test_elsewhere_than_on_a_terminal_there_is_a_line_for_each_tenth() -> None:
    held = io.StringIO()
    with Display(["seed 0"], 100, Console(file=held)) as display:
        for steps in (4, 11, 12, 57, 101):
            display.update("seed 0", Progress(steps, 1.0))
    assert [line.split()[2] for line in held.getvalue().splitlines()] == ["11%", "57%", "100%"]


def test_a_bar_says_what_a_run_does_before_its_first_step() -> None:
    held = io.StringIO()
    with Display(["seed 0"], 100, Console(file=held, force_terminal=True, width=80)):
        pass
    assert "building environments" in held.getvalue()


def test_a_full_disk_silences_the_progress_and_ends_nothing() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    console = PatientConsole(file=Full())
    display = Display(["seed 0"], 100, console)
    for steps in (50, 100):
        display.update("seed 0", Progress(steps, 1.0))
    assert console.quiet
