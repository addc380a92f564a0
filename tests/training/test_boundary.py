"""The boundary at which a run is stored and restored."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from rich.console import Console
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import ConvertCallback

from deltarl import ConfigError, load_config, train
from deltarl.checkpoints.checkpoint import newest, steps_of, verify
from deltarl.checkpoints.store import Store
from deltarl.fast import SAC
from deltarl.gates import GateCallback
from deltarl.recording import make_logger
from deltarl.training.boundary import Boundary, EndlessEpisodes, Origin
from deltarl.training.build import built
from deltarl.training.signals import StopRequest, TrainingStopped


def learned(folder: Path, steps: int, origin: Origin) -> Any:
    model = SAC("MlpPolicy", "InvertedPendulum-v5", policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")
    model.set_logger(make_logger(folder))
    Boundary(model, folder, Store(folder, keep=2), every=None, origin=origin, stop=StopRequest()).learn(steps, None)
    model.logger.close()
    return model


@pytest.mark.parametrize("unit", ["episode", "step"])
def test_a_stop_is_honoured_within_an_episode_that_a_rollout_waits_for(unit: str, tmp_path: Path) -> None:
    env = gym.make("Pendulum-v1", max_episode_steps=300)
    frequency: Any = (1 if unit == "episode" else 300, unit)
    model = SAC("MlpPolicy", env, train_freq=frequency, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")
    model.set_logger(make_logger(tmp_path))
    stop = StopRequest()
    boundary = Boundary(model, tmp_path, Store(tmp_path, keep=2), every=None, origin=Origin(), stop=stop)

    def ask(_: Any, __: Any) -> bool:
        if model.num_timesteps == 20:
            stop.make("asked")
        return True

    with pytest.raises(TrainingStopped, match=f"asked: stopped at step {20 if unit == 'episode' else 300}, "):
        boundary.learn(600, [ConvertCallback(ask), EndlessEpisodes(boundary.stop_if_asked, patience=0.0)])
    model.logger.close()
    assert bool(steps_of(tmp_path)) is (unit == "step")  # at the end of a rollout, it is stored


def test_a_replay_buffer_of_another_kind_is_the_one_that_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes the first rollout, for which Stable-Baselines3 looks up the buffer before it is restored."""
    with monkeypatch.context() as before:
        before.setattr("deltarl.fast.off_policy.algorithm.shared", lambda buffer: buffer)
        learned(tmp_path, 30, Origin())
    buffer = learned(tmp_path, 40, Origin(newest(tmp_path))).replay_buffer
    assert type(buffer) is ReplayBuffer
    assert buffer.pos == 40


SMALL = ("torso.width=8", "torso.depth=1", "eval.episodes=1", "eval.every=64", "gates.every=64", "gates.rows=8")
PPO = ("agent.n_steps=32", "agent.batch_size=32", "env.n_envs=2", "total_timesteps=192")
SAC_AGENT = ("agent=sac", "agent.learning_starts=30", "agent.batch_size=8", "agent.buffer_size=60", "env.n_envs=1")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(PPO, id="ppo"),
        pytest.param((*SAC_AGENT, "checkpoint.every=20", "total_timesteps=120"), id="sac", marks=pytest.mark.slow),
    ],
)
def test_nothing_of_a_run_with_gates_and_evaluations_is_left_out_at_any_boundary(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    common = ("checkpoint.every=1", "checkpoint.keep=99", "device=cpu", f"out={tmp_path}")
    spec = load_config("quickstart", *SMALL, *common, *settings)
    [whole] = train(spec, console=Console(file=io.StringIO()))
    found = steps_of(whole.folder)
    assert len(found) >= 3
    for steps in found:
        origin = Origin(verify(whole.folder / "checkpoints" / str(steps)))
        with built(spec, 0) as (model, _):
            model.set_logger(make_logger(tmp_path))
            also = {"gates": GateCallback(64, 8).state}
            boundary = Boundary(
                model, tmp_path, Store(tmp_path, 2), every=None, origin=origin, stop=StopRequest(), also=also
            )
            boundary.learn(steps, None)
            model.logger.close()
        assert boundary.continued == [], steps


def test_exactness_is_demanded_of_the_restored_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned(tmp_path, 30, Origin())
    monkeypatch.setattr("deltarl.training.boundary.put", lambda *_: ["/model/late"])
    model = SAC("MlpPolicy", "InvertedPendulum-v5", policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")
    model.set_logger(make_logger(tmp_path))
    store, origin = Store(tmp_path, keep=2), Origin(newest(tmp_path))
    boundary = Boundary(model, tmp_path, store, every=None, origin=origin, stop=StopRequest(), exact=True)
    with pytest.raises(ConfigError, match=r"checkpoint\.exact: /model/late of the state could not be restored"):
        boundary.learn(40, None)
    model.logger.close()
