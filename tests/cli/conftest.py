"""A run that the tests of all verbs share."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deltarl import RunResult, load_config, train
from tests.quick import QUICK


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("runs")
    spec = load_config("quickstart", *QUICK, f"out={out}", "name=done", "device=cpu")
    return train(spec, console=Console(file=io.StringIO()))[0]
