"""Returns of a policy with changed Delta blocks beside those of the untouched one, on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltarl.comparison.statistics import Interval, paired_difference
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
        """Changed less untouched, paired by episode, with Student's t interval over episodes."""
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
        changes: as in `deltarl.gates.intervene`; means are over the states of the untouched policy's first episode.
        block: the only block to change.
        episodes: how many, the config's `eval.episodes` if not given.
        seed: of the first episode.

    Raises:
        ConfigError: as `intervene`, before anything is played; or if the environment fails.
    """
    measured = None
    if parse_changes(changes).means:
        with intervene(run.policy, {"beta": 1}, block=block):
            pass  # only to know that there are blocks to change
        with one_message(f"env: {run.spec.env.id} cannot be played"):
            episode = play_episode(run.policy, run.spec.env, run.normalizer, seed, run.spec.eval.max_episode_steps)
            measured = episode.networks
    with intervene(run.policy, changes, block=block, measured=measured):
        changed = evaluate(run, episodes, seed)
    return Effect(evaluate(run, episodes, seed), changed)
