"""Batches to measure on, read from an algorithm's buffers without drawing random numbers."""

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
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer
from deltarl.gates.measure import Batch

# The fields of a Batch as tensors, tuples and dicts: plain data, so that a probe can be stored in a checkpoint.
Fields = dict[str, Any]


def from_buffer(model: BaseAlgorithm, rows: int) -> Fields | None:
    """Rows spread evenly over the content of the rollout or replay buffer, as the policy sees them.

    Args:
        model: the algorithm.
        rows: number of rows; if the buffer is smaller than that, as many as it holds when full.

    Returns:
        The fields of a `Batch`; None while a replay buffer contains fewer rows.
    """
    if isinstance(model, OnPolicyAlgorithm):
        return _from_rollout(model, rows)
    return _from_replay(model, rows)


def newest(model: Any, steps: int) -> Fields:
    """The transitions of the last `steps` steps of every environment in a replay buffer, oldest first.

    Args:
        model: an algorithm with a replay buffer.
        steps: at least 1; if the buffer holds fewer, all of them.
    """
    buffer = model.replay_buffer
    held = buffer.buffer_size if buffer.full else buffer.pos
    back = np.arange(-min(steps, held), 0)
    step = np.repeat((buffer.pos + back) % buffer.buffer_size, buffer.n_envs)
    return _of_replay(model, (step, np.tile(np.arange(buffer.n_envs), len(back))))


def size(fields: Fields | None) -> int:
    """The number of rows."""
    if fields is None:
        return 0
    observations = fields["observations"]
    return len(next(iter(observations.values())) if isinstance(observations, Mapping) else observations)


def joined(first: Fields | None, second: Fields) -> Fields:
    """The rows of both, if one rollout is too small."""
    if first is None:
        return second

    def join(name: str, one: Any, other: Any) -> Any:
        if isinstance(one, Mapping):
            return {key: join(name, one[key], other[key]) for key in one}
        if isinstance(one, tuple):
            return tuple(join(name, *pair) for pair in zip(one, other, strict=True))
        return torch.cat([one, other], dim=1 if name == "lstm_states" else 0)  # states are [layers, rows, hidden]

    # A checkpoint of an older version has fewer fields.
    return {name: join(name, first[name], second[name]) for name in second if name in first}


def batch_of(fields: Fields) -> Batch:
    """The batch whose fields are given as plain data."""
    lstm = fields.get("lstm_states")
    return Batch(**{**fields, "lstm_states": None if lstm is None else RNNStates(*lstm)})


def _from_rollout(model: OnPolicyAlgorithm, rows: int) -> Fields:
    buffer = model.rollout_buffer
    place = _spread(buffer.buffer_size if buffer.full else buffer.pos, buffer.n_envs, rows)
    if buffer.generator_ready:  # an update has flattened it, one environment after the other
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
        fields["episode_starts"] = torch.as_tensor(buffer.episode_starts[place], device=model.device).flatten()
    fields["training"] = _of_rollout(buffer, place, model)
    return fields


def _of_rollout(buffer: Any, place: tuple[NDArray[np.int64], ...], model: OnPolicyAlgorithm) -> dict[str, torch.Tensor]:
    """The inputs of policy and value losses: actions, advantages, returns, and their earlier predictions."""

    def rows(array: NDArray[Any]) -> torch.Tensor:
        return torch.as_tensor(array[place], device=model.device).flatten()

    actions = torch.as_tensor(buffer.actions[place], device=model.device)
    found = {
        "actions": actions.long().flatten() if isinstance(model.action_space, spaces.Discrete) else actions,
        "advantages": rows(buffer.advantages),
        "returns": rows(buffer.returns),
        "old_log_prob": rows(buffer.log_probs),
        "old_values": rows(buffer.values),
    }
    if (masks := getattr(buffer, "action_masks", None)) is not None:
        found["action_masks"] = torch.as_tensor(masks[place], device=model.device)
    return found


def _from_replay(model: Any, rows: int) -> Fields | None:
    buffer = model.replay_buffer
    held = buffer.buffer_size if buffer.full else buffer.pos
    if held < buffer.buffer_size and held * buffer.n_envs < rows:
        return None
    return _of_replay(model, _spread(held, buffer.n_envs, rows))


def _of_replay(model: Any, place: tuple[NDArray[np.int64], ...]) -> Fields:
    buffer = model.replay_buffer
    normalizer = model.get_vec_normalize_env()

    def seen(arrays: Any) -> Any:
        # The buffer stores them unnormalised.
        return _tensors(arrays if normalizer is None else normalizer.normalize_obs(arrays), ..., model.device)

    fields: Fields = {"observations": seen(_rows(buffer.observations, place))}
    actions = torch.as_tensor(buffer.actions[place], device=model.device)
    if isinstance(model.action_space, spaces.Box):
        fields["actions"] = actions
    following, numbers = _following(buffer, place, normalizer)
    fields["training"] = {
        "actions": actions,
        "next_observations": seen(following),
        **{name: torch.as_tensor(array, device=model.device).reshape(-1, 1) for name, array in numbers.items()},
    }
    return fields


def _following(
    buffer: Any, place: tuple[NDArray[np.int64], ...], normalizer: VecNormalize | None
) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """Unnormalised next observations, and (n-step) reward, end and discount, one row per place.

    Goals are the original ones, because those of hindsight replay are drawn at random.
    """
    step, env = place
    steps, gamma = (buffer.n_steps, buffer.gamma) if isinstance(buffer, NStepReplayBuffer) else (1, 1.0)
    rewards, discounts = (np.zeros(len(step), np.float32) for _ in range(2))
    last, going = step.copy(), np.ones(len(step), bool)
    newest = (buffer.pos - 1) % buffer.buffer_size
    for ahead in range(steps):
        now = (step + ahead) % buffer.buffer_size
        last[going] = now[going]
        reward = buffer.rewards[now, env]
        reward = reward if normalizer is None else normalizer.normalize_reward(reward)
        rewards += np.where(going, gamma**ahead * reward, 0)
        discounts[going] = gamma ** (ahead + 1)
        # After the newest entry there is nothing, or the oldest one.
        going &= (buffer.dones[now, env] == 0) & (buffer.timeouts[now, env] == 0) & (now != newest)
    found = {"rewards": rewards, "dones": buffer.dones[last, env] * (1 - buffer.timeouts[last, env])}
    if isinstance(buffer, NStepReplayBuffer):
        found["discounts"] = discounts
    if isinstance(buffer, SharedReplayBuffer):
        return buffer.following(last * buffer.n_envs + env), found
    if getattr(buffer, "optimize_memory_usage", False):
        return _rows(buffer.observations, ((last + 1) % buffer.buffer_size, env)), found
    return _rows(buffer.next_observations, (last, env)), found


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
