"""Shared by PPO and A2C: when they are lean, and how they learn from a rollout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance

from deltarl.fast.lean import Lean
from deltarl.fast.on_policy.policy import GaussianPolicy
from deltarl.fast.optim import parameters_of


class OnPolicyLean(Lean):
    """Base class to put before Stable-Baselines3's PPO or A2C."""

    def obstacles(self) -> Iterator[str]:
        policy: Any = self.policy  # type: ignore[attr-defined]
        yield from super().obstacles()
        if not GaussianPolicy.is_one(policy):
            yield "features are learned, or the actions have another distribution than a plain Gaussian"
        # Gradients of other parameters would accumulate, and count towards the norm that is clipped.
        if parameters_of(policy.optimizer) != set(policy.parameters()):
            yield "the optimizer steps other parameters than the policy's"

    @abstractmethod
    def learn_rollout(self, update: Any) -> dict[str, float]:
        """Learn from the rollout in the buffer, increment `_n_updates`, and return what is logged under `train/`."""

    def train(self) -> None:
        plan = self.lean_plan()
        if (update := plan.update) is None:
            super().train()  # type: ignore[misc]
            return
        assert isinstance(self, OnPolicyAlgorithm)
        if plan.has_modes:
            self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        if (update := self._plan_after_schedules().update) is None:
            super().train()  # type: ignore[misc]
            return
        with torch.no_grad():
            logged = self.learn_rollout(update)
            logged["std"] = torch.exp(update.policy.log_std).mean().item()
        buffer = self.rollout_buffer
        logged["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
