"""Settings shared by all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Distribution
from xdist.scheduler import LoadScopeScheduling

from deltarl.cli import main
from tests.quick import Deltarl


class FilesWhole(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker whole files, largest first, because the tests of a file share what its fixtures have trained.

    The pages of the documentation share nothing and come last, one by one, so that all workers finish together.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "test_every_code_block_runs" in nodeid else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesWhole:
    return FilesWhole(config, log)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def deltarl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Deltarl:
    """Run a command in an empty folder; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltarl", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def compiler() -> Iterator[None]:
    """PyTorch's compiler with an empty cache; restores what it switches off in the whole process."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    Distribution.set_default_validate_args(True)
