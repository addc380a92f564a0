"""Commands and scripts in processes of their own that need not import everything again.

Each is forked from a process that has imported deltarl and done nothing else. It is as isolated from the tests and from
the others as a new Python is, without the seconds that the imports take.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

_context = multiprocessing.get_context("forkserver")
# Not MuJoCo: what it draws with is chosen when it is imported.
_context.set_forkserver_preload(["deltarl.cli", "deltarl.comparison.report", "deltarl.launch.runs"])


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def deltarl(arguments: Sequence[str], cwd: Path, timeout: float = 400) -> Ended:
    """`deltarl` with these arguments."""
    return _run(["deltarl", *arguments], None, cwd, timeout)


def script(path: Path, arguments: Sequence[str], cwd: Path, timeout: float = 400) -> Ended:
    """`python -W error PATH` with these arguments."""
    return _run([str(path), *arguments], path.absolute(), cwd, timeout)


def _run(argv: list[str], path: Path | None, cwd: Path, timeout: float) -> Ended:
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _context.Process(target=_enter, args=(argv, path, cwd, out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{argv}: {timeout} s\n{out.read_text()}{err.read_text()}")
        return Ended(process.exitcode, out.read_text(), err.read_text())


def _enter(argv: list[str], path: Path | None, cwd: Path, out: Path, err: Path) -> None:
    """What a new Python would have found when it began."""
    for number, target in ((1, out), (2, err)):
        opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    torch.set_num_threads(1)
    sys.argv = argv
    if path is None:
        from deltarl.cli import main  # noqa: PLC0415 - imported before the fork

        main()
    else:
        warnings.simplefilter("error")
        sys.path.insert(0, str(path.parent))
        runpy.run_path(str(path), run_name="__main__")
