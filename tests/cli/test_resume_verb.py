"""`resume`, and `train --resume`, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deltarl import RunResult
from tests.quick import Deltarl


@pytest.fixture
def interrupted(finished: RunResult, tmp_path: Path) -> Path:
    """A run that was killed between its training and its final evaluation."""
    folder = tmp_path / "runs" / "done" / "seed-0"
    shutil.copytree(finished.folder, folder)
    (folder / "result.json").unlink()
    return folder


def test_resume_continues_and_says_how_exactly(interrupted: Path, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("resume", "runs/done", "total_timesteps=96")
    assert status == 0
    assert "  resumed  1 time, exactly" in out
    assert "96 steps in" in out
    assert json.loads((interrupted / "result.json").read_text())["steps"] == 96


def test_train_can_be_given_again_with_resume(interrupted: Path, deltarl: Deltarl) -> None:
    command = ("train", str(interrupted / "config.yaml"), "out=runs", "name=done", "seeds=[0]", "--resume")
    for _ in range(2):  # the second time nothing is left to do, and the output is the same
        status, out, _ = deltarl(*command)
        assert status == 0
        assert "  resumed  1 time, exactly" in out
    status, _, error = deltarl(*command[:-1])
    assert (status, "this run has already finished" in error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs/nowhere",), "runs/nowhere: no such folder"),
        (("runs",), "runs: contains no run"),
        (
            ("runs/done/seed-0", "agent.gamma=0.5"),
            "cannot resume with another config; these keys differ: agent.gamma (0.99",
        ),
        (("runs/done/seed-0", "agent.gama=0.5"), "unknown key; did you mean 'gamma'?"),
        (("runs/done/seed-0", "out=elsewhere"), "command line: out: cannot change when a run is resumed"),
        (("runs/done/seed-0", "seeds=[1]"), "command line: seeds: cannot change when a run is resumed"),
        (("runs/done/seed-0", "total_timesteps=32"), "total_timesteps (64 in the run, 32 given; it can only grow)"),
        (("runs/done/seed-0", "every=3"), "did you mean 'eval.every' or 'checkpoint.every' or 'gates.every'?"),
    ],
)
def test_resume_refuses_in_one_line(
    arguments: tuple[str, ...], message: str, interrupted: Path, deltarl: Deltarl, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, out, error = deltarl("resume", *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("deltarl: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before
    assert not (interrupted / "result.json").exists()
