"""Runs that train in EnvPool."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

from deltarl import RunResult, RunSpec, evaluate, load_config, resume, train
from deltarl.checkpoints.checkpoint import newest
from deltarl.training.build import built
from deltarl.training.state import put

pytest.importorskip("envpool")

SETTINGS = (
    "env.vectorization=envpool",
    "env.n_envs=2",
    "torso.width=8",
    "torso.depth=1",
    "total_timesteps=256",
    "checkpoint.every=64",
    "eval.episodes=2",
    "eval.every=null",
    "device=cpu",
    "name=run",
)
AGENTS = {
    "ppo": ("agent.n_steps=32", "agent.batch_size=32"),
    "sac": ("agent=sac", "agent.learning_starts=64", "agent.buffer_size=1000"),
}


def spec_of(agent: str, out: Path, *more: str) -> RunSpec:
    return load_config("quickstart", *AGENTS[agent], *SETTINGS, f"out={out}", *more)


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module", params=AGENTS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    spec = spec_of(request.param, tmp_path_factory.mktemp(request.param), "checkpoint.keep=9")
    return train(spec, quiet())[0]


def test_a_run_is_trained_with_it_and_scored_without(finished: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (finished.status, finished.steps, finished.continued) == ("finished", 256, ())
    provenance = json.loads((finished.folder / "provenance.json").read_text())
    assert provenance["extras"]["envpool"]
    monkeypatch.setitem(sys.modules, "envpool", None)  # as if it were not installed
    assert evaluate(finished.folder).return_mean == finished.final_return_mean


def test_a_run_repeats(finished: RunResult, tmp_path: Path) -> None:
    agent = "sac" if "sac" in str(finished.folder) else "ppo"
    [again] = train(spec_of(agent, tmp_path, "threads=1"), quiet())
    assert again.final_return_mean == finished.final_return_mean


def test_plain_stable_baselines3_continues_with_its_model_in_gymnasium(finished: RunResult) -> None:
    algorithm = SAC if "sac" in str(finished.folder) else PPO
    model = algorithm.load(finished.folder / "model.zip", env=make_vec_env("Hopper-v5", n_envs=2))
    model.learn(64)


@pytest.fixture
def interrupted(finished: RunResult, tmp_path: Path) -> Path:
    """A run that was killed some time after its checkpoint of step 128."""
    folder = tmp_path / "run" / "seed-0"
    shutil.copytree(finished.folder, folder)
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("best-")) > 128:
            shutil.rmtree(path)
    return folder


def test_an_interrupted_run_is_continued_not_exact(interrupted: Path) -> None:
    [result] = resume(interrupted, console=quiet())
    assert (result.steps, result.resumes) == (256, 1)
    assert result.continued == (
        "state: /model/env/venv/venv/venv/pool (abc.GymHopperGymnasiumEnvPool) cannot be stored",
    )
    line = json.loads((interrupted / "resumes.jsonl").read_text())
    assert (line["from_step"], line["continued"]) == (128, list(result.continued))


@pytest.mark.parametrize("finished", ["sac"], indirect=True)
def test_an_interrupted_run_continues_with_new_episodes(interrupted: Path) -> None:
    resume(interrupted, console=quiet())
    spec = load_config(str(interrupted / "config.yaml"))
    with built(spec, 0, interrupted) as (model, _):
        model.set_logger(Logger(None, []))
        found = newest(interrupted)
        assert found is not None
        put(model, {}, found)
        buffer: Any = model.replay_buffer  # type: ignore[attr-defined]
    last, first = 128 // 2 - 1, 128 // 2
    ended = buffer.dones[last].astype(bool)
    # Neither a transition nor a return of several steps crosses from an interrupted episode into the next one.
    assert (np.abs(buffer.next_observations[last] - buffer.observations[first]).max(axis=1) > 1e-3)[~ended].all()
    assert np.abs(buffer.observations[first][:, 5:]).max() <= 0.005 + 1e-9  # speeds of an initial state
    assert buffer.timeouts[last][~ended].all()
    assert (buffer.next_observations[first] != buffer.observations[first]).all()
    for row in range(buffer.pos - 1):
        if row != last:
            goes_on = ~buffer.dones[row].astype(bool)
            np.testing.assert_array_equal(buffer.next_observations[row][goes_on], buffer.observations[row + 1][goes_on])
