"""Where only the libraries' own code runs, nothing is checked; what a user's code changes is seen."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.callbacks import CallbackList, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from deltarl import fast
from deltarl.fast.trust import is_trusted_callback
from tests.fast.changed import At, freeze, make


def test_only_callbacks_of_the_libraries_are_trusted_within_a_rollout() -> None:
    known = CheckpointCallback(1, "unused")
    assert is_trusted_callback(CallbackList([known]))
    assert not is_trusted_callback(CallbackList([known, At(1, freeze)]))
    model = make("SAC")
    assert not is_trusted_callback(model._init_callback(lambda *_: True))
    assert is_trusted_callback(model._init_callback(None))


def means(model: Any) -> nn.Module:
    """The layer that computes the mean action."""
    return model.policy.action_net if isinstance(model, fast.PPO) else model.actor.mu


class Owner(gym.Wrapper[Any, Any, Any, Any]):
    """A user's environment that has a reference to the algorithm and freezes one of its layers."""

    model: Any = None
    weights = torch.zeros(())

    def step(self, action: Any) -> Any:
        if self.model is not None and self.model.num_timesteps == 40:
            freeze(means(self.model))
            self.weights = means(self.model).weight.detach().clone()
        return super().step(action)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_an_environment_that_freezes_a_layer_is_honoured(name: str) -> None:
    env = Owner(gym.make("Reacher-v5"))
    env.model = model = make(name, env=env)
    model.learn(64)
    assert torch.equal(means(model).weight, env.weights)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_what_is_changed_after_learn_is_seen_though_only_the_libraries_ran(name: str) -> None:
    model = make(name)
    model.learn(64)
    arguments = () if name == "PPO" else (1, 8)
    model.train(*arguments)
    freeze(means(model))
    before = means(model).weight.clone()
    model.train(*arguments)
    assert torch.equal(means(model).weight, before)


def alone(model: Any, **options: Any) -> bool:
    """Whether an algorithm assumes that only the libraries' code runs within `learn`."""
    model._setup_learn(64, **{"callback": None, **options})
    return bool(model.lean_plan().alone)


class Renamed(fast.PPO):
    """A user's class."""


def test_nothing_is_checked_while_only_the_libraries_run() -> None:
    assert alone(make("SAC"))
    assert alone(make("PPO"), callback=[CheckpointCallback(1, "unused")])
    assert not alone(make("PPO"), callback=lambda *_: True)
    assert not alone(make("PPO", env=Owner(gym.make("Reacher-v5"))))
    assert not alone(make("SAC", learning_rate=lambda _: 1e-3))
    assert not alone(Renamed("MlpPolicy", make_vec_env("Reacher-v5", seed=0), device="cpu"))
