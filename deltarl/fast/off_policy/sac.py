"""SAC with a lean training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from deltarl.fast.features import Features
from deltarl.fast.gaussian import standard_normal
from deltarl.fast.off_policy.actor import SquashedActor
from deltarl.fast.off_policy.algorithm import OffPolicyLean, Update
from deltarl.fast.off_policy.critics import Critics, by_least, discounted, least, mean
from deltarl.fast.off_policy.temperature import Temperature
from deltarl.fast.optim import Follow, Step
from deltarl.fast.scalars import number


class SACUpdate(Update):
    """One gradient step of SAC (Haarnoja et al., arXiv 1812.05905), in the order of Stable-Baselines3's."""

    def __init__(self, model: sb3.SAC) -> None:
        self.model = model
        self.actor = SquashedActor(model.actor)
        self.critics, self.targets = Critics(model.critic.q_networks), Critics(model.critic_target.q_networks)
        self.features = Features(model.actor, self.actor.parameters[0].dtype)
        self.networks = [*self.actor.networks, *self.critics.networks, *self.targets.networks]
        self.temperature = Temperature(model)
        self.step_actor = Step(model.actor.optimizer, self.actor.parameters)
        self.step_critics = Step(model.critic.optimizer, self.critics.parameters)
        self.follow = Follow(list(model.critic.parameters()), list(model.critic_target.parameters()))
        self.follow_statistics = Follow(model.batch_norm_stats, model.batch_norm_stats_target)

    def act(self, features: Tensor) -> Tensor:
        return self.actor.act(features)

    def draw(self, batch: ReplayBufferSamples) -> Sequence[Tensor]:
        """Normal noise for the actions at this step's observations and at the next ones, `[n, actions]` each."""
        shape, like = batch.actions.shape, self.actor.parameters[0]
        return standard_normal(shape, like), standard_normal(shape, like)

    def __call__(self, batch: ReplayBufferSamples, noise: Sequence[Tensor], index: int) -> dict[str, Tensor]:
        model, (own_noise, next_noise) = self.model, noise
        observations, next_observations = self.features(batch.observations), self.features(batch.next_observations)
        rows, actions = batch.actions.shape
        model._n_updates += 1
        coefficient = self.temperature.value
        metrics = {"ent_coef": coefficient.squeeze()}

        early = self.actor.forward(observations, own_noise) if self.actor.has_modes else None
        following = self.actor.sample(next_observations, next_noise)
        aim = self.aim(batch, next_observations, following, coefficient)
        x = torch.cat([observations, batch.actions.to(observations.dtype)], 1)
        metrics["critic_loss"] = self.learn_critics(x, aim)

        # As late as possible, so that the activations are still in the caches for the backward pass; unless a pass
        # affects the next one, as batch statistics do.
        sample, of_actor = early or self.actor.forward(observations, own_noise)
        if (loss := self.temperature.update(sample.log_prob)) is not None:
            metrics["ent_coef_loss"] = loss
        value, by_actions = self.value_of(torch.cat([observations, sample.actions], 1), actions)
        metrics["actor_loss"] = mean((coefficient * sample.log_prob).sub_(value))
        by_log_prob = coefficient.to(value.dtype) * number(1 / rows, value)
        self.step_actor(self.actor.backward(sample, of_actor, by_actions, by_log_prob))

        if index % model.target_update_interval == 0:
            self.follow(model.tau)
            self.follow_statistics(1.0)
        return metrics

    def aim(self, batch: ReplayBufferSamples, next_observations: Tensor, following: Any, coefficient: Tensor) -> Tensor:
        """The critics' target, `[n, 1]`: reward + discount (min Q' - coefficient log prob)."""
        next_values = least(self.targets(torch.cat([next_observations, following.actions], 1)))
        next_values = torch.addcmul(next_values, coefficient, following.log_prob, value=-1)
        return discounted(batch, self.model.gamma, next_values)

    def learn_critics(self, x: Tensor, aim: Tensor) -> Tensor:
        """Half the squared error, summed over the critics; its gradient by each Q is (Q - aim) / n."""
        loss, gradients = self.critics.fit(x, aim, 0.5)
        self.step_critics(gradients)
        return loss

    def value_of(self, x: Tensor, actions: int) -> tuple[Tensor, Tensor]:
        """The smallest Q `[n, 1]`, and the gradient of its mean's negative by the actions."""
        values, kept = self.critics.forward(x)
        smallest, by_values = by_least(values)
        return smallest, self.critics.by_actions(kept, by_values, actions)


class SAC(OffPolicyLean, sb3.SAC):
    """Stable-Baselines3's SAC; its gradient steps give the same numbers in less time."""

    update_class = SACUpdate
