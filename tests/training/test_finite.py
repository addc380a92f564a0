"""NaN and infinity stop a run where they occur, and never reach a checkpoint."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from deltarl import NonFiniteError, RunResult, load_config, train
from deltarl.checkpoints.checkpoint import newest, steps_of
from deltarl.checkpoints.state import capture
from deltarl.envs import FIRST_EVALUATION_SEED, FIRST_TRAINING_SEED
from deltarl.training.finite import check_losses, check_tensors
from deltarl.training.state import learned

EPISODE = 20


class Faulty(gym.Env[Any, Any]):
    """An environment in which everything is finite except one value at one step.

    Args:
        where: "reset", "observation", "end" (of an episode), "reward" or "nowhere".
        step: counted from the first reset.
        value: the value.
        keys: whether the observation space is a Dict.
        scale: of the rewards.
        of: seed of the environment concerned.
    """

    def __init__(
        self,
        *,
        where: str = "nowhere",
        step: int = 0,
        value: float = float("nan"),
        keys: bool = False,
        scale: float = 1.0,
        of: int = FIRST_TRAINING_SEED + 1,
        render_mode: str | None = None,
    ) -> None:
        del render_mode
        box = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({"arm": box, "goal": box}) if keys else box
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.where, self.at, self.value, self.keys, self.scale = where, step, value, keys, scale
        self.of, self.steps = of, 0
        self.is_faulty = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.is_faulty = self.is_faulty or seed == self.of
        return self._observation("reset"), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        del action
        self.steps += 1
        over = self.steps % EPISODE == 0
        reward = self.value if self._now("reward") else self.scale * float(self.np_random.normal())
        return self._observation("end" if over else "observation"), reward, over, False, {}

    def _now(self, where: str) -> bool:
        return self.is_faulty and (self.where, self.at) == (where, self.steps)

    def _observation(self, where: str) -> Any:
        good = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        bad = good.copy()
        if self._now(where):
            bad[2] = self.value
        return {"arm": good, "goal": bad} if self.keys else bad


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gym.register("Faulty-v0", Faulty, disable_env_checker=True)
    yield
    del gym.registry["Faulty-v0"]


def run(out: Path, fault: str, *settings: str) -> RunResult:
    spec = load_config(
        "quickstart",
        "env.id=Faulty-v0",
        f"env.kwargs={fault}",
        "torso.width=8",
        "torso.depth=1",
        "eval.episodes=1",
        "eval.every=null",
        "device=cpu",
        "name=run",
        f"out={out}",
        *settings,
    )
    return train(spec, console=Console(file=io.StringIO()))[0]


PPO = ("agent.n_steps=16", "agent.batch_size=16", "env.n_envs=2", "total_timesteps=256", "checkpoint.every=32")
SAC = (
    "agent=sac",
    "agent.learning_starts=8",
    "agent.batch_size=8",
    "env.n_envs=2",
    "total_timesteps=256",
    "checkpoint.every=32",
    "agent.buffer_size=1000",
)


@pytest.mark.parametrize("agent", [PPO, SAC], ids=["ppo", "sac"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("{where: observation, step: 50}", r"step 100: observation\[2\] of environment 1 is nan"),
        ("{where: observation, step: 50, keys: true}", r"step 100: observation 'goal'\[2\] of environment 1 is nan"),
        ("{where: end, step: 60}", r"step 120: last observation\[2\] of environment 1 is nan"),
        ("{where: reset, step: 60}", r"step 120: observation\[2\] of environment 1 is nan"),
        ("{where: reward, step: 50}", r"step 100: reward of environment 1 is nan"),
        ("{where: reward, step: 50, value: -.inf}", r"step 100: reward of environment 1 is -inf"),
    ],
)
def test_a_run_stops_at_the_number_and_names_its_place(
    agent: tuple[str, ...], fault: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteError, match=message) as caught:
        run(tmp_path, fault, *agent)
    folder = tmp_path / "run" / "seed-0"
    found = newest(folder)
    assert found is not None
    assert 0 < found.steps <= 100 + 20
    assert str(caught.value).endswith(f"; the newest checkpoint is of step {found.steps}")
    for name, tensor in found.snapshot().tensors.items():
        if tensor.is_floating_point() and "/envs/" not in name:
            assert torch.isfinite(tensor).all(), name


def test_the_first_observation_counts_too(tmp_path: Path) -> None:
    with pytest.raises(
        NonFiniteError, match=r"step 0: observation\[2\] of environment 1 is nan; there is no checkpoint"
    ):
        run(tmp_path, "{where: reset, step: 0}", *PPO)


def test_a_loss_that_overflows_stops_the_run(tmp_path: Path) -> None:
    normal = "env.normalize={observations: false, rewards: false}"
    with pytest.raises(NonFiniteError, match=r"step \d+: train/critic_loss is inf"):
        run(tmp_path, "{scale: 1.0e+30}", *SAC, normal)
    assert steps_of(tmp_path / "run" / "seed-0") == []


def test_a_return_of_an_evaluation_counts_too(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 256: the mean return of the evaluation is nan"):
        run(tmp_path, f"{{where: reward, step: 5, of: {FIRST_EVALUATION_SEED}}}", *SAC)


def test_with_finite_numbers_the_same_run_ends(tmp_path: Path) -> None:
    assert run(tmp_path, "{}", *SAC).status == "finished"


def test_of_what_is_logged_only_losses_have_to_be_finite() -> None:
    check_losses(7, {"train/explained_variance": float("nan"), "train/loss": 1.0})
    with pytest.raises(NonFiniteError, match=r"^step 7: train/value_loss is nan$"):
        check_losses(7, {"train/value_loss": float("nan")})


def test_a_tensor_is_named() -> None:
    check_tensors(7, [("steps", torch.tensor([1])), ("weight", torch.ones(2))])
    with pytest.raises(NonFiniteError, match=r"^step 1,234: /model/policy/weight holds inf$"):
        check_tensors(1234, [("/model/policy/weight", torch.tensor([1.0, float("inf")]))])


def test_only_what_is_learned_has_to_be_finite() -> None:
    """The bounds of a space are often infinite, and belong to no environment where EnvPool steps them."""
    unbounded = spaces.Box(-np.inf, np.inf, (2,))
    state = {"model": {"env": {"observation_space": unbounded}, "weight": torch.ones(2)}}
    assert [name for name, _ in learned(capture(state))] == ["/model/weight"]
