"""Compares an exported policy with the policy that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from deltarl.errors import ConfigError
from deltarl.export.observations import entries, statistics
from deltarl.export.player import Player
from deltarl.export.policy import PolicyModule
from deltarl.export.signature import Arrays, feeds

ROWS = 1_000
TOLERANCE = 1e-5  # relative to the range of the actions
_BATCH = 111  # nine of these, and a single row
_SPREADS = (0.3, 1.0, 3.0, 30.0)  # in standard deviations, the last one beyond the normaliser's usual clip of 10


def check(policy: BasePolicy, normalizer: VecNormalize | None, module: PolicyModule, player: Player) -> float:
    """Compare the actions of a player with those of the policy's own `predict`, deterministic.

    Observations are drawn at random, the same each time: around the statistics and far beyond the clip range where they
    are normalised, otherwise from the space, bounds included. Batches have 1 and 111 rows; the states of a recurrent
    policy are handed on from batch to batch.

    Returns:
        The largest difference, relative to half the range of the action or, without bounds, to the largest action. For
        discrete actions that differ, how far their scores are below the best one, relative to the largest.

    Raises:
        ConfigError: if it is above `TOLERANCE`, or NaN.
    """
    rng = np.random.default_rng(0)
    observations = sample(module.observation_space, normalizer, ROWS, rng)
    worst = 0.0
    states: tuple[Any, Any] = (None, None)
    for start, stop in _batches():
        raw = {key: array[start:stop] for key, array in observations.items()}
        observation = raw if isinstance(module.observation_space, spaces.Dict) else next(iter(raw.values()))
        if start in (0, 1):
            states = (None, None)
        seen: Any = observation if normalizer is None else normalizer.normalize_obs(observation)
        expected, before = policy.predict(seen, state=states[0], deterministic=True)
        found, after = player.predict(observation, states[1])
        if found.shape != expected.shape:
            raise ConfigError(f"export: the exported policy's actions have shape {found.shape}, not {expected.shape}")
        fed = feeds(module.inputs, observation, states[1], None)
        states = (before, after)
        difference = _difference(module, fed, expected, found)
        if not difference <= TOLERANCE:  # so that NaN is refused, too
            raise ConfigError(
                f"export: the exported policy acts differently: by {difference:.1e} of the range of its actions, where "
                f"{TOLERANCE:.0e} is allowed"
            )
        worst = max(worst, difference)
    return worst


def sample(
    space: spaces.Space[Any], normalizer: VecNormalize | None, rows: int, rng: np.random.Generator
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Random observations by key, `[rows, ...]` each."""
    return {key: _sampled(each, normalizer, key, rows, rng) for key, each in entries(space).items()}


def _sampled(
    space: spaces.Space[Any], normalizer: VecNormalize | None, key: str, rows: int, rng: np.random.Generator
) -> Any:
    found = statistics(normalizer, key)
    if found is None or not isinstance(space, spaces.Box):
        space.seed(int(rng.integers(2**31)))
        sampled = np.stack([space.sample() for _ in range(rows)])
        if isinstance(space, spaces.Box):
            for row, bound in ((0, space.low), (rows - 1, space.high)):
                sampled[row] = np.where(np.isfinite(bound), bound, sampled[row])
        return sampled
    spread = np.resize(_SPREADS, rows).reshape(-1, *[1] * len(space.shape))
    values = found.mean + np.sqrt(found.var) * spread * rng.standard_normal((rows, *space.shape))
    assert space.dtype is not None
    if np.issubdtype(space.dtype, np.integer):
        kinds = np.iinfo(space.dtype)
        values = np.clip(np.rint(values), kinds.min, kinds.max)
    return values.astype(space.dtype)


def _batches() -> Iterator[tuple[int, int]]:
    yield 0, 1
    yield from ((start, start + _BATCH) for start in range(1, ROWS, _BATCH))


def _difference(module: PolicyModule, fed: Arrays, expected: Any, found: Any) -> float:
    space = module.action_space
    if isinstance(space, spaces.Box):
        with np.errstate(invalid="ignore"):
            half = (space.high.astype(np.float64) - space.low) / 2
        scale = np.where(np.isfinite(half) & (half > 0), half, max(1.0, float(np.abs(expected).max())))
        return float((np.abs(found.astype(np.float64) - expected) / scale).max())
    if (found == expected).all():
        return 0.0
    # Two actions may have the same score but for rounding.
    output = module.output(*module.arguments({key: torch.as_tensor(array) for key, array in fed.items()}))
    scores = output[0] if isinstance(output, tuple) else output
    head: Any = module.action
    apart = head.disagreement(scores, torch.as_tensor(found), torch.as_tensor(expected))
    return float((apart / scores.abs().amax(1, keepdim=True)).max())
