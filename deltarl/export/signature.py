"""The inputs of a deployed policy: their names, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deltarl.errors import ConfigError

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

WHOLE = "observation"  # an observation that is not a Dict; the entries of a Dict have their own names
HIDDEN, CELL = "lstm_hidden", "lstm_cell"
MASKS = "action_masks"
STATES = (HIDDEN, CELL)
ACTION = "action"


@dataclass(frozen=True)
class Input:
    """One input; `shape` has None in place of the batch size."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    @property
    def batch_axis(self) -> int:
        return self.shape.index(None)

    def sized(self, batch: int) -> tuple[int, ...]:
        """The shape of a batch."""
        return tuple(batch if size is None else size for size in self.shape)


def outputs(inputs: Sequence[Input]) -> list[str]:
    """Names of the outputs: the action, and for each input state the next one."""
    return [ACTION, *(f"next_{each.name}" for each in inputs if each.name in STATES)]


def feeds(
    inputs: Sequence[Input], observation: Any, states: tuple[Any, ...] | None, episode_start: Any | None
) -> Arrays:
    """The inputs for a batch of observations.

    Observations are cast to the input's dtype. States are zeros where an episode starts, and all actions are allowed.

    Args:
        inputs: of the policy.
        observation: `[batch, ...]`, or a mapping of such arrays for Dict observations.
        states: the states that the last call returned; None for zeros.
        episode_start: `[batch]`, whether an episode starts; None for nowhere.

    Raises:
        ConfigError: if an observation is missing or has another shape.
    """
    given = observation if isinstance(observation, Mapping) else {WHOLE: observation}
    fed: Arrays = {}
    batch = None
    for each in inputs:
        if each.name in (*STATES, MASKS):
            continue
        if each.name not in given:
            raise ConfigError(f"the policy takes the observation '{each.name}'; the environment has {', '.join(given)}")
        array = np.asarray(given[each.name])
        batch = len(array) if batch is None else batch
        if array.shape != each.sized(batch):
            raise ConfigError(
                f"the policy takes '{each.name}' of shape {each.shape[1:]}; the environment's is {array.shape[1:]}"
            )
        fed[each.name] = array.astype(each.dtype, copy=False)
    starts = np.zeros(batch or 0, bool) if episode_start is None else np.asarray(episode_start, bool)
    for each in inputs:
        if each.name == MASKS:
            fed[each.name] = np.ones(each.sized(batch or 0), each.dtype)
        elif each.name in STATES:
            state = np.zeros(each.sized(batch or 0), each.dtype) if states is None else states[STATES.index(each.name)]
            fed[each.name] = np.where(starts[:, None], each.dtype.type(0), state)
    return fed
