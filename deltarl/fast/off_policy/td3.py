"""TD3 and DDPG with a lean training step."""

from __future__ import annotations

from collections.abc import Sequence

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from deltarl.fast.features import Features
from deltarl.fast.networks import network_of
from deltarl.fast.off_policy.algorithm import OffPolicyLean, Update
from deltarl.fast.off_policy.critics import Critics, discounted, least
from deltarl.fast.optim import Follow, Step


class TD3Update(Update):
    """One gradient step of TD3 (Fujimoto et al., arXiv 1802.09477), in the order of Stable-Baselines3's.

    DDPG is the same with one critic, no noise on the target's actions and no delay.
    """

    def __init__(self, model: sb3.TD3) -> None:
        self.model = model
        self.actor, self.target_actor = network_of(model.actor.mu), network_of(model.actor_target.mu)
        self.critics, self.targets = Critics(model.critic.q_networks), Critics(model.critic_target.q_networks)
        self.features = Features(model.actor, self.actor.parameters[0].dtype)
        self.networks = [self.actor, self.target_actor, *self.critics.networks, *self.targets.networks]
        self.step_actor = Step(model.actor.optimizer, self.actor.parameters)
        self.step_critics = Step(model.critic.optimizer, self.critics.parameters)
        self.follow = [
            Follow(list(source.parameters()), list(target.parameters()))
            for source, target in ((model.critic, model.critic_target), (model.actor, model.actor_target))
        ]
        self.follow_statistics = [
            Follow(model.critic_batch_norm_stats, model.critic_batch_norm_stats_target),
            Follow(model.actor_batch_norm_stats, model.actor_batch_norm_stats_target),
        ]

    def act(self, features: Tensor) -> Tensor:
        return self.actor(features)

    def draw(self, batch: ReplayBufferSamples) -> Sequence[Tensor]:
        """Normal noise for the target's actions, `[n, actions]`, not clipped yet."""
        return [torch.empty_like(batch.actions).normal_(0, self.model.target_policy_noise)]

    def __call__(
        self,
        batch: ReplayBufferSamples,
        noise: Sequence[Tensor],
        index: int,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        model, [spread] = self.model, noise
        model._n_updates += 1
        observations, next_observations = self.features(batch.observations), self.features(batch.next_observations)
        rows, actions = batch.actions.shape

        spread = spread.clamp(-model.target_noise_clip, model.target_noise_clip)
        next_actions = (self.target_actor(next_observations) + spread).clamp_(-1, 1)
        next_values = least(self.targets(torch.cat([next_observations, next_actions], 1)))
        aim = discounted(batch, model.gamma, next_values)

        x = torch.cat([observations, batch.actions.to(observations.dtype)], 1)
        loss, gradients = self.critics.fit(x, aim, 1)
        metrics = {"critic_loss": loss}
        self.step_critics(gradients)

        if model._n_updates % model.policy_delay == 0:
            own_actions, of_actor = self.actor.forward(observations)
            first = self.critics.networks[0]
            value, of_first = first.forward(torch.cat([observations, own_actions], 1))
            metrics["actor_loss"] = -value.mean()
            by_actions, _ = first.backward(
                of_first, torch.full_like(value, -1 / rows), inputs=slice(-actions, None), parameters=False
            )
            assert by_actions is not None
            self.step_actor(self.actor.backward(of_actor, by_actions)[1])
            for follow in self.follow:
                follow(model.tau)
            for follow in self.follow_statistics:
                follow(1.0)
        return metrics


class TD3(OffPolicyLean, sb3.TD3):
    """Stable-Baselines3's TD3; its gradient steps give the same numbers in less time."""

    update_class = TD3Update


class DDPG(OffPolicyLean, sb3.DDPG):
    """Stable-Baselines3's DDPG; its gradient steps give the same numbers in less time."""

    update_class = TD3Update
