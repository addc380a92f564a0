"""Scores of a policy over complete episodes: deterministic, unnormalised, on seeds that training never sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl.envs import FIRST_EVALUATION_SEED, EnvSpec, build_envs
from deltarl.errors import ConfigError


@dataclass(frozen=True)
class Evaluation:
    """One entry an episode; `successes` is None for a task without a notion of success."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] | None

    @classmethod
    def joined(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """The episodes of several evaluations of the same task, in their order."""
        successes = [part.successes for part in parts if part.successes is not None]
        return cls(
            returns=tuple(chain.from_iterable(part.returns for part in parts)),
            lengths=tuple(chain.from_iterable(part.lengths for part in parts)),
            successes=tuple(chain.from_iterable(successes)) if successes else None,
        )

    @property
    def return_mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Standard deviation over episodes (not over seeds), with n in the denominator."""
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
    render_mode: str | None = None,
    watch: Callable[[VecEnv], None] | None = None,
) -> Evaluation:
    """Run one episode in each of `episodes` environments side by side.

    Args:
        policy: what acts, deterministically and in evaluation mode; no random numbers are drawn from PyTorch.
        env: the environment.
        normalizer: statistics that the policy's observations are normalised with; a copy is used, unchanged.
        episodes: how many, at least 1.
        seed: the episodes are seeded with seed, seed + 1, ...
        render_mode: as Gymnasium takes it, for playback.
        watch: called with the environments before each step.

    Raises:
        ConfigError: if `episodes` is below 1.
    """
    if episodes < 1:
        raise ConfigError(f"episodes: at least 1 is needed; got {episodes}")
    envs = build_envs(env, seed, n_envs=episodes, render_mode=render_mode)
    returns, lengths, successes = np.zeros(episodes), np.zeros(episodes, int), np.zeros(episodes, bool)
    try:
        running = np.ones(episodes, bool)
        observations: Any = envs.reset()
        states, starts = None, np.ones(episodes, bool)
        while running.any():
            if watch is not None:
                watch(envs)
            seen = observations if normalizer is None else normalizer.normalize_obs(observations)
            actions, states = policy.predict(seen, state=states, episode_start=starts, deterministic=True)
            observations, _, starts, infos = envs.step(actions)
            for index in np.flatnonzero(running):
                info = infos[index]
                if starts[index]:
                    running[index] = False
                    successes[index] = info.get("is_success", False)
                    returns[index], lengths[index] = info["episode"]["r"], info["episode"]["l"]
    finally:
        envs.close()
    return Evaluation(
        returns=tuple(map(float, returns)),
        lengths=tuple(map(int, lengths)),
        successes=None if env.success is None else tuple(map(bool, successes)),
    )
