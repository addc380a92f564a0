"""Policies with torsos, one for each policy class of Stable-Baselines3, and their aliases."""

from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from deltarl.policies.actor_critic import (
    DeltaActorCriticCnnPolicy,
    DeltaActorCriticPolicy,
    DeltaMaskableActorCriticCnnPolicy,
    DeltaMaskableActorCriticPolicy,
    DeltaMaskableMultiInputActorCriticPolicy,
    DeltaMultiInputActorCriticPolicy,
    DeltaRecurrentActorCriticCnnPolicy,
    DeltaRecurrentActorCriticPolicy,
    DeltaRecurrentMultiInputActorCriticPolicy,
)
from deltarl.policies.mixin import TorsoMixin
from deltarl.policies.off_policy import (
    DeltaCrossQPolicy,
    DeltaSACCnnPolicy,
    DeltaSACMultiInputPolicy,
    DeltaSACPolicy,
    DeltaTD3CnnPolicy,
    DeltaTD3MultiInputPolicy,
    DeltaTD3Policy,
    DeltaTQCCnnPolicy,
    DeltaTQCMultiInputPolicy,
    DeltaTQCPolicy,
)
from deltarl.policies.q_learning import (
    DeltaDQNCnnPolicy,
    DeltaDQNMultiInputPolicy,
    DeltaDQNPolicy,
    DeltaQRDQNCnnPolicy,
    DeltaQRDQNMultiInputPolicy,
    DeltaQRDQNPolicy,
)
from deltarl.policies.refusal import refusal

__all__ = [
    "DeltaActorCriticCnnPolicy",
    "DeltaActorCriticPolicy",
    "DeltaCrossQPolicy",
    "DeltaDQNCnnPolicy",
    "DeltaDQNMultiInputPolicy",
    "DeltaDQNPolicy",
    "DeltaMaskableActorCriticCnnPolicy",
    "DeltaMaskableActorCriticPolicy",
    "DeltaMaskableMultiInputActorCriticPolicy",
    "DeltaMultiInputActorCriticPolicy",
    "DeltaQRDQNCnnPolicy",
    "DeltaQRDQNMultiInputPolicy",
    "DeltaQRDQNPolicy",
    "DeltaRecurrentActorCriticCnnPolicy",
    "DeltaRecurrentActorCriticPolicy",
    "DeltaRecurrentMultiInputActorCriticPolicy",
    "DeltaSACCnnPolicy",
    "DeltaSACMultiInputPolicy",
    "DeltaSACPolicy",
    "DeltaTD3CnnPolicy",
    "DeltaTD3MultiInputPolicy",
    "DeltaTD3Policy",
    "DeltaTQCCnnPolicy",
    "DeltaTQCMultiInputPolicy",
    "DeltaTQCPolicy",
    "TorsoMixin",
    "policies_of",
]

Policies = dict[str, type[BasePolicy]]


def _named(box: type[BasePolicy], image: type[BasePolicy], dictionary: type[BasePolicy]) -> Policies:
    return {"DeltaPolicy": box, "DeltaCnnPolicy": image, "DeltaMultiInputPolicy": dictionary}


_actor_critic = _named(DeltaActorCriticPolicy, DeltaActorCriticCnnPolicy, DeltaMultiInputActorCriticPolicy)
_td3 = _named(DeltaTD3Policy, DeltaTD3CnnPolicy, DeltaTD3MultiInputPolicy)
_recurrent = _named(
    DeltaRecurrentActorCriticPolicy, DeltaRecurrentActorCriticCnnPolicy, DeltaRecurrentMultiInputActorCriticPolicy
)

ALIASES: dict[type[BaseAlgorithm], Policies] = {
    A2C: _actor_critic,
    PPO: _actor_critic,
    TRPO: _actor_critic,
    MaskablePPO: _named(
        DeltaMaskableActorCriticPolicy, DeltaMaskableActorCriticCnnPolicy, DeltaMaskableMultiInputActorCriticPolicy
    ),
    # Also under names like those in sb3-contrib.
    RecurrentPPO: _recurrent | {name.replace("Policy", "LstmPolicy"): policy for name, policy in _recurrent.items()},
    SAC: _named(DeltaSACPolicy, DeltaSACCnnPolicy, DeltaSACMultiInputPolicy),
    TD3: _td3,
    DDPG: _td3,
    TQC: _named(DeltaTQCPolicy, DeltaTQCCnnPolicy, DeltaTQCMultiInputPolicy),
    CrossQ: {"DeltaPolicy": DeltaCrossQPolicy},
    DQN: _named(DeltaDQNPolicy, DeltaDQNCnnPolicy, DeltaDQNMultiInputPolicy),
    QRDQN: _named(DeltaQRDQNPolicy, DeltaQRDQNCnnPolicy, DeltaQRDQNMultiInputPolicy),
    ARS: {},  # it perturbs its own kind of policy, and has no gradients for gates to learn from
}

_names = {name for policies in ALIASES.values() for name in policies}
for _algorithm, _policies in ALIASES.items():
    _known = [*_policies] or [*_algorithm.policy_aliases]
    _missing = {name: refusal(name, _known) for name in _names - _policies.keys()}
    _algorithm.policy_aliases.update(_policies | _missing)


def policies_of(algorithm: type[BaseAlgorithm]) -> Policies:
    """The policies with torsos that an algorithm takes, by alias; a subclass takes those of its base."""
    return {name: policy for name, policy in algorithm.policy_aliases.items() if issubclass(policy, TorsoMixin)}
