"""Policies with torsos, one for each policy class of Stable-Baselines3, and their aliases."""

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from deltarl.policies.actor_critic import (
    DeltaActorCriticCnnPolicy,
    DeltaActorCriticPolicy,
    DeltaMultiInputActorCriticPolicy,
)
from deltarl.policies.sac import DeltaSACCnnPolicy, DeltaSACMultiInputPolicy, DeltaSACPolicy

__all__ = [
    "DeltaActorCriticCnnPolicy",
    "DeltaActorCriticPolicy",
    "DeltaMultiInputActorCriticPolicy",
    "DeltaSACCnnPolicy",
    "DeltaSACMultiInputPolicy",
    "DeltaSACPolicy",
]

ALIASES: dict[type[BaseAlgorithm], dict[str, type[BasePolicy]]] = {
    PPO: {
        "DeltaPolicy": DeltaActorCriticPolicy,
        "DeltaCnnPolicy": DeltaActorCriticCnnPolicy,
        "DeltaMultiInputPolicy": DeltaMultiInputActorCriticPolicy,
    },
    SAC: {
        "DeltaPolicy": DeltaSACPolicy,
        "DeltaCnnPolicy": DeltaSACCnnPolicy,
        "DeltaMultiInputPolicy": DeltaSACMultiInputPolicy,
    },
}

for _algorithm, _aliases in ALIASES.items():
    _algorithm.policy_aliases.update(_aliases)
