"""Torsos in the policies of SAC, TD3, DDPG, TQC and CrossQ: an actor, and critics that see its action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sb3_contrib.common.torch_layers import BatchRenorm1d
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.tqc.policies import CnnPolicy as TQCCnnPolicy
from sb3_contrib.tqc.policies import MultiInputPolicy as TQCMultiInputPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.sac.policies import CnnPolicy as SACCnnPolicy
from stable_baselines3.sac.policies import MultiInputPolicy as SACMultiInputPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import CnnPolicy as TD3CnnPolicy
from stable_baselines3.td3.policies import MultiInputPolicy as TD3MultiInputPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from deltarl.errors import ConfigError
from deltarl.policies.mixin import TorsoMixin, Widths, install


class OffPolicyTorsoMixin(TorsoMixin):
    """A torso in the actor and in every critic; target networks are created by the same methods."""

    mlp_widths: ClassVar[Widths] = {"pi": (256, 256), "qf": (256, 256)}
    actor_network: ClassVar[str] = "latent_pi"

    def make_actor(self, features_extractor: Any = None) -> Any:
        actor = super().make_actor(features_extractor)  # type: ignore[misc]
        install(getattr(actor, self.actor_network), self.actor_torso)  # type: ignore[attr-defined]
        return actor

    def make_critic(self, features_extractor: Any = None) -> Any:
        critic = super().make_critic(features_extractor)  # type: ignore[misc]
        for network in critic.q_networks:
            install(network, self.critic_torso)  # type: ignore[attr-defined]
        return critic


class TD3TorsoMixin(OffPolicyTorsoMixin):
    """TD3's actor is one network, from the features to the squashed action."""

    mlp_widths: ClassVar[Widths] = {"pi": (400, 300), "qf": (400, 300)}
    actor_network = "mu"


class CrossQTorsoMixin(OffPolicyTorsoMixin):
    """Batch renormalisation in every torso, which CrossQ needs because it has no target networks.

    `batch_norm_momentum` and `renorm_warmup_steps` also apply to the torsos' norms; their eps is the torso's own.
    """

    mlp_widths: ClassVar[Widths] = {"pi": (256, 256), "qf": (1024, 1024)}
    default_torso: ClassVar[Mapping[str, Any]] = {"kind": "delta", "norm": "batch_renorm"}
    dict_advice = 'CrossQ does not support Dict observations; SAC and TQC do, with "DeltaMultiInputPolicy"'

    batch_norm_params: dict[str, Any]

    def _build(self, lr_schedule: Any) -> None:
        for role in self.roles:
            spec = getattr(self, role)
            # An MLP has sb3-contrib's own norms, and some kinds have a way of their own.
            norm = None if "norm" in getattr(spec, "unread", ()) else getattr(spec, "norm", None)
            if self.batch_norm_params["batch_norm"] and norm not in {None, "batch_renorm"}:
                raise ConfigError(
                    f"{role}.norm: CrossQ has no target networks and therefore needs batch_renorm; got {norm} "
                    "(batch_norm=False in policy_kwargs allows every norm)"
                )
        super()._build(lr_schedule)  # type: ignore[misc]
        assert isinstance(self, nn.Module)
        for module in self.modules():
            if isinstance(module, BatchRenorm1d):
                module.momentum = self.batch_norm_params["batch_norm_momentum"]
                module.warmup_steps = self.batch_norm_params["renorm_warmup_steps"]


class DeltaSACPolicy(OffPolicyTorsoMixin, SACPolicy):
    """`SACPolicy` with torsos, for Box observations."""


class DeltaSACCnnPolicy(OffPolicyTorsoMixin, SACCnnPolicy):
    """SAC's `CnnPolicy` with torsos behind the convolutions, for images."""


class DeltaSACMultiInputPolicy(OffPolicyTorsoMixin, SACMultiInputPolicy):
    """SAC's `MultiInputPolicy` with torsos, for Dict observations."""


class DeltaTD3Policy(TD3TorsoMixin, TD3Policy):
    """`TD3Policy` with torsos, for TD3 and DDPG on Box observations."""


class DeltaTD3CnnPolicy(TD3TorsoMixin, TD3CnnPolicy):
    """TD3's `CnnPolicy` with torsos behind the convolutions, for TD3 and DDPG on images."""

    mlp_widths: ClassVar[Widths] = {"pi": (256, 256), "qf": (256, 256)}


class DeltaTD3MultiInputPolicy(TD3TorsoMixin, TD3MultiInputPolicy):
    """TD3's `MultiInputPolicy` with torsos, for TD3 and DDPG on Dict observations."""


class DeltaTQCPolicy(OffPolicyTorsoMixin, TQCPolicy):
    """`TQCPolicy` with torsos, for Box observations."""


class DeltaTQCCnnPolicy(OffPolicyTorsoMixin, TQCCnnPolicy):
    """TQC's `CnnPolicy` with torsos behind the convolutions, for images."""


class DeltaTQCMultiInputPolicy(OffPolicyTorsoMixin, TQCMultiInputPolicy):
    """TQC's `MultiInputPolicy` with torsos, for Dict observations."""


class DeltaCrossQPolicy(CrossQTorsoMixin, CrossQPolicy):
    """`CrossQPolicy` with torsos, for Box observations; sb3-contrib has no CrossQ for images or Dict observations."""
