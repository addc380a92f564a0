"""Optuna's samplers and pruners as data, by name, each with its own arguments.

Arguments that are not given have Optuna's defaults, which no file here repeats.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from deltarl.errors import Spec, complaint

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

_Count = Annotated[int, Field(ge=0)]
_OneOrMore = Annotated[int, Field(ge=1)]
_SEEDS = 2**31


class _Named(Spec):
    def arguments(self) -> dict[str, Any]:
        """The arguments that were given, for Optuna's class."""
        given = self.model_dump(exclude={"name", "seed"})
        return {key: value for key, value in given.items() if value is not None}


class _Sampler(_Named):
    seed: Annotated[int, Field(ge=0, lt=_SEEDS)] = Field(0, description="Seed of what is drawn.")


class TPESpec(_Sampler):
    """Tree-structured Parzen estimator (Watanabe, arXiv 2304.11127)."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: _Count | None = Field(None, description="Trials drawn at random before the model is used.")
    n_ei_candidates: _OneOrMore | None = Field(None, description="Candidates of which the most promising one is taken.")
    multivariate: bool | None = Field(None, description="Model parameters jointly.")
    group: bool | None = Field(None, description="Model the parameters of each condition jointly.")
    constant_liar: bool | None = Field(None, description="Keep away from what other processes are trying.")

    @model_validator(mode="after")
    def _groups_are_multivariate(self) -> TPESpec:
        if self.group and self.multivariate is False:
            raise complaint("group needs multivariate: true", key="group")
        return self


class RandomSpec(_Sampler):
    """Independent uniform draws."""

    name: Literal["random"]


class CMAESSpec(_Sampler):
    """Covariance matrix adaptation; choices, and parameters with conditions, are drawn at random."""

    name: Literal["cmaes"]
    sigma0: Annotated[float, Field(gt=0)] | None = Field(None, description="Initial standard deviation.")
    n_startup_trials: _Count | None = Field(None, description="Trials drawn at random before the first generation.")
    popsize: Annotated[int, Field(ge=2)] | None = Field(None, description="Trials of a generation.")
    consider_pruned_trials: bool | None = Field(None, description="Learn from pruned trials too.")
    use_separable_cma: bool | None = Field(None, description="Adapt a diagonal matrix only.")
    with_margin: bool | None = Field(None, description="Keep integers from getting stuck.")
    lr_adapt: bool | None = Field(None, description="Adapt the learning rate, for noisy scores.")


class QMCSpec(_Sampler):
    """Quasi-random points, which cover the space evenly; choices, and parameters with conditions, at random."""

    name: Literal["qmc"]
    qmc_type: Literal["sobol", "halton"] | None = Field(None, description="Sequence of points.")
    scramble: bool | None = Field(None, description="Scramble the sequence.")


class MedianSpec(_Named):
    """Stop a trial whose best evaluation is below the median of the others' at the same point."""

    name: Literal["median"] = "median"
    n_startup_trials: _Count | None = Field(None, description="Trials that have to finish before any is stopped.")
    n_warmup_steps: _Count | None = Field(None, description="Evaluations of a trial before it may be stopped.")
    interval_steps: _OneOrMore | None = Field(None, description="Evaluations between two decisions.")
    n_min_trials: _OneOrMore | None = Field(None, description="Trials needed at a point to compare with.")


class SuccessiveHalvingSpec(_Named):
    """Asynchronous successive halving (Li et al., arXiv 1810.05934)."""

    name: Literal["successive_halving"]
    min_resource: _OneOrMore | Literal["auto"] | None = Field(
        None, description="Evaluations before the first decision."
    )
    reduction_factor: Annotated[int, Field(ge=2)] | None = Field(None, description="One trial in this many continues.")
    min_early_stopping_rate: _Count | None = Field(None, description="Decisions left out at the beginning.")
    bootstrap_count: _Count | None = Field(None, description="Trials needed at a decision.")


class HyperbandSpec(_Named):
    """Hyperband (Li et al., arXiv 1603.06560): successive halving with several starting budgets."""

    name: Literal["hyperband"]
    min_resource: _OneOrMore | None = Field(None, description="Evaluations before the first decision.")
    max_resource: _OneOrMore | Literal["auto"] | None = Field(
        None, description="Evaluations of a whole trial; default: counted from the config."
    )
    reduction_factor: Annotated[int, Field(ge=2)] | None = Field(None, description="One trial in this many continues.")
    bootstrap_count: _Count | None = Field(None, description="Trials needed at a decision.")


class NoPrunerSpec(_Named):
    """No pruning: every trial is trained to its end."""

    name: Literal["none"]


def _named(default: str) -> BeforeValidator:
    """A bare name is short for a mapping, in which the name of the default may be left out."""

    def spelled(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(spelled)


SamplerSpec = Annotated[
    Annotated[TPESpec | RandomSpec | CMAESSpec | QMCSpec, Field(discriminator="name")], _named("tpe")
]
PrunerSpec = Annotated[
    Annotated[MedianSpec | SuccessiveHalvingSpec | HyperbandSpec | NoPrunerSpec, Field(discriminator="name")],
    _named("median"),
]


def make_sampler(spec: SamplerSpec, trial: int) -> BaseSampler:
    """The sampler for one trial.

    Each trial has a new one with its own seed: draws then depend only on the study's history, not on the process that
    draws, or on how often the study was stopped.

    Args:
        spec: the sampler as data.
        trial: the trial's number.
    """
    from optuna import samplers  # noqa: PLC0415 - an extra

    own = (spec.seed + 1_000_003 * (trial + 1)) % _SEEDS
    arguments = spec.arguments()
    quiet: dict[str, Any] = {"warn_independent_sampling": False}
    with quietly():
        match spec:
            case RandomSpec():
                return samplers.RandomSampler(seed=own)
            case CMAESSpec():
                return samplers.CmaEsSampler(
                    seed=own, independent_sampler=samplers.RandomSampler(seed=own), **quiet, **arguments
                )
            case QMCSpec():
                # All points belong to one sequence, so all of its trials share the seed.
                return samplers.QMCSampler(
                    seed=spec.seed, independent_sampler=samplers.RandomSampler(seed=own), **quiet, **arguments
                )
            case _:
                return samplers.TPESampler(seed=own, **arguments)


def make_pruner(spec: PrunerSpec, evaluations: int) -> BasePruner:
    """The pruner of a study.

    Args:
        spec: the pruner as data.
        evaluations: evaluations of a whole trial.
    """
    from optuna import pruners  # noqa: PLC0415

    kinds: Mapping[str, Any] = {
        "median": pruners.MedianPruner,
        "successive_halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
        "none": pruners.NopPruner,
    }
    arguments = spec.arguments()
    if isinstance(spec, HyperbandSpec):
        arguments.setdefault("max_resource", evaluations)
    return kinds[spec.name](**arguments)  # type: ignore[no-any-return]


@contextmanager
def quietly() -> Iterator[None]:
    """Silence Optuna's log, and its warnings about experimental features and estimates from few trials."""
    from optuna import logging  # noqa: PLC0415

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
