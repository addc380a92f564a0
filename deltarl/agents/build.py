"""Builds the Stable-Baselines3 algorithm, or only the policy, that a spec describes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

import deltarl.policies
from deltarl.agents.base import AlgorithmSpec, GSDESpec
from deltarl.agents.off_policy import OffPolicySpec
from deltarl.encoders import EncoderSpec
from deltarl.errors import ConfigError
from deltarl.torsos import TorsoSpec, pickled_data

GOAL_KEYS = {"observation", "achieved_goal", "desired_goal"}


def policy_name(observation_space: spaces.Space[Any]) -> str:
    """The alias of the policy for an observation space."""
    if isinstance(observation_space, spaces.Dict):
        return "DeltaMultiInputPolicy"
    return "DeltaCnnPolicy" if is_image_space(observation_space) else "DeltaPolicy"


def build_agent(
    spec: AlgorithmSpec,
    actor_torso: TorsoSpec,
    critic_torso: TorsoSpec,
    env: VecEnv,
    *,
    seed: int,
    device: str,
    encoder: EncoderSpec,
) -> BaseAlgorithm:
    """Build the Stable-Baselines3 algorithm of a spec, ready to learn.

    Args:
        spec: algorithm and hyperparameters.
        actor_torso: spec of the policy network's torso.
        critic_torso: spec of the value or Q networks' torso.
        env: the environments to learn in.
        seed: seed of Python, NumPy, PyTorch and the environments.
        device: the device, as in Stable-Baselines3: auto, cpu, cuda, cuda:1.
        encoder: spec of the encoder before the torsos.

    Raises:
        ConfigError: if the algorithm or the encoder does not support the environment's observations, actions or
            episodes.
    """
    # On a GPU, its own memory is the limit; only observations pass through the machine's memory.
    _check(spec, env, [] if get_device(device).type != "cpu" else [actor_torso, critic_torso])
    return spec.algorithm_class(
        policy_name(env.observation_space),
        env,
        policy_kwargs=_policy_kwargs(spec, actor_torso, critic_torso, encoder),
        seed=seed,
        device=device,
        **spec.hyperparameters(),
        **spec.arguments(env.action_space),
    )


def build_policy(
    spec: AlgorithmSpec,
    actor_torso: TorsoSpec,
    critic_torso: TorsoSpec,
    env: VecEnv,
    encoder: EncoderSpec,
) -> BasePolicy:
    """Build only the policy, as `build_agent` does, to load stored weights into it.

    The random states of the process are left unchanged.
    """
    # SB3 turns images channel-first before an algorithm sees them.
    env = spec.stock._wrap_env(env, verbose=0)
    policy_class = spec.stock.policy_aliases[policy_name(env.observation_space)]
    exploration: dict[str, Any] = {"use_sde": spec.use_sde} if isinstance(spec, GSDESpec) else {}
    with torch.random.fork_rng():
        return policy_class(
            env.observation_space,
            env.action_space,
            lr_schedule=lambda _: 0.0,
            **exploration,
            **_policy_kwargs(spec, actor_torso, critic_torso, encoder),
        )


def roles_of(spec: AlgorithmSpec) -> tuple[str, ...]:
    """The torsos that an algorithm's policy has: actor_torso, critic_torso, or both."""
    policy_class = deltarl.policies.policies_of(spec.stock)["DeltaPolicy"]
    assert issubclass(policy_class, deltarl.policies.TorsoMixin)
    return tuple(policy_class.roles)


def _policy_kwargs(
    spec: AlgorithmSpec, actor_torso: TorsoSpec, critic_torso: TorsoSpec, encoder: EncoderSpec
) -> dict[str, Any]:
    torsos = {"actor_torso": actor_torso, "critic_torso": critic_torso}
    return {
        **{role: pickled_data(torsos[role], "json") for role in roles_of(spec)},
        **({} if encoder.kind == "flat" else {"encoder": encoder.model_dump(mode="json")}),
        **spec.policy_options(),
    }


def _check(spec: AlgorithmSpec, env: VecEnv, torsos: Sequence[TorsoSpec]) -> None:
    """Report incompatible spaces, which Stable-Baselines3 would report in its own terms or only during training."""
    name = spec.algorithm
    if not isinstance(env.action_space, spec.action_spaces):
        wanted = " or ".join(space.__name__ for space in spec.action_spaces)
        hint = (
            "; wrap the environment with discretize_action, or take sac, td3, tqc or crossq"
            if isinstance(env.action_space, spaces.Box)
            else "; dqn, qrdqn, ppo and a2c take others"
        )
        raise ConfigError(f"agent: {name} needs {wanted} actions; the environment has {env.action_space}{hint}")
    alias = policy_name(env.observation_space)
    if alias not in deltarl.policies.policies_of(spec.stock):
        kind = {"DeltaMultiInputPolicy": "Dict", "DeltaCnnPolicy": "image"}[alias]
        raise ConfigError(f"agent: {name} does not support {kind} observations; sac and tqc do")
    if isinstance(spec, OffPolicySpec) and spec.her is not None:
        _check_goals(spec, env)
    _check_memory(spec, env, torsos)


def _check_memory(spec: AlgorithmSpec, env: VecEnv, torsos: Sequence[TorsoSpec]) -> None:
    """Refuse batches that cannot fit: they need at least their observations and the blocks' saved activations."""
    rows = spec.largest_batch(env.num_envs)
    needed = 4 * rows * (spaces.flatdim(env.observation_space) + sum(torso.kept_numbers for torso in torsos))
    if needed > (there := _memory()):
        raise ConfigError(
            f"agent: a batch of {rows:,} transitions needs at least {needed / 2**30:,.0f} GiB, but this machine has "
            f"{there / 2**30:,.0f}; give a smaller {'batch_size' if hasattr(spec, 'batch_size') else 'n_steps'}"
        )


def _memory() -> float:
    """The machine's memory in bytes; infinity if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return math.inf


def _check_goals(spec: OffPolicySpec, env: VecEnv) -> None:
    space = env.observation_space
    if not isinstance(space, spaces.Dict) or not space.spaces.keys() >= GOAL_KEYS:
        raise ConfigError(
            f"agent.her: the environment has no goals (Dict observations with {', '.join(sorted(GOAL_KEYS))}); "
            "take the agent without her"
        )
    [limit] = {spec.max_episode_steps if spec is not None else None for spec in env.get_attr("spec")}
    if limit is not None and spec.buffer_size // env.num_envs <= limit:
        raise ConfigError(
            f"agent.buffer_size: HER learns from whole episodes, so more than {limit * env.num_envs} transitions "
            f"({env.num_envs} x {limit}) have to fit; got {spec.buffer_size}"
        )
    if limit is not None and spec.learning_starts < (needed := limit * env.num_envs):
        raise ConfigError(
            f"agent.learning_starts: HER learns from whole episodes, so at least {needed} steps "
            f"({env.num_envs} x {limit}) have to come first; got {spec.learning_starts}"
        )
