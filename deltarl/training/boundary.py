"""The boundary between two rollouts, where a run is stored and restored.

It lies just after an update, at the entry of `collect_rollouts`, and at the end of `learn`: nothing is under way there.
Callbacks are the wrong place. An off-policy algorithm calls them before it stores the transition, and an on-policy one
after it has drawn new exploration noise.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from deltarl import disk
from deltarl.checkpoints.checkpoint import Checkpoint, DamagedError
from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.state import MisfitError, Snapshot, capture, restore
from deltarl.checkpoints.store import Store
from deltarl.errors import ConfigError
from deltarl.fast.lean import training_step
from deltarl.reading import readable
from deltarl.training import records
from deltarl.training.finite import check_losses, check_tensors, distributions_named
from deltarl.training.formats import shapes_of
from deltarl.training.provenance import surroundings
from deltarl.training.signals import StopRequest, TrainingStopped

log = logging.getLogger(__name__)


class _Done(Exception):  # noqa: N818 - a way out of `learn`
    """The restored run has its steps already."""


@dataclass(frozen=True)
class Origin:
    """Where a run goes on from.

    Attributes:
        checkpoint: what it goes on from.
        resumes: how often it has been gone on with, this time included.
        continued: why it is not to the last bit the run that an uninterrupted one would have been; empty if it is.
    """

    checkpoint: Checkpoint | None = None
    resumes: int = 0
    continued: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.steps

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training before."""
        return 0.0 if self.checkpoint is None else float(self.checkpoint.manifest["elapsed_seconds"])


class EndlessEpisodes(BaseCallback):
    """Heeds a stop where a rollout is of whole episodes, which may never end.

    Args:
        stop_if_asked: leaves where a stop was asked for so many seconds ago.
        patience: seconds that the rollout has to end, so that it can be stored as it is.
    """

    def __init__(self, stop_if_asked: Callable[[float], None], patience: float = 60.0) -> None:
        super().__init__()
        self.stop_if_asked, self.patience = stop_if_asked, patience

    def _on_step(self) -> bool:
        if isinstance(self.model, OffPolicyAlgorithm):
            frequency: Any = self.model.train_freq
            if frequency.unit == TrainFrequencyUnit.EPISODE:
                self.stop_if_asked(self.patience)
        return True


