"""Torsos in the policies of A2C, PPO, TRPO, MaskablePPO and RecurrentPPO."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

from sb3_contrib.common.maskable.policies import (
    MaskableActorCriticCnnPolicy,
    MaskableActorCriticPolicy,
    MaskableMultiInputActorCriticPolicy,
)
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)

from deltarl.encoders import Encoder
from deltarl.policies.mixin import TorsoMixin, Widths, install
from deltarl.torsos import Torso


class ActorCriticTorsoMixin(TorsoMixin):
    """Torsos inside SB3's `mlp_extractor`, and encoders, past its orthogonal re-initialisation."""

    mlp_widths: ClassVar[Widths] = {"pi": (64, 64), "vf": (64, 64)}

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()  # type: ignore[misc]
        install(self.mlp_extractor.policy_net, self.actor_torso)  # type: ignore[attr-defined]
        install(self.mlp_extractor.value_net, self.critic_torso)  # type: ignore[attr-defined]
        self._built = [
            (module, deepcopy(module.state_dict()))
            for module in self.modules()  # type: ignore[attr-defined]
            if isinstance(module, Torso | Encoder)
        ]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        # SB3 has just given every Linear orthogonal weights and a zero bias, the gates among them.
        for module, state in self._built:
            module.load_state_dict(state)
        del self._built


class CnnTorsoMixin(ActorCriticTorsoMixin):
    """For images: SB3 has no hidden layer after the convolutions unless one is requested."""

    mlp_widths: ClassVar[Widths] = {"pi": (), "vf": ()}


class DeltaActorCriticPolicy(ActorCriticTorsoMixin, ActorCriticPolicy):
    """`ActorCriticPolicy` with torsos, for A2C, PPO and TRPO on Box observations."""


class DeltaActorCriticCnnPolicy(CnnTorsoMixin, ActorCriticCnnPolicy):
    """`ActorCriticCnnPolicy` with torsos behind the convolutions, for A2C, PPO and TRPO on images."""


class DeltaMultiInputActorCriticPolicy(ActorCriticTorsoMixin, MultiInputActorCriticPolicy):
    """`MultiInputActorCriticPolicy` with torsos, for A2C, PPO and TRPO on Dict observations."""


class DeltaMaskableActorCriticPolicy(ActorCriticTorsoMixin, MaskableActorCriticPolicy):
    """`MaskableActorCriticPolicy` with torsos, for MaskablePPO on Box observations."""


class DeltaMaskableActorCriticCnnPolicy(CnnTorsoMixin, MaskableActorCriticCnnPolicy):
    """`MaskableActorCriticCnnPolicy` with torsos behind the convolutions, for MaskablePPO on images."""


class DeltaMaskableMultiInputActorCriticPolicy(ActorCriticTorsoMixin, MaskableMultiInputActorCriticPolicy):
    """`MaskableMultiInputActorCriticPolicy` with torsos, for MaskablePPO on Dict observations."""


class DeltaRecurrentActorCriticPolicy(ActorCriticTorsoMixin, RecurrentActorCriticPolicy):
    """`RecurrentActorCriticPolicy` with torsos behind the LSTMs, for RecurrentPPO on Box observations."""


class DeltaRecurrentActorCriticCnnPolicy(CnnTorsoMixin, RecurrentActorCriticCnnPolicy):
    """`RecurrentActorCriticCnnPolicy` with torsos behind the LSTMs, for RecurrentPPO on images."""


class DeltaRecurrentMultiInputActorCriticPolicy(ActorCriticTorsoMixin, RecurrentMultiInputActorCriticPolicy):
    """`RecurrentMultiInputActorCriticPolicy` with torsos behind the LSTMs, for RecurrentPPO on Dict observations."""
