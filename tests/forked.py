"""Commands and scripts in separate processes that need not import everything again.

Each is forked from a process that has imported deltarl and done nothing else. It is as isolated from the tests and from
other commands as a new Python process, without the seconds that the imports take.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch

CONTEXT = multiprocessing.get_context("forkserver")
# Without MuJoCo, which chooses its rendering backend at import. The first optimizer of a process imports torch._dynamo.
_COMMANDS = ["deltarl.cli", "deltarl.comparison.report", "deltarl.launch.runs"]
CONTEXT.set_forkserver_preload([*_COMMANDS, "matplotlib.backends.backend_agg", "torch._dynamo"])


def launched(patch: pytest.MonkeyPatch) -> None:
    """Make launchers fork their processes in the same way; tests/launch covers those that start a new Python."""
    # A launcher blocks signals while it starts processes; the process that all are forked from must not inherit that.
    forkserver.ensure_running()
    patch.setattr("deltarl.launch.local.multiprocessing", SimpleNamespace(get_context=lambda _: CONTEXT))


@dataclass(frozen=True)
class Ended:
    """Exit status and output of a process."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """A running process.

    Args:
        argv: the program's name and its arguments.
        cwd: its working directory.
        code: the path of a script, or the name of a module; `deltarl` itself if not given.
        group: whether it leads a process group, as a shell's command does.
    """

    def __init__(self, argv: Sequence[str], cwd: Path, *, code: Path | str = "", group: bool = False) -> None:
        self._argv = list(argv)
        self._folder = TemporaryDirectory()
        self._written = [Path(self._folder.name, name) for name in ("out", "err")]
        self._process = CONTEXT.Process(target=_enter, args=(self._argv, code, cwd, self._written, group))
        self._process.start()
        atexit.register(self._process.kill)  # otherwise Python would wait for one left by a failed test

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.exitcode is not None

    def wait(self, timeout: float = 400) -> Ended:
        """Wait for its end. After `timeout` seconds, kill it and raise a TimeoutError."""
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            self._process.kill()
            self._process.join()
        out, err = (path.read_text() if path.exists() else "" for path in self._written)
        self._folder.cleanup()
        if status is None:
            raise TimeoutError(f"{self._argv}: {timeout} s\n{out}{err}")
        return Ended(status, out, err)


def deltarl(arguments: Sequence[str], cwd: Path) -> Ended:
    """Run `deltarl` with these arguments."""
    return Running(["deltarl", *arguments], cwd).wait()


def script(path: Path, arguments: Sequence[str], cwd: Path) -> Ended:
    """Run `python -W error PATH` with these arguments."""
    return Running([str(path), *arguments], cwd, code=path.absolute()).wait()


def module(name: str, arguments: Sequence[str], cwd: Path) -> Ended:
    """Run `python -m NAME` with these arguments."""
    return Running([name, *arguments], cwd, code=name).wait()


def _enter(argv: list[str], code: Path | str, cwd: Path, written: list[Path], group: bool) -> None:
    """Restore the state that a new Python process would start with, and run the code."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if group:
        os.setsid()
    for number, target in enumerate(written, 1):
        opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    torch.set_num_threads(1)
    sys.argv = argv
    if isinstance(code, Path):
        warnings.simplefilter("error")
        sys.path.insert(0, str(code.parent))
        runpy.run_path(str(code), run_name="__main__")
    elif code:
        runpy.run_module(code, run_name="__main__", alter_sys=True)
    else:
        from deltarl.cli import main  # noqa: PLC0415 - imported before the fork

        main()
