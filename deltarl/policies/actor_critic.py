"""Torsos in the policies of PPO."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)

from deltarl.policies.mixin import TorsoMixin, install
from deltarl.torso import Torso


class ActorCriticTorsoMixin(TorsoMixin):
    """Torsos inside SB3's `mlp_extractor`, past its orthogonal re-initialisation."""

    critic_key = "vf"
    mlp_widths: ClassVar[tuple[int, ...]] = (64, 64)

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()  # type: ignore[misc]
        install(self.mlp_extractor.policy_net, self.actor_torso)  # type: ignore[attr-defined]
        install(self.mlp_extractor.value_net, self.critic_torso)  # type: ignore[attr-defined]
        self._built_torsos = [
            (module, deepcopy(module.state_dict()))
            for module in self.mlp_extractor.modules()  # type: ignore[attr-defined]
            if isinstance(module, Torso)
        ]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        # SB3 has just given every Linear orthogonal weights and a zero bias, the gates among them.
        for torso, state in self._built_torsos:
            torso.load_state_dict(state)
        del self._built_torsos


class DeltaActorCriticPolicy(ActorCriticTorsoMixin, ActorCriticPolicy):
    """`ActorCriticPolicy` with torsos, for PPO on Box observations."""


class DeltaActorCriticCnnPolicy(ActorCriticTorsoMixin, ActorCriticCnnPolicy):
    """`ActorCriticCnnPolicy` with torsos behind the convolutions, for PPO on images."""

    mlp_widths = ()


class DeltaMultiInputActorCriticPolicy(ActorCriticTorsoMixin, MultiInputActorCriticPolicy):
    """`MultiInputActorCriticPolicy` with torsos, for PPO on Dict observations."""
