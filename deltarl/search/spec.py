"""A search as data, and what a trial of it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from deltarl import places
from deltarl.errors import Spec, complaint
from deltarl.library import TORSO_KEYS, Layer, compose
from deltarl.search.engines import MedianSpec, PrunerSpec, SamplerSpec, TPESpec
from deltarl.search.space import Space, Value, is_met
from deltarl.training.spec import RunSpec

# Seeds of tuning, which nothing else uses by default: a score that chose a config is no evidence for it.
FIRST_TUNING_SEED = 900_000
MOST_TUNING_SEEDS = 1_000
# What a space may contain. All else is a condition under which scores are compared.
SEARCHED = ("agent", *TORSO_KEYS, "env")
TASK = ("env", "env.id", "env.base")
TRIALS = "trials"  # folder of a study with a folder for each trial


class SpaceSpec(Spec):
    """What is searched, and how."""

    space: Space = Field(
        description="What is searched: for each path of an option a list to choose from, or a range with its type."
    )
    sampler: SamplerSpec = Field(TPESpec(), description="Optuna's sampler by name, with its arguments.")
    pruner: PrunerSpec = Field(MedianSpec(), description="Optuna's pruner by name, with its arguments; none for none.")
    score: Literal["mean", "median", "iqm"] = Field(
        "mean",
        description="How the final returns of a trial's runs become its score; iqm: the mean of the middle half.",
    )

    @field_validator("space")
    @classmethod
    def _something_is_searched(cls, space: Space) -> Space:
        if not space:
            raise complaint("expected at least one parameter, such as agent.learning_rate")
        return space


class SearchSpec(SpaceSpec):
    """The keys of a search's file."""

    n_seeds: Annotated[int, Field(ge=1, le=MOST_TUNING_SEEDS)] = Field(
        1, description=f"Runs of each trial, with seeds {FIRST_TUNING_SEED}, {FIRST_TUNING_SEED + 1}, ..."
    )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every trial."""
        return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.n_seeds))


@dataclass(frozen=True)
class Search:
    """A search, resolved.

    Attributes:
        spec: space, sampler, pruner and score.
        run: the config that trials change.
        seeds: the seeds of every trial.
        layers: what `run` was composed of, for the same with a trial's values.
        source: the file of the space.
        pinned: parameters that overrides give a value, which are not searched.
        notes: messages for the user.
        settle: completes the config of a trial, such as by inner widths that give it a certain size. It goes to the
            processes that train, so it can be pickled.
    """

    spec: SpaceSpec
    run: RunSpec
    seeds: tuple[int, ...]
    layers: tuple[Layer, ...]
    source: Layer
    pinned: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settle: Callable[[RunSpec], RunSpec] | None = None

    @property
    def folder(self) -> Path:
        """The folder of the study: `<out>/<name>`."""
        return places.expanded(self.run.out, "out") / self.run.name

    @property
    def evaluations(self) -> int:
        """Evaluations of one run, including that of its final policy."""
        every = self.run.steps_between_evaluations
        return 1 if every is None else -(-self.run.total_timesteps // every)

    def trial(self, number: int, values: Mapping[str, Value]) -> RunSpec:
        """The runs of a trial.

        Args:
            number: the trial's number.
            values: what it gives the options, by path.

        Raises:
            ConfigError: if the values do not go together.
        """
        run = self.settled(values)
        out = str(self.folder / TRIALS)
        return run.model_copy(update={"name": trial_name(number), "out": out, "seeds": self.seeds})

    def settled(self, values: Mapping[str, Value]) -> RunSpec:
        """The config with these values, complete.

        Raises:
            ConfigError: if they do not go together.
        """
        run = self.with_values(values)
        return run if self.settle is None else self.settle(run)

    def with_values(self, values: Mapping[str, Value]) -> RunSpec:
        """The config with these values, as it stands.

        Raises:
            ConfigError: if they do not go together; names the file and line of the space.
        """
        return compose([*self.layers, *layers_of(values, self.source)], self.run.name).spec

    def is_searched(self, path: str, values: Mapping[str, Value]) -> bool:
        """Whether a parameter is searched, given the values of those before it.

        Conditions on options that are no parameters ask the config.
        """
        condition = self.spec.space[path].when
        asked = {other: value_at(self.run, other) for other in condition if other not in self.spec.space}
        known = {other: value for other, value in asked.items() if value is not NOTHING}
        return is_met(condition, {**known, **values})


def trial_name(number: int) -> str:
    """The name of a trial's folder; four digits keep the first 10,000 in order."""
    return f"trial-{number:04}"


def layers_of(values: Mapping[str, Value], source: Layer) -> list[Layer]:
    """A layer for each value, so that any complaint names the line of its parameter in the space."""
    found = []
    for path, value in values.items():
        data: Any = value
        key = tuple(path.split("."))
        for part in reversed(key):
            data = {part: data}
        place = source.place(("space", path))
        places_of_key = {key[:length]: place for length in range(1, len(key) + 1)}
        found.append(Layer(data, places_of_key, source.source, (*source.prefix, "space")))
    return found


class _Nothing:
    """Placeholder for an option that the config does not have."""


NOTHING = _Nothing()


def value_at(run: RunSpec, path: str) -> Value:
    """The value of a config's option; `torso` stands for both roles, which must agree. `NOTHING` if there is none."""
    first, _, rest = path.partition(".")
    if first == "torso":
        actor, critic = (value_at(run, f"{role}.{rest}") for role in ("actor_torso", "critic_torso"))
        return actor if actor == critic else NOTHING
    value: Any = run.model_dump(mode="json")
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return NOTHING
        value = value[part]
    return value
