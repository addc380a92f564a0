"""The boundary between two rollouts, where a run is stored and restored.

It is just after an update, at the entry of `collect_rollouts`, and at the end of `learn`: nothing is half done there.
Callbacks are the wrong place. An off-policy algorithm calls them before it stores the transition, an on-policy one
after it has drawn new exploration noise.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from deltarl import disk
from deltarl.checkpoints.checkpoint import Checkpoint
from deltarl.checkpoints.store import Store
from deltarl.errors import ConfigError
from deltarl.fast.lean import training_step
from deltarl.fast.override import Override
from deltarl.training import records
from deltarl.training.finite import check_losses, check_tensors, distributions_named
from deltarl.training.provenance import surroundings
from deltarl.training.signals import StopRequest, TrainingStopped
from deltarl.training.state import begin_episodes, learned, put, take, transitions_of

log = logging.getLogger(__name__)


class _Done(Exception):  # noqa: N818 - a way out of `learn`
    """The restored run already has all its steps."""


@dataclass(frozen=True)
class Origin:
    """Where a run resumes from.

    Attributes:
        checkpoint: the checkpoint to resume from.
        resumes: how often the run has been resumed, this time included.
        continued: why it differs from the uninterrupted run; empty if it is the same, bit for bit.
    """

    checkpoint: Checkpoint | None = None
    resumes: int = 0
    continued: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.steps

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training before the checkpoint."""
        return 0.0 if self.checkpoint is None else float(self.checkpoint.manifest["elapsed_seconds"])


class EndlessEpisodes(BaseCallback):
    """Honours a stop request in rollouts of whole episodes, which may never end.

    Args:
        stop_if_asked: raises if a stop was requested at least this many seconds ago.
        patience: seconds that the rollout has to end, so that the run can be stored as it is.
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
    """Restores a resumed run at its first boundary; at later ones checks numbers, writes checkpoints and honours stops.

    Args:
        model: the algorithm; its environments are stored with it.
        folder: the run's folder.
        store: the run's checkpoints.
        every: steps between two checkpoints; None for one at the end only.
        origin: where the run resumes from.
        stop: the stop request.
        also: further objects to store and restore, by name: the state of callbacks.
        exact: whether to refuse to resume a run that would not be exact.
        facts: further entries of each checkpoint's manifest.
        env_id: the environment, whose packages' versions are stored.
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
        facts: Mapping[str, Any] | None = None,
        env_id: str = "",
    ) -> None:
        self.model, self.folder, self.store, self.every, self.stop = model, folder, store, every, stop
        self.origin, self.continued = origin, list(origin.continued)
        self._pending = origin.checkpoint
        self._stored = -1 if origin.checkpoint is None else origin.checkpoint.steps
        self._was_refused = False
        self._next = self._next_after(max(0, self._stored))
        self._surroundings = surroundings(env_id)
        self._also, self._exact, self._facts = dict(also or {}), exact, dict(facts or {})

    @property
    def elapsed_seconds(self) -> float:
        """Seconds of training, including those before an interruption."""
        return (time.time_ns() - self.model.start_time) / 1e9

    def learn(self, total_timesteps: int, callback: Any, *, is_ended: Callable[[], bool] = lambda: False) -> None:
        """Call the algorithm's `learn`, and write a checkpoint at its end.

        Args:
            total_timesteps: steps to train.
            callback: as in `learn`.
            is_ended: whether a callback has ended the run, possibly in the middle of a rollout, from which a run cannot
                be resumed exactly; no checkpoint is written then.

        Raises:
            TrainingStopped: on request, once everything is stored.
            NonFiniteError: if a loss, or anything to be stored in a checkpoint, is NaN or infinite.
        """
        with self._visited(), distributions_named(self.model), suppress(_Done):
            self.model.learn(total_timesteps, callback=callback)
        check_losses(self.model.num_timesteps, self.model.logger.name_to_value)
        if not is_ended():
            self.write_checkpoint()
        self.stop_if_asked()

    @contextmanager
    def _visited(self) -> Iterator[None]:
        # On the instance, while it learns: the algorithm's class may be anyone's.
        model: Any = self.model
        collect, dump = model.collect_rollouts, model.dump_logs

        def collect_rollouts(*args: Any, **options: Any) -> Any:
            self._visit()
            if "replay_buffer" in options:  # it may have been replaced when restoring
                options["replay_buffer"] = model.replay_buffer
            return collect(*args, **options)

        def dump_logs(iteration: int = 0) -> None:
            # On-policy algorithms count iterations within `learn`, from 1 even in a resumed run.
            dump(model.num_timesteps // (model.n_steps * model.n_envs) if iteration else 0)

        overrides = [Override(model, "collect_rollouts", collect_rollouts)]
        if isinstance(self.model, OnPolicyAlgorithm):
            overrides.append(Override(model, "dump_logs", dump_logs))
        try:
            yield
        finally:
            for override in overrides:
                override.end()

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
        """Stop if that was requested at least `patience` seconds ago.

        Raises:
            TrainingStopped: saying how to resume.
            FullDiskError: if the disk had no room for any checkpoint.
        """
        if self.stop and self.stop.age >= patience:
            if self._stored < 0 and self._was_refused:
                raise disk.FullDiskError(
                    f"{self.folder}: {self.stop.reason}: stopped at step {self.model.num_timesteps:,}, and nothing is "
                    "stored: the disk had no room for a checkpoint"
                )
            kept = f"stored at step {self._stored:,}; resume with: deltarl resume {self.folder}"
            if self._stored < 0:
                kept = "nothing is stored; the same command starts again"
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
            log.warning("%s: resumes, but not exactly: the state of %s could not be restored", self.folder, path)
            self.continued.append(f"state: {path} could not be restored")
        if any(path.startswith("/model/env/") and "/envs/" not in path for path in checkpoint.manifest["unsupported"]):
            begin_episodes(self.model)
        self.model.start_time = time.time_ns() - int(self.origin.elapsed_seconds * 1e9)

    def write_checkpoint(self) -> None:
        """Store the run as it is; if the disk is full, log a warning and continue.

        Raises:
            NonFiniteError: if a learned number is NaN or infinite.
        """
        steps = self.model.num_timesteps
        if steps == self._stored:
            return
        replay = transitions_of(self.model)
        try:
            snapshot = take(self.model, self._also, replay)
        except RecursionError:
            log.warning(
                "%s: no checkpoint of step %s, the environment's objects are nested too deeply",
                self.folder,
                f"{steps:,}",
            )
            return
        check_tensors(steps, learned(snapshot))
        facts = {
            **self._surroundings,
            **self._facts,
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
            # A full disk is no reason to lose the run as well: the previous checkpoint is intact.
            log.warning(
                "%s: no checkpoint of step %s, %s; %s",
                self.folder,
                f"{steps:,}",
                error.strerror or error,
                "nothing is stored yet" if self._stored < 0 else "the previous one is kept",
            )
            self._was_refused = True
            return
        self._stored = steps
