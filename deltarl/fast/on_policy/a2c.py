"""A2C with a lean training step."""

from __future__ import annotations

from typing import Any

import stable_baselines3 as sb3
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from deltarl.fast.on_policy.algorithm import OnPolicyLean
from deltarl.fast.on_policy.policy import GaussianPolicy
from deltarl.fast.on_policy.rollouts import minibatches, normalized
from deltarl.fast.optim import Step, clip


class A2CUpdate:
    """One update of A2C (Mnih et al., arXiv 1602.01783), in the terms of Stable-Baselines3's."""

    def __init__(self, model: sb3.A2C) -> None:
        self.model: Any = model
        self.policy = GaussianPolicy(model.policy)
        self.features, self.networks = self.policy.features, [self.policy.mean, self.policy.value]
        self.step = Step(model.policy.optimizer, self.policy.parameters)

    def __call__(self, batch: RolloutBufferSamples) -> dict[str, Tensor]:
        """Learn from a whole rollout; the losses, tensors of one number."""
        model, policy, n = self.model, self.policy, len(batch.actions)
        values, log_prob, saved = policy.evaluate(batch.observations, batch.actions)
        advantages = batch.advantages
        if model.normalize_advantage:
            advantages = normalized(advantages)
        errors = values - batch.returns
        metrics = {
            "entropy_loss": -policy.entropy,
            "policy_loss": -(advantages * log_prob).mean(),
            "value_loss": errors.square().mean(),
        }
        gradients = policy.backward(saved, advantages / -n, errors * (2 * model.vf_coef / n), -model.ent_coef)
        clip(gradients, model.max_grad_norm)
        self.step(gradients)
        return metrics


class A2C(OnPolicyLean, sb3.A2C):
    """Stable-Baselines3's A2C; its updates give the same numbers in less time."""

    update_class = A2CUpdate

    def learn_rollout(self, update: A2CUpdate) -> dict[str, float]:
        [batch] = minibatches(self.rollout_buffer, None)
        self._n_updates += 1
        return {name: value.item() for name, value in update(batch).items()}
