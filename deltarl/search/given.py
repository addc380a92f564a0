"""Trials with given values, in addition to those that a sampler draws.

They are not pruned: their scores are wanted for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deltarl.search.space import Value
from deltarl.search.spec import NOTHING, Search, value_at

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

GIVEN = "given"  # user attribute of such a trial: where its values come from
OWN = "the config"  # ... if they are those that the config has anyway


def is_given(trial: FrozenTrial) -> bool:
    """Whether a trial's values were given."""
    return GIVEN in trial.user_attrs


def own_values(search: Search) -> dict[str, Value] | None:
    """The values that the searched options have without a search; None if the space does not contain them."""
    values: dict[str, Value] = {}
    for path, parameter in search.spec.space.items():
        if search.is_searched(path, values):
            value = value_at(search.run, path)
            try:
                parameter.stored(value)
            except ValueError:
                return None
            assert value is not NOTHING
            values[path] = value
    return values


def searched_among(search: Search, values: Mapping[str, Value]) -> dict[str, Value]:
    """The values of the options that are searched, given the others."""
    chosen: dict[str, Value] = {}
    for path in search.spec.space:
        if path in values and search.is_searched(path, chosen):
            chosen[path] = values[path]
    return chosen


def give(search: Search, study: optuna.Study, values: Mapping[str, Value], source: str) -> None:
    """Add a trial with these values to those that wait, unless the study has one from this source.

    Args:
        search: the search.
        study: its study; one process at a time may do this.
        values: by path. Options that are searched, but have no value here, are drawn; all others are ignored.
        source: where they come from.
    """
    if any(trial.user_attrs.get(GIVEN) == source for trial in study.get_trials(deepcopy=False)):
        return
    chosen = searched_among(search, values)
    space = search.spec.space
    stored = {space[path].label(path): space[path].stored(value) for path, value in chosen.items()}
    study.enqueue_trial(stored, user_attrs={GIVEN: source})
