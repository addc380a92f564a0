"""Returns of a policy with and without changes to its Delta blocks, on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltarl.comparison.intervals import Interval
from deltarl.comparison.statistics import paired_difference
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.gates.episode import play_episode
from deltarl.gates.interventions import intervene, parse_changes
from deltarl.training import Evaluation, Run, evaluate
from deltarl.training.build import one_message


@dataclass(frozen=True)
class Effect:
    """Evaluations on the same seeds."""

    untouched: Evaluation
    changed: Evaluation

    @property
    def difference(self) -> Interval:
        """Changed minus original, paired by episode, with Student's t interval over episodes."""
        return paired_difference(np.array(self.changed.returns), np.array(self.untouched.returns))


def effect_of(
    run: Run,
    changes: Mapping[str, Any],
    block: int | None = None,
    episodes: int | None = None,
    seed: int = FIRST_EVALUATION_SEED,
) -> Effect:
    """Evaluate a run's policy as it is, and with its Delta blocks changed.

    Args:
        run: from `load_run`.
        changes: as for `deltarl.gates.intervene`; means are over the states of the original policy's first episode.
        block: the only block to change; default: all.
        episodes: number of episodes; default: the config's `eval.episodes`.
        seed: seed of the first episode.

    Raises:
        ConfigError: if `intervene` refuses the changes, before anything is played; or if the environment fails.
    """
    measured = None
    if parse_changes(changes).means:
        with intervene(run.policy, {"beta": 1}, block=block):
            pass  # only to check that there are blocks to change
        with one_message(f"env: {run.spec.env.id} cannot be played"):
            episode = play_episode(run.policy, run.spec.env, run.normalizer, seed, run.spec.eval.max_episode_steps)
            measured = episode.networks
    with intervene(run.policy, changes, block=block, measured=measured):
        changed = evaluate(run, episodes, seed)
    return Effect(evaluate(run, episodes, seed), changed)
