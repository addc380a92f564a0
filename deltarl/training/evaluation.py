"""Evaluation of a policy over complete episodes: deterministic, unnormalised, on seeds that training never uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl.envs import FIRST_EVALUATION_SEED, LONGEST_EPISODE, EnvSpec, build_envs
from deltarl.errors import ConfigError


@dataclass(frozen=True)
class Evaluation:
    """One entry per episode; `successes` is None for a task that does not define success.

    Attributes:
        cut: number of episodes cut off at the maximum length.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] | None
    cut: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """The episodes of several evaluations of the same task, in order."""
        successes = [part.successes for part in parts if part.successes is not None]
        return cls(
            returns=tuple(chain.from_iterable(part.returns for part in parts)),
            lengths=tuple(chain.from_iterable(part.lengths for part in parts)),
            successes=tuple(chain.from_iterable(successes)) if successes else None,
            cut=sum(part.cut for part in parts),
        )

    @property
    def note(self) -> str | None:
        """A caveat about the scores; None if all episodes are complete."""
        if not self.cut:
            return None
        return (
            f"{self.cut} of {len(self.returns)} evaluation episodes had not ended after {max(self.lengths):,} steps "
            "(eval.max_episode_steps) and were cut off"
        )

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Standard deviation over episodes (not seeds), with n in the denominator."""
        return float(np.std(self.returns))

    @property
    def success_rate(self) -> float | None:
        return None if self.successes is None else float(np.mean(self.successes))


def evaluate_policy(
    policy: BasePolicy | BaseAlgorithm,
    env: EnvSpec,
    normalizer: VecNormalize | None,
    episodes: int,
    seed: int = FIRST_EVALUATION_SEED,
    *,
    n_envs: int = 1,
    max_episode_steps: int = LONGEST_EPISODE,
    render_mode: str | None = None,
    watch: Callable[[VecEnv], None] | None = None,
) -> Evaluation:
    """Play episodes, each in a newly created environment.

    Args:
        policy: acts deterministically, in evaluation mode; no random numbers are drawn from PyTorch.
        env: the environment.
        normalizer: normalises the policy's observations; a copy of its statistics is used and left unchanged.
        episodes: number of episodes, at least 1.
        seed: the episodes are seeded with seed, seed + 1, ...
        n_envs: episodes played side by side; a different number may change the last bits of the actions.
        max_episode_steps: length at which episodes are cut off.
        render_mode: Gymnasium's render mode, for playback.
        watch: called with the environments before each step.

    Raises:
        ConfigError: if `episodes` is below 1.
    """
    if episodes < 1:
        raise ConfigError(f"episodes: expected at least 1; got {episodes}")
    parts = []
    for first in range(0, episodes, n_envs):
        envs = build_envs(env, seed + first, n_envs=min(n_envs, episodes - first), render_mode=render_mode)
        try:
            played = _play(policy, envs, normalizer, max_episode_steps, watch)
        finally:
            envs.close()
        parts.append(played if env.success is not None else replace(played, successes=None))
    return Evaluation.joined(parts)


def _play(
    policy: BasePolicy | BaseAlgorithm,
    envs: VecEnv,
    normalizer: VecNormalize | None,
    max_episode_steps: int,
    watch: Callable[[VecEnv], None] | None,
) -> Evaluation:
    """One episode in each of the environments."""
    count, steps, cut = envs.num_envs, 0, 0
    returns, lengths, successes = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    running = np.ones(count, bool)
    observations: Any = envs.reset()
    states, starts = None, np.ones(count, bool)
    while running.any():
        if watch is not None:
            watch(envs)
        seen = observations if normalizer is None else normalizer.normalize_obs(observations)
        actions, states = policy.predict(seen, state=states, episode_start=starts, deterministic=True)
        observations, _, starts, infos = envs.step(actions)
        steps += 1
        for index in np.flatnonzero(running):
            info = infos[index]
            if starts[index]:
                returns[index], lengths[index] = info["episode"]["r"], info["episode"]["l"]
            elif steps >= max_episode_steps:
                [rewards] = envs.get_attr("rewards", int(index))  # recorded by Monitor in this episode so far
                returns[index], lengths[index] = sum(rewards), steps
                cut += 1
            else:
                continue
            running[index] = False
            successes[index] = info.get("is_success", False)
    return Evaluation(tuple(map(float, returns)), tuple(map(int, lengths)), tuple(map(bool, successes)), cut)
