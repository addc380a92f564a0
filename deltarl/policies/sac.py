"""Torsos in the policies of SAC."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac.policies import Actor, CnnPolicy, MultiInputPolicy, SACPolicy

from deltarl.policies.mixin import TorsoMixin, install


class SACTorsoMixin(TorsoMixin):
    """A torso in the actor and in every critic; targets are made by the same methods."""

    critic_key = "qf"
    mlp_widths = (256, 256)

    def make_actor(self, features_extractor: Any = None) -> Actor:
        actor: Actor = super().make_actor(features_extractor)  # type: ignore[misc]
        install(actor.latent_pi, self.actor_torso)
        return actor

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        critic: ContinuousCritic = super().make_critic(features_extractor)  # type: ignore[misc]
        for network in critic.q_networks:
            install(network, self.critic_torso)  # type: ignore[arg-type]
        return critic


class DeltaSACPolicy(SACTorsoMixin, SACPolicy):
    """`SACPolicy` with torsos, for Box observations."""


class DeltaSACCnnPolicy(SACTorsoMixin, CnnPolicy):
    """SAC's `CnnPolicy` with torsos behind the convolutions, for images."""


class DeltaSACMultiInputPolicy(SACTorsoMixin, MultiInputPolicy):
    """SAC's `MultiInputPolicy` with torsos, for Dict observations."""
