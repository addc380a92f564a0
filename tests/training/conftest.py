"""Runs that the tests of several files share; those that a test changes are copies."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from deltarl import RunResult, train
from tests.training.foreign_runs import spec
from tests.training.quick_runs import quick, run
from tests.training.small import quiet, spec_of


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(spec_of(tmp_path_factory.mktemp("whole"), "checkpoint.keep=9"), quiet())[0]


@pytest.fixture
def interrupted(whole: RunResult, tmp_path: Path) -> Path:
    """A run that was killed some time after its checkpoint of step 96."""
    folder = tmp_path / "run" / "seed-0"
    shutil.copytree(whole.folder, folder)
    for name in ("result.json", "policy.safetensors", "model.zip", "normalizer.npz", "vecnormalize.pkl"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints" / "128")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick(tmp_path_factory.mktemp("runs")))[0]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(spec(tmp_path_factory.mktemp("trained")), console=Console(file=io.StringIO()))[0].folder


@pytest.fixture
def foreign(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "out" / "tiny" / "seed-0"))
