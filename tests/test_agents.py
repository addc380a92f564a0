"""Agents: SB3's own hyperparameters and defaults, as typed data."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from deltarl.agents import PPOSpec, SACSpec, build_agent
from deltarl.specs import DeltaTorsoSpec

SPECS = [PPOSpec, SACSpec]
# What a run has of its own, or what is code and no data.
NOT_DATA = {
    "self",
    "policy",
    "env",
    "policy_kwargs",
    "tensorboard_log",
    "verbose",
    "seed",
    "device",
    "_init_setup_model",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "optimize_memory_usage",
    "action_noise",
}
every_spec = pytest.mark.parametrize("spec", SPECS)


def build(spec: PPOSpec | SACSpec) -> Any:
    torso = DeltaTorsoSpec(width=16)
    return build_agent(spec, torso, torso, make_vec_env("Reacher-v5"), seed=0, device="cpu")


@every_spec
def test_hyperparameters_and_their_defaults_are_those_of_stable_baselines3(spec: type[PPOSpec] | type[SACSpec]) -> None:
    theirs = inspect.signature(spec.implementation).parameters
    ours = spec().hyperparameters()
    assert ours.keys() == theirs.keys() - NOT_DATA
    assert ours == {name: theirs[name].default for name in ours}


@every_spec
@pytest.mark.parametrize("policy", [{}, {"weight_decay": 0.1}, {"optimizer": "adamw"}])
def test_adam_keeps_the_epsilon_that_stable_baselines3_gives_the_algorithm(
    spec: type[PPOSpec] | type[SACSpec], policy: dict[str, Any]
) -> None:
    model = build(spec(policy=policy))
    optimizer = model.policy.optimizer if spec is PPOSpec else model.critic.optimizer
    assert {group["eps"] for group in optimizer.param_groups} == {1e-5 if spec is PPOSpec else 1e-8}
    assert isinstance(optimizer, torch.optim.AdamW if policy.get("optimizer") else torch.optim.Adam)


def test_a_linear_schedule_ends_where_it_says() -> None:
    spec = PPOSpec(learning_rate={"schedule": "linear", "start": 1e-3, "end": 1e-4, "fraction": 0.5})
    schedule = build(spec).lr_schedule
    # SB3 counts the progress that remains, from 1 to 0.
    assert [schedule(remaining) for remaining in (1.0, 0.75, 0.5, 0.0)] == pytest.approx([1e-3, 5.5e-4, 1e-4, 1e-4])


def test_the_initial_log_std_reaches_the_policy() -> None:
    assert torch.equal(build(PPOSpec(policy={"log_std_init": -1.5})).policy.log_std, torch.full((2,), -1.5))
