"""The examples run."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import forked
import gymnasium as gym
import pytest

from deltarl import load_config, plugins, resume, train

ROOT = Path(__file__).resolve().parent.parent


def test_a_user_defined_environment_trains_and_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(plugins.VARIABLE, "")
    plugins.add([str(ROOT / "examples" / "my_env" / "my_reach.py")])
    settings = ("total_timesteps=64", "agent.n_steps=16", "agent.batch_size=32", "env.n_envs=2", "eval.episodes=1")
    settings = (*settings, "env.success.key=is_success", "torso.width=8", "torso.depth=1", "device=cpu", "name=reach")
    spec = load_config("quickstart", "env.id=MyReach-v0", *settings, f"out={tmp_path}", "checkpoint.exact=true")
    try:
        [result] = train(spec)
        assert (result.status, result.success_rate is None) == ("finished", False)
        held = json.loads((result.folder / "provenance.json").read_text())["imports"]
        assert held == [os.environ[plugins.VARIABLE]]
        [longer] = resume(result.folder, lambda path: load_config(str(path), "total_timesteps=96"))
        assert longer.continued == ()
    finally:
        del sys.modules["my_reach"], gym.registry["MyReach-v0"]


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        ("swap_in_sb3", ("--steps", "40"), r"return \S+ \+- \S+\nsaved kind='delta' width=128"),
        ("own_block", ("--steps", "128"), r"custom: return \S+ \+- \S+\nresidual: return \S+ \+- \S+\n"),
        pytest.param("her", ("--steps", "300"), r"over 5 other episodes: success \d+%", marks=pytest.mark.slow),
        pytest.param(
            "ray_study", ("--trials", "1", "--steps", "2048"), r"best config: .*\.yaml", marks=pytest.mark.slow
        ),
    ],
)
def test_examples_run(name: str, arguments: tuple[str, ...], printed: str, tmp_path: Path) -> None:
    ended = forked.script(ROOT / "examples" / f"{name}.py", arguments, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert re.search(printed, ended.stdout), ended.stdout


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads((ROOT / "examples" / "train_watch_compare.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert not any(cell.get("outputs") for cell in cells)
    assert "STEPS = 30_000" in code
    (tmp_path / "cells.py").write_text(code.replace("STEPS = 30_000", "STEPS = 4_096"))
    ended = forked.script(tmp_path / "cells.py", [], tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^delta +\S+ \+- \S+ over 20 episodes\nresidual +\S+ \+- ", ended.stdout, re.MULTILINE)


def test_every_example_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    for path in sorted((ROOT / "examples").iterdir()):
        assert f"`{path.name}`" in listed or path.name == "README.md"
