"""The state of a run: captures it from an algorithm for a checkpoint, and restores it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl.checkpoints.checkpoint import Checkpoint, DamagedError
from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.state import MisfitError, Snapshot, capture, restore
from deltarl.errors import ConfigError
from deltarl.reading import readable
from deltarl.training.formats import shapes_of


def begin_episodes(model: BaseAlgorithm) -> None:
    """Begin new episodes in all environments if the interrupted ones cannot be restored (EnvPool).

    The restored observations and episode returns would not belong to the new episodes.
    """
    assert model.env is not None
    model._last_obs = model.env.reset()  # type: ignore[assignment]
    model._last_episode_starts = np.ones(model.n_envs, bool)
    if model._vec_normalize_env is not None:
        model._last_original_obs = model._vec_normalize_env.get_original_obs()
    buffer = getattr(model, "replay_buffer", None)
    if isinstance(buffer, ReplayBuffer) and buffer.size() > 0:
        # Returns over several steps end here and are bootstrapped, as at a time limit.
        last = buffer.pos - 1
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1 - buffer.dones[last])


def take(model: BaseAlgorithm, also: Mapping[str, object], replay: Transitions | None) -> Snapshot:
    """Capture an algorithm with its environments, `also`, the log and all random state."""
    everything = {"model": model, "also": dict(also), "log": _log_of(model), "random": _random_state()}
    return capture(everything, _elsewhere(replay))


def put(
    model: BaseAlgorithm, also: Mapping[str, object], checkpoint: Checkpoint, transitions: bool = True
) -> list[str]:
    """Restore an algorithm, and `also`, from a checkpoint; return the paths of what could not be restored.

    Args:
        model: the algorithm, with a logger.
        also: what else was stored, by name.
        checkpoint: the checkpoint to read.
        transitions: whether to read the transitions of a replay buffer; their shapes are checked in any case.

    Raises:
        ConfigError: if the checkpoint was made with another algorithm, other networks or other environments.
    """
    replay = transitions_of(model)
    everything = {"model": model, "also": dict(also), "log": _log_of(model), "random": {}}
    normalizer = model.get_vec_normalize_env()
    shapes = None if normalizer is None else shapes_of(normalizer)
    # Any fault of a foreign checkpoint is reported in one message.
    with readable(checkpoint.folder):
        try:
            if replay is not None:
                rows = checkpoint.fill(replay, nothing=not transitions)
                model.replay_buffer = replay.buffer  # type: ignore[attr-defined]
            restored, missing = restore(everything, checkpoint.snapshot(), _elsewhere(replay), compare=transitions)
            if normalizer is not None and shapes_of(normalizer) != shapes:
                raise MisfitError("the statistics of the observations have other shapes")
            if replay is not None and transitions and replay.filled != rows:
                raise MisfitError(f"replay: {rows:,} rows are stored, but the buffer had {replay.filled:,}")
        except (MisfitError, DamagedError) as error:
            raise ConfigError(
                f"{checkpoint.folder}: does not fit the config as this version reads it: {error}"
            ) from None
        _set_random_state(restored["random"])  # last: restoring may draw random numbers
    return missing


def transitions_of(model: BaseAlgorithm) -> Transitions | None:
    """The transitions of an algorithm's replay buffer; None if it has no buffer."""
    buffer = getattr(model, "replay_buffer", None)
    return Transitions(buffer) if isinstance(buffer, ReplayBuffer) else None


def _elsewhere(replay: Transitions | None) -> dict[str, np.ndarray[Any, Any]]:
    if replay is None:
        return {}
    found = dict(replay.arrays)
    if not getattr(replay.buffer, "copy_info_dict", True):
        found["infos"] = replay.buffer.infos  # type: ignore[attr-defined]  # HER's, all empty
    return found


def _log_of(model: BaseAlgorithm) -> dict[str, Any]:
    """Logged values that have not been dumped yet."""
    logger = model.logger
    return {"values": logger.name_to_value, "counts": logger.name_to_count, "excluded": logger.name_to_excluded}


def learned(snapshot: Snapshot) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the algorithm, without those of environments and the bounds of spaces, which may hold infinity."""
    return (
        (name, tensor)
        for name, tensor in snapshot.tensors.items()
        if name.startswith("/model/") and not ("/envs/" in name or "_space/" in name)
    )


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
