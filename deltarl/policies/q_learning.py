"""Torsos in the policies of DQN and QR-DQN: one network with a Q value for each action."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib.qrdqn.policies import CnnPolicy as QRDQNCnnPolicy
from sb3_contrib.qrdqn.policies import MultiInputPolicy as QRDQNMultiInputPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.dqn.policies import CnnPolicy as DQNCnnPolicy
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.dqn.policies import MultiInputPolicy as DQNMultiInputPolicy

from deltarl.errors import ConfigError
from deltarl.policies.mixin import TorsoMixin, Widths, install


class QTorsoMixin(TorsoMixin):
    """One role, the critic's: there is no actor."""

    roles = ("critic_torso",)
    mlp_widths: ClassVar[Widths] = {"q": (64, 64)}

    action_space: spaces.Space[Any]

    def _build(self, lr_schedule: Any) -> None:
        if not isinstance(self.action_space, spaces.Discrete):
            raise ConfigError(
                f"{type(self).__name__}: Q-learning needs a Discrete action space; got {self.action_space}; for "
                "continuous actions take SAC, TD3, TQC or CrossQ"
            )
        super()._build(lr_schedule)  # type: ignore[misc]


class DQNTorsoMixin(QTorsoMixin):
    """A torso in the Q-network; the target network is created by the same method."""

    def make_q_net(self) -> QNetwork:
        network: QNetwork = super().make_q_net()  # type: ignore[misc]
        install(network.q_net, self.critic_torso)  # type: ignore[attr-defined]
        return network


class QRDQNTorsoMixin(QTorsoMixin):
    """A torso in the quantile network; the target network is created by the same method."""

    def make_quantile_net(self) -> QuantileNetwork:
        network: QuantileNetwork = super().make_quantile_net()  # type: ignore[misc]
        install(network.quantile_net, self.critic_torso)  # type: ignore[attr-defined]
        return network


class DeltaDQNPolicy(DQNTorsoMixin, DQNPolicy):
    """`DQNPolicy` with a torso, for Box observations."""


class DeltaDQNCnnPolicy(DQNTorsoMixin, DQNCnnPolicy):
    """DQN's `CnnPolicy` with a torso behind the convolutions, for images."""


class DeltaDQNMultiInputPolicy(DQNTorsoMixin, DQNMultiInputPolicy):
    """DQN's `MultiInputPolicy` with a torso, for Dict observations."""


class DeltaQRDQNPolicy(QRDQNTorsoMixin, QRDQNPolicy):
    """`QRDQNPolicy` with a torso, for Box observations."""


class DeltaQRDQNCnnPolicy(QRDQNTorsoMixin, QRDQNCnnPolicy):
    """QR-DQN's `CnnPolicy` with a torso behind the convolutions, for images."""


class DeltaQRDQNMultiInputPolicy(QRDQNTorsoMixin, QRDQNMultiInputPolicy):
    """QR-DQN's `MultiInputPolicy` with a torso, for Dict observations."""
