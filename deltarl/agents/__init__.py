"""Agents: an algorithm and its hyperparameters as data, and the Stable-Baselines3 algorithm built from them."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from deltarl import lazily
from deltarl.agents.base import AlgorithmSpec, KLAdaptiveScheduleSpec, LinearScheduleSpec, PolicySpec
from deltarl.agents.off_policy import (
    ActionNoiseSpec,
    CrossQSpec,
    DDPGSpec,
    DQNSpec,
    HERSpec,
    OffPolicyAgentSpec,
    OffPolicySpec,
    QRDQNSpec,
    SACSpec,
    TD3Spec,
    TQCSpec,
)
from deltarl.agents.on_policy import A2CSpec, OnPolicyAgentSpec, PPOSpec, RecurrentPPOSpec, TRPOSpec

if TYPE_CHECKING:
    from deltarl.agents.build import build_agent, build_policy, policy_name, roles_of
else:
    __getattr__, __dir__ = lazily.names(
        __name__, dict.fromkeys(("build_agent", "build_policy", "policy_name", "roles_of"), "deltarl.agents.build")
    )

AnyAgentSpec = OnPolicyAgentSpec | OffPolicyAgentSpec
AgentSpec = Annotated[AnyAgentSpec, Field(discriminator="algorithm")]

__all__ = [
    "A2CSpec",
    "ActionNoiseSpec",
    "AgentSpec",
    "AlgorithmSpec",
    "AnyAgentSpec",
    "CrossQSpec",
    "DDPGSpec",
    "DQNSpec",
    "HERSpec",
    "KLAdaptiveScheduleSpec",
    "LinearScheduleSpec",
    "OffPolicySpec",
    "PPOSpec",
    "PolicySpec",
    "QRDQNSpec",
    "RecurrentPPOSpec",
    "SACSpec",
    "TD3Spec",
    "TQCSpec",
    "TRPOSpec",
    "build_agent",
    "build_policy",
    "policy_name",
    "roles_of",
]
