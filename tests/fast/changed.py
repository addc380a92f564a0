"""Algorithms, and changes that users make to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from deltarl import fast
from tests.fast.test_equality import STOCK

OFF_POLICY = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
Change = Callable[[Any], None]


def make(name: str, library: Any = fast, policy: Any = "MlpPolicy", env: Any = None, **options: Any) -> Any:
    algorithm = STOCK[name] if library is None else getattr(library, name)
    small: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "train_freq": 4}
    if name in {"PPO", "A2C"}:
        small = {"n_steps": 16} | ({"batch_size": 8, "n_epochs": 2} if name == "PPO" else {})
    kwargs = {"net_arch": [8]}
    return algorithm(
        policy,
        env or make_vec_env("Reacher-v5", seed=0),
        policy_kwargs=kwargs,
        seed=0,
        device="cpu",
        **{**small, **options},
    )


class At(BaseCallback):
    """Changes an algorithm once, during a rollout."""

    def __init__(self, step: int, change: Change) -> None:
        super().__init__()
        self.step, self.change, self.left = step, change, torch.zeros(())

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.change(self.model)
            self.left = flat(self.model)
        return True


def flat(model: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def wrapped(holder: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Wrap a method of an instance, as a user would."""
    method = getattr(holder, name)

    @wraps(method)
    def around(*args: Any, **options: Any) -> Any:
        return change(method(*args, **options))

    setattr(holder, name, around)


def freeze(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
