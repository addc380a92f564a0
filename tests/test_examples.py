"""The examples run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

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