class Boundary:
    """Restores at the first boundary of a run that goes on; then looks for faults, checkpoints, and stops on request.

    Args:
        model: the algorithm; its environments are stored with it.
        folder: of the run.
        store: its checkpoints.
        every: steps between two checkpoints; None for one at the end alone.
        origin: where the run goes on from.
        stop: whether to stop.
        also: what else is to be stored and restored, by name: the state of callbacks.
        exact: whether to refuse to go on with a run that would be another from then on.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        folder: Path,
        store: Store,
        *,
        every: int | None,
        origin: Origin,
        stop: StopRequest,
        also: Mapping[str, object] | None = None,
        exact: bool = False,
    ) -> None:
        self.model, self.folder, self.store, self.every, self.stop = model, folder, store, every, stop
        self.origin, self.continued = origin, list(origin.continued)
        self._pending = origin.checkpoint
        self._stored = -1 if origin.checkpoint is None else origin.checkpoint.steps
        self._was_refused = False
        self._next = self._next_after(max(0, self._stored))
        self._surroundings = surroundings()
        self._also, self._exact = dict(also or {}), exact

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return (time.time_ns() - self.model.start_time) / 1e9

    def learn(self, total_timesteps: int, callback: Any) -> None:
        """Call the algorithm's `learn`, and leave a checkpoint of its end.

        Raises:
            TrainingStopped: on request, when all is stored.
            NonFiniteError: if a loss, or anything that a checkpoint is to hold, is NaN or infinite.
        """
        with self._visited(), distributions_named(self.model), suppress(_Done):
            self.model.learn(total_timesteps, callback=callback)
        check_losses(self.model.num_timesteps, self.model.logger.name_to_value)
        self.write_checkpoint()
        self.stop_if_asked()

    @contextmanager
    def _visited(self) -> Iterator[None]:
        # On the instance, for as long as it learns: the algorithm's class may be anybody's.
        model: Any = self.model
        collect, dump = model.collect_rollouts, model.dump_logs

        def collect_rollouts(*args: Any, **options: Any) -> Any:
            self._visit()
            if "replay_buffer" in options:  # it may have been restored as another
                options["replay_buffer"] = model.replay_buffer
            return collect(*args, **options)

        def dump_logs(iteration: int = 0) -> None:
            # On-policy algorithms count iterations in `learn` itself, from 1 also where a run goes on.
            dump(model.num_timesteps // (model.n_steps * model.n_envs) if iteration else 0)

        model.collect_rollouts = collect_rollouts
        if isinstance(self.model, OnPolicyAlgorithm):
            model.dump_logs = dump_logs
        try:
            yield
        finally:
            vars(model).pop("collect_rollouts")
            vars(model).pop("dump_logs", None)

    def _visit(self) -> None:
        if self._pending is not None:
            self._restore(self._pending)
            self._pending = None
            if self.model.num_timesteps >= self.model._total_timesteps:
                raise _Done
        check_losses(self.model.num_timesteps, self.model.logger.name_to_value)
        if self.model.num_timesteps >= self._next or self.stop:
            self.write_checkpoint()
            self._next = self._next_after(self.model.num_timesteps)
        self.stop_if_asked()

    def stop_if_asked(self, patience: float = 0.0) -> None:
        """Leave, where a stop was asked for, at least `patience` seconds ago.

        Raises:
            TrainingStopped: saying how to go on.
            FullDiskError: if the disk had no room for any checkpoint.
        """
        if self.stop and self.stop.age >= patience:
            if self._stored < 0 and self._was_refused:
                raise disk.FullDiskError(
                    f"{self.folder}: {self.stop.reason}: stopped at step {self.model.num_timesteps:,}, and nothing is "
                    "stored: no checkpoint had room on the disk"
                )
            kept = f"stored at step {self._stored:,}; go on with: deltarl resume {self.folder}"
            if self._stored < 0:
                kept = "nothing is stored; the same command begins anew"
            raise TrainingStopped(f"{self.stop.reason}: stopped at step {self.model.num_timesteps:,}, {kept}")

    def _next_after(self, steps: int) -> int:
        return sys.maxsize if self.every is None else (steps // self.every + 1) * self.every

    def _restore(self, checkpoint: Checkpoint) -> None:
        named = put(self.model, self._also, checkpoint)
        if named and self._exact:
            raise ConfigError(
                f"{self.folder}: checkpoint.exact: {', '.join(named[:3])} of the state could not be restored, "
                "or checkpoint.exact=false"
            )
        for path in named:
            log.warning("%s: goes on, but not exactly: the state of %s could not be restored", self.folder, path)
            self.continued.append(f"state: {path} could not be restored")
        if any(path.startswith("/model/env/") and "/envs/" not in path for path in checkpoint.manifest["unsupported"]):
            _begin_episodes(self.model)
        self.model.start_time = time.time_ns() - int(self.origin.elapsed_seconds * 1e9)

    def write_checkpoint(self) -> None:
        """Store the run as it is; where the disk refuses, that is said and the run goes on.

        Raises:
            NonFiniteError: if something that was learned is NaN or infinite.
        """
        steps = self.model.num_timesteps
        if steps == self._stored:
            return
        replay = _transitions(self.model)
        try:
            snapshot = _take(self.model, self._also, replay)
        except RecursionError:
            log.warning(
                "%s: no checkpoint of step %s, the environment's objects are too deep", self.folder, f"{steps:,}"
            )
            return
        check_tensors(steps, _learned(snapshot))
        facts = {
            **self._surroundings,
            "device": str(self.model.device),
            "training_step": training_step(self.model),
            "total_timesteps": self.model._total_timesteps,
            "elapsed_seconds": self.elapsed_seconds,
            "resumes": self.origin.resumes,
            "continued": self.continued,
        }
        try:
            facts["records"] = records.sizes(self.folder, self.model.logger)
            self.store.write(steps, snapshot, replay, facts)
        except OSError as error:
            # A full disk is no reason to lose the run as well: the checkpoint before is whole.
            log.warning(
                "%s: no checkpoint of step %s, %s; %s",
                self.folder,
                f"{steps:,}",
                error.strerror or error,
                "nothing is stored yet" if self._stored < 0 else "the one before stays",
            )
            self._was_refused = True
            return
        self._stored = steps


def _begin_episodes(model: BaseAlgorithm) -> None:
    """New episodes in all environments, where those that were interrupted are beyond reach, as EnvPool's are.

    What was restored of them, the observations to act on and the returns so far, would not go with what comes now.
    """
    assert model.env is not None
    model._last_obs = model.env.reset()  # type: ignore[assignment]
    model._last_episode_starts = np.ones(model.n_envs, bool)
    if model._vec_normalize_env is not None:
        model._last_original_obs = model._vec_normalize_env.get_original_obs()
    buffer = getattr(model, "replay_buffer", None)
    if isinstance(buffer, ReplayBuffer) and buffer.size() > 0:
        # Returns of several steps end here, and are bootstrapped, as at a time limit.
        last = buffer.pos - 1
        buffer.timeouts[last] = np.maximum(buffer.timeouts[last], 1 - buffer.dones[last])


def _take(model: BaseAlgorithm, also: Mapping[str, object], replay: Transitions | None) -> Snapshot:
    everything = {"model": model, "also": dict(also), "log": _log_of(model), "random": _random_state()}
    return capture(everything, _elsewhere(replay))


def put(
    model: BaseAlgorithm, also: Mapping[str, object], checkpoint: Checkpoint, transitions: bool = True
) -> list[str]:
    """Fill an algorithm, and what else was stored, from a checkpoint; the paths of what had no place to go to.

    Args:
        model: the algorithm, with a logger.
        also: what else was stored.
        checkpoint: where from.
        transitions: whether to read those of a replay buffer too; that their shapes fit is looked at anyhow.

    Raises:
        ConfigError: if the checkpoint is of another algorithm, other networks or other environments.
    """
    replay = _transitions(model)
    everything = {"model": model, "also": dict(also), "log": _log_of(model), "random": {}}
    normalizer = model.get_vec_normalize_env()
    shapes = None if normalizer is None else shapes_of(normalizer)
    # Whatever a checkpoint from elsewhere may hold ends in one message.
    with readable(checkpoint.folder):
        try:
            if replay is not None:
                rows = checkpoint.fill(replay, nothing=not transitions)
                model.replay_buffer = replay.buffer  # type: ignore[attr-defined]
            restored, missing = restore(everything, checkpoint.snapshot(), _elsewhere(replay), compare=transitions)
            if normalizer is not None and shapes_of(normalizer) != shapes:
                raise MisfitError("the statistics of the observations have other shapes")
            if replay is not None and transitions and replay.filled != rows:
                raise MisfitError(f"replay: {rows:,} rows are stored, and the buffer had {replay.filled:,}")
        except (MisfitError, DamagedError) as error:
            raise ConfigError(
                f"{checkpoint.folder}: does not fit the config as this version reads it: {error}"
            ) from None
        _set_random_state(restored["random"])  # last: whatever is restored may draw
    return missing


def _transitions(model: BaseAlgorithm) -> Transitions | None:
    buffer = getattr(model, "replay_buffer", None)
    return Transitions(buffer) if isinstance(buffer, ReplayBuffer) else None


def _elsewhere(replay: Transitions | None) -> dict[str, np.ndarray[Any, Any]]:
    if replay is None:
        return {}
    found = dict(replay.arrays)
    if not getattr(replay.buffer, "copy_info_dict", True):
        found["infos"] = replay.buffer.infos  # type: ignore[attr-defined]  # HER's, all of them empty
    return found


def _log_of(model: BaseAlgorithm) -> dict[str, Any]:
    """What has been logged and not yet written out."""
    logger = model.logger
    return {"values": logger.name_to_value, "counts": logger.name_to_count, "excluded": logger.name_to_excluded}


def _learned(snapshot: Snapshot) -> Iterator[tuple[str, torch.Tensor]]:
    """The algorithm's state, but for the environments' own, where infinity may have its place."""
    return (item for item in snapshot.tensors.items() if item[0].startswith("/model/") and "/envs/" not in item[0])


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
