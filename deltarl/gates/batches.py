"""Batches to measure on, read from the buffers of an algorithm without a random draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from deltarl.gates.measure import Batch

# Plain data, so that a probe can be stored in a checkpoint: the fields of a Batch as tensors, tuples and dicts.
Fields = dict[str, Any]


def from_buffer(model: BaseAlgorithm, rows: int) -> Fields | None:
    """Rows spread evenly over what the rollout or replay buffer holds, as the policy sees them.

    Args:
        model: the algorithm.
        rows: how many; of what a buffer can never hold, as many as it can.

    Returns:
        The fields of a `Batch`; None while a replay buffer holds fewer.
    """
    if isinstance(model, OnPolicyAlgorithm):
        return _from_rollout(model, rows)
    return _from_replay(model, rows)


def size(fields: Fields | None) -> int:
    """How many rows there are."""
    if fields is None:
        return 0
    observations = fields["observations"]
    return len(next(iter(observations.values())) if isinstance(observations, Mapping) else observations)


def joined(first: Fields | None, second: Fields) -> Fields:
    """The rows of both, for what one rollout is too small for."""
    if first is None:
        return second

    def join(name: str, one: Any, other: Any) -> Any:
        if isinstance(one, Mapping):
            return {key: join(name, one[key], other[key]) for key in one}
        if isinstance(one, tuple):
            return tuple(join(name, *pair) for pair in zip(one, other, strict=True))
        return torch.cat([one, other], dim=1 if name == "lstm_states" else 0)  # states are [layers, rows, hidden]

    return {name: join(name, first[name], second[name]) for name in second}


def batch_of(fields: Fields) -> Batch:
    """The batch whose fields are given as plain data."""
    lstm = fields.get("lstm_states")
    return Batch(**{**fields, "lstm_states": None if lstm is None else RNNStates(*lstm)})


def _from_rollout(model: OnPolicyAlgorithm, rows: int) -> Fields:
    buffer = model.rollout_buffer
    place = _spread(buffer.buffer_size if buffer.full else buffer.pos, buffer.n_envs, rows)
    if buffer.generator_ready:  # an update has laid it out flat, environment after environment
        place = (place[1] * buffer.buffer_size + place[0],)
    fields: Fields = {"observations": _tensors(buffer.observations, place, model.device)}
    if isinstance(buffer, RecurrentRolloutBuffer | RecurrentDictRolloutBuffer):

        def state(array: NDArray[Any]) -> torch.Tensor:
            # [steps, layers, environments, hidden], or flat [rows, layers, hidden], to [layers, rows, hidden]
            picked = array[place] if len(place) == 1 else array[place[0], :, place[1]]
            return torch.as_tensor(picked.swapaxes(0, 1).copy(), device=model.device)

        fields["lstm_states"] = (
            (state(buffer.hidden_states_pi), state(buffer.cell_states_pi)),
            (state(buffer.hidden_states_vf), state(buffer.cell_states_vf)),
        )
        fields["episode_starts"] = torch.as_tensor(buffer.episode_starts[place], device=model.device)
    return fields


def _from_replay(model: Any, rows: int) -> Fields | None:
    buffer = model.replay_buffer
    held = buffer.buffer_size if buffer.full else buffer.pos
    if held < buffer.buffer_size and held * buffer.n_envs < rows:
        return None
    place = _spread(held, buffer.n_envs, rows)
    seen = _rows(buffer.observations, place)
    if (normalizer := model.get_vec_normalize_env()) is not None:  # the buffer has them as they came
        seen = normalizer.normalize_obs(seen)
    fields: Fields = {"observations": _tensors(seen, ..., model.device)}
    if isinstance(model.action_space, spaces.Box):
        fields["actions"] = torch.as_tensor(buffer.actions[place], device=model.device)
    return fields


def _spread(steps: int, envs: int, rows: int) -> tuple[NDArray[np.int64], ...]:
    """Step and environment of `rows` entries, or of all if there are fewer, evenly over `steps` x `envs`."""
    total = steps * envs
    step, env = np.divmod(np.linspace(0, total - 1, min(rows, total)).astype(np.int64), envs)
    return step, env


def _rows(arrays: Any, place: Any) -> Any:
    if isinstance(arrays, Mapping):
        return {key: array[place] for key, array in arrays.items()}
    return arrays[place]


def _tensors(arrays: Any, place: Any, device: torch.device) -> Any:
    picked = _rows(arrays, place)
    if isinstance(picked, Mapping):
        return {key: torch.as_tensor(array, device=device) for key, array in picked.items()}
    return torch.as_tensor(picked, device=device)
