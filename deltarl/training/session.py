"""Train one seed of a run in this process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import disk
from deltarl.agents import KLAdaptiveScheduleSpec
from deltarl.checkpoints import checkpoint
from deltarl.checkpoints.store import Store
from deltarl.errors import NonFiniteError
from deltarl.fast.lean import training_step
from deltarl.gates import GateCallback
from deltarl.recording import logged, make_logger, sinks_of
from deltarl.schedules import KLAdaptiveLearningRate
from deltarl.training import folder as files
from deltarl.training import formats
from deltarl.training.best import Best
from deltarl.training.boundary import Boundary, EndlessEpisodes, Origin
from deltarl.training.build import built
from deltarl.training.callbacks import UserCallbacks, name_of, unsupported
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.playback import record_clip
from deltarl.training.progress import ProgressCallback, Report
from deltarl.training.records import about, describe, record_evaluation
from deltarl.training.result import RunResult, peak_memory, result_in
from deltarl.training.resume import has_finished, reopen
from deltarl.training.signals import StopRequest, TrainingStopped
from deltarl.training.spec import RunSpec

log = logging.getLogger(__name__)

# Seconds that a stop waits for an evaluation during training to end, so that the run can be stored as it is. Otherwise
# the run goes back to its last checkpoint.
PATIENCE = 5.0


class EvaluationCallback(BaseCallback):
    """Evaluates every `spec.steps_between_evaluations` steps, which does not change what is learned.

    Args:
        spec: the run.
        folder: the run's folder.
        normalizer: normalises its observations.
        best: keeps the best policy.
        steps: the step that the run starts or resumes at.
        check: called before each step of an evaluation; may raise to end it.
        evaluating: the context of each evaluation.
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path,
        normalizer: VecNormalize | None,
        best: Best,
        steps: int,
        *,
        check: Callable[[], None],
        evaluating: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__()
        self.spec, self.folder, self.normalizer, self.best = spec, folder, normalizer, best
        self.check, self.evaluating = check, evaluating
        self._next = self._next_after(steps)
        self.latest: int | None = None

    def _next_after(self, steps: int) -> int:
        every = self.spec.steps_between_evaluations
        return sys.maxsize if every is None else (steps // every + 1) * every

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next and self.num_timesteps < self.spec.total_timesteps:
            self._next = self._next_after(self.num_timesteps)
            with self.evaluating():
                evaluation = _evaluated(self.spec, self.model, self.normalizer, self.check)
            if evaluation.note is not None:
                log.warning("%s: step %s: %s", self.folder, f"{self.num_timesteps:,}", evaluation.note)
            self.best.offer(self.num_timesteps, evaluation)
            phase = self.spec.env.phase(self.num_timesteps)
            record_evaluation(self.folder, self.logger, self.num_timesteps, evaluation, phase)
            self.latest = self.num_timesteps
            if self.spec.eval.video:
                record_clip(self.logger, self.model, self.spec, self.normalizer, self.num_timesteps, check=self.check)
        return True


def _evaluated(
    spec: RunSpec, model: BaseAlgorithm, normalizer: VecNormalize | None, check: Callable[[], None]
) -> Evaluation:
    """Evaluate according to the config; `check` is called before each step."""
    return evaluate_policy(
        model,
        spec.env.held(model.num_timesteps),
        normalizer,
        spec.eval.episodes,
        n_envs=spec.eval.n_envs,
        max_episode_steps=spec.eval.max_episode_steps,
        watch=lambda _: check(),
    )


def train_one(
    spec: RunSpec,
    seed: int,
    found: Path | None,
    *,
    command: list[str],
    report: Report,
    stop: StopRequest,
    callbacks: Sequence[BaseCallback] = (),
) -> RunResult:
    """Train one seed in this process.

    Args:
        spec: the run.
        seed: the seed.
        found: the folder of a run to resume; None to start one.
        command: the command to record in the provenance.
        report: called with the progress.
        stop: the stop request, checked at every boundary.
        callbacks: the user's own.

    Raises:
        ConfigError, NonFiniteError, FullDiskError, TrainingStopped: as in `train`.
    """
    threads, folder = torch.get_num_threads(), found
    torch.set_num_threads(spec.threads)
    try:
        with built(spec, seed, found) as (model, normalizer), ExitStack() as held:
            if found is None:
                facts = {"training_step": training_step(model), "callbacks": [name_of(each) for each in callbacks]}
                folder = held.enter_context(files.claimed(spec, seed, command, facts))
                store, origin = Store(folder, spec.checkpoint.keep), Origin()
            else:
                held.enter_context(files.reopened(folder := found))
                if has_finished(folder, spec):  # in another process, meanwhile
                    return result_in(folder)
                store = Store(folder, spec.checkpoint.keep)
                origin = reopen(folder, spec, store, model, command, callbacks)
            return _learn(
                spec,
                seed,
                model,
                normalizer,
                folder=folder,
                store=store,
                origin=origin,
                report=report,
                stop=stop,
                users=UserCallbacks(callbacks),
            )
    except Exception as error:
        if not disk.is_full(error):
            raise
        kept = [] if folder is None else checkpoint.steps_of(folder)
        if not kept:
            raise disk.FullDiskError(
                f"{folder or spec.out}: no space left on the disk, and nothing is stored; when there is room, the same "
                "command starts again"
            ) from error
        raise TrainingStopped(
            f"no space left on the disk: stopped, stored at step {kept[0]:,}; when there is room, resume with: "
            f"deltarl resume {folder}"
        ) from error
    finally:
        torch.set_num_threads(threads)


def _learn(
    spec: RunSpec,
    seed: int,
    model: BaseAlgorithm,
    normalizer: VecNormalize | None,
    *,
    folder: Path,
    store: Store,
    origin: Origin,
    report: Report,
    stop: StopRequest,
    users: UserCallbacks,
) -> RunResult:
    with ExitStack() as opened:
        logger = opened.enter_context(
            logged(make_logger(folder, origin.elapsed_seconds, spec.logging, partial(about, folder, spec, seed)))
        )
        model.set_logger(logger)
        if not origin.resumes:
            describe(logger, spec, seed)
        asked = spec.gates
        gates = (
            None
            if asked.every is None
            else GateCallback(asked.every, asked.rows, folder / files.GATES, scalars=asked.scalars)
        )
        also: dict[str, object] = {} if gates is None else {"gates": gates.state}
        facts: dict[str, object] = {}
        if users.callbacks:
            not_stored = unsupported(users.callbacks)
            facts = {"callbacks": [name_of(each) for each in users.callbacks], "callbacks_not_stored": not_stored}
            if not not_stored:
                also["callbacks"] = users.callbacks
        boundary = Boundary(
            model,
            folder,
            store,
            every=spec.checkpoint.every,
            origin=origin,
            stop=stop,
            also=also,
            exact=spec.checkpoint.exact,
            facts=facts,
            env_id=spec.env.id,
        )
        best = Best(store, folder, model, normalizer)
        progress = ProgressCallback(spec.total_timesteps, report)
        evaluations = EvaluationCallback(
            spec,
            folder,
            normalizer,
            best,
            origin.steps,
            check=partial(boundary.stop_if_asked, PATIENCE),
            evaluating=progress.evaluating,
        )
        callbacks: list[BaseCallback] = [
            progress,  # first, so that the steps of an evaluation are reported before it begins
            evaluations,
            EndlessEpisodes(boundary.stop_if_asked),
            *([] if gates is None else [gates]),
        ]
        if isinstance(rate := spec.agent.learning_rate, KLAdaptiveScheduleSpec):
            callbacks.append(KLAdaptiveLearningRate(rate.target, rate.factor, rate.bounds))
        callbacks.append(users)  # last, so that an evaluation of the same step is recorded when they are called
        try:
            boundary.learn(spec.total_timesteps, callbacks, is_ended=lambda: users.stopped_by is not None)
        except NonFiniteError as error:
            kept = checkpoint.steps_of(folder)
            before = f"the newest checkpoint is of step {kept[0]:,}" if kept else "there is no checkpoint yet"
            raise NonFiniteError(f"{folder}: {error}; {before}") from None
        wall_seconds = boundary.elapsed_seconds
        if gates is not None:
            gates.save()
            gates.draw()
        _save_model(model, normalizer, folder)

        with progress.evaluating():
            evaluation = _evaluated(spec, model, normalizer, boundary.stop_if_asked)
        best.offer(model.num_timesteps, evaluation)
        phase = spec.env.phase(model.num_timesteps)
        if evaluations.latest != model.num_timesteps:  # a callback may end a run where it was just evaluated
            record_evaluation(folder, logger, model.num_timesteps, evaluation, phase)
        if spec.eval.video:
            record_clip(logger, model, spec, normalizer, model.num_timesteps, check=boundary.stop_if_asked)
        result = RunResult(
            folder=folder,
            seed=seed,
            status="finished" if users.stopped_by is None else "stopped",
            steps=model.num_timesteps,
            wall_seconds=round(wall_seconds, 2),
            device=str(model.device),
            episodes=len(evaluation.returns),
            final_return_mean=evaluation.return_mean,
            final_return_std=evaluation.return_std,
            success_rate=evaluation.success_rate,
            peak_memory_mib=peak_memory(),
            resumes=origin.resumes,
            continued=tuple(boundary.continued),
            notes=tuple(_notes(spec, model.num_timesteps, evaluation, users.stopped_by)),
        )
        files.write_json(folder / files.RESULT, {k: v for k, v in asdict(result).items() if k != "folder"})
        for sink in sinks_of(logger):
            sink.summary(result.scores(), model.num_timesteps)
    return result


def _notes(spec: RunSpec, steps: int, evaluation: Evaluation, stopped_by: str | None) -> Iterator[str]:
    if stopped_by is not None:
        yield f"stopped by the callback {stopped_by} at step {steps:,} of {spec.total_timesteps:,}"
    if evaluation.note is not None:
        yield evaluation.note


def _save_model(model: BaseAlgorithm, normalizer: VecNormalize | None, folder: Path) -> None:
    formats.save_policy(model.policy, folder / files.POLICY)
    model.save(folder / files.SB3_MODEL)
    if normalizer is not None:
        formats.save_normalizer(normalizer, folder / files.NORMALIZER)
        normalizer.save(str(folder / files.SB3_NORMALIZER))
