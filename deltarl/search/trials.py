"""Trains trials: each of a study's workers takes one after the other, until there are enough or time is up."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import trim_mean

from deltarl import recording
from deltarl.disk import FullDiskError
from deltarl.errors import ConfigError, plain
from deltarl.search.given import is_given
from deltarl.search.pruning import Pruning
from deltarl.search.space import Value
from deltarl.search.spec import Search, trial_name
from deltarl.search.storage import LEFT, SCORES, Claim, Place, claimed, fail, open_study
from deltarl.training import folder as files
from deltarl.training.differences import differing, fixed_differences
from deltarl.training.progress import Progress, Report
from deltarl.training.result import RunResult, result_in
from deltarl.training.resume import has_finished
from deltarl.training.session import train_one
from deltarl.training.signals import StopRequest, TrainingStopped
from deltarl.training.spec import RunSpec

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

SUMMARY = "summary"  # folder of a study with an event file for each trial: its values and its score
LONGEST_REASON = 300


@dataclass(frozen=True, kw_only=True)
class TrialProgress(Progress):
    """The progress of a worker.

    Attributes:
        trial: the number of its trial.
        seed: the seed that it trains.
        total: steps of a run.
        ended: how the trial ended; empty while it runs.
        counts: trials of the study by state, when it ended.
        best: the best score of the study, when it ended.
    """

    trial: int
    seed: int = 0
    total: int = 0
    ended: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    best: float | None = None


@dataclass(frozen=True)
class Budget:
    """When a study ends.

    Attributes:
        trials: trials of the whole study; None for any number.
        until: no trial begins after this time, in seconds since the epoch; None for no limit.
    """

    trials: int | None
    until: float | None = None

    @property
    def is_over(self) -> bool:
        return self.until is not None and time.time() >= self.until


def work(  # noqa: PLR0917 - what a launcher calls it with comes last
    search: Search, place: Place, budget: Budget, command: list[str], report: Report, stop: StopRequest
) -> int:
    """Take trials, one after the other; return how many have ended.

    Raises:
        TrainingStopped: on request, once the current run is stored.
    """
    study = open_study(search, place)
    ended = 0
    while not budget.is_over:
        if stop:
            raise TrainingStopped(f"{stop.reason}: stopped between two trials")
        with claimed(search, place, study, budget.trials) as claim:
            if claim is None:
                break
            _Trial(search, place, study, claim, command, report, stop).train()
        ended += 1
    return ended


class _Trial:
    """A trial that a worker is training."""

    def __init__(  # noqa: PLR0917
        self,
        search: Search,
        place: Place,
        study: optuna.Study,
        claim: Claim,
        command: list[str],
        report: Report,
        stop: StopRequest,
    ) -> None:
        self.search, self.place, self.study, self.claim = search, place, study, claim
        self.command, self.report, self.stop = command, report, stop
        self.trial, self.number = claim.trial, claim.trial.number
        frozen = study.get_trials(deepcopy=False)[self.number]
        self._reported = set(frozen.intermediate_values)
        self._is_whole = is_given(frozen)

    def train(self) -> None:
        """Train the trial's runs, and tell the study how it ended; a failure is a result like others.

        Raises:
            TrainingStopped, FullDiskError: if the trial can go on later.
        """
        try:
            spec = self.search.trial(self.number, self.claim.values)
            self._finish(spec, self._scores(spec))
        except (TrainingStopped, FullDiskError):
            self.trial.set_user_attr(LEFT, True)
            raise
        except (Exception, SystemExit) as error:
            if not isinstance(error, ConfigError | FloatingPointError):
                log.warning("trial %d failed:\n%s", self.number, traceback.format_exc())
            reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
            reason = plain(" ".join(reason.split())[:LONGEST_REASON])
            fail(self.study, self.trial, reason)
            self._say(f"FAILED: {reason}")

    def _scores(self, spec: RunSpec) -> list[float] | None:
        """The final returns of the trial's runs; None if it was pruned."""
        scores: list[float] = []
        whole = self.search.evaluations
        for index, seed in enumerate(spec.seeds):
            result = self._run(spec, seed, before=index * whole)
            if result.status == "stopped":
                return None
            scores.append(result.final_return_mean)
            self.trial.set_user_attr(SCORES, scores)
            # The last evaluation is the run's result, which no pruner can improve on.
            is_poor = self._judge((index + 1) * whole, result.final_return_mean)
            if is_poor and index + 1 < len(spec.seeds):
                return None
        return scores

    def _run(self, spec: RunSpec, seed: int, before: int) -> RunResult:
        """Train one seed, or resume it; the result of one that has finished is read."""
        folder = Path(spec.out) / spec.name / f"seed-{seed}"
        found = folder if (folder / files.CONFIG).exists() else None
        if found is not None:
            if keys := fixed_differences(files.load_spec(found), spec):
                raise differing(found, keys)
            if has_finished(found, spec):
                return result_in(found)
        pruning = Pruning(lambda place, score: self._judge(before + place, score))

        def tell(progress: Progress) -> None:
            own = TrialProgress(**vars(progress), trial=self.number, seed=seed, total=spec.total_timesteps)
            self.report(own)

        own = spec.model_copy(update={"seeds": (seed,)})
        return train_one(own, seed, found, command=self.command, report=tell, stop=self.stop, callbacks=[pruning])

    def _judge(self, place: int, score: float) -> bool:
        """Report an evaluation, and ask the study's pruner; an evaluation before an interruption was judged then."""
        if place in self._reported:
            return False
        self.trial.report(score, place)
        self._reported.add(place)
        return not self._is_whole and self.trial.should_prune()

    def _finish(self, spec: RunSpec, scores: Sequence[float] | None) -> None:
        from optuna.trial import TrialState  # noqa: PLC0415 - an extra

        score = None if scores is None else aggregated(scores, self.search.spec.score)
        self._summarise(spec, score)
        if score is None:
            self.study.tell(self.trial, state=TrialState.PRUNED)
            self._say("pruned")
        else:
            self.study.tell(self.trial, score)
            self._say(f"score {score:,.1f}")

    def _summarise(self, spec: RunSpec, score: float | None) -> None:
        """Write the trial's values and its score to the sinks that compare runs."""
        last = self.study.get_trials(deepcopy=False)[self.number].intermediate_values
        known = max(last, default=None)
        scores = {"tune/score": score} if score is not None else {}
        scores |= {} if known is None else {"tune/last_evaluation": last[known]}
        settings: dict[str, Any] = {"Trial": self.number, "Ended": "pruned" if score is None else "finished"}
        settings |= {path: _plain(value) for path, value in self.claim.values.items()}
        recording.write_summary(
            self.place.folder / SUMMARY / trial_name(self.number), settings, scores, spec.total_timesteps
        )

    def _say(self, ended: str) -> None:
        trials = self.study.get_trials(deepcopy=False)
        counts: dict[str, int] = {}
        for each in trials:
            counts[each.state.name.lower()] = counts.get(each.state.name.lower(), 0) + 1
        scores = [each.value for each in trials if each.state.name == "COMPLETE" and each.value is not None]
        best = max(scores, default=None)
        self.report(TrialProgress(0, 0.0, trial=self.number, ended=ended, counts=counts, best=best))


def aggregated(scores: Sequence[float], how: str) -> float:
    """The mean, median or interquartile mean of a trial's scores."""
    if how == "iqm":
        return float(trim_mean(scores, 0.25))
    return float(np.median(scores) if how == "median" else np.mean(scores))


def _plain(value: Value) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
