"""A comparison as data, and the runs that it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from deltarl import places
from deltarl.comparison.axes import Value, are_axes, fault_of, points
from deltarl.errors import ConfigError, Spec, complaint, suggestion
from deltarl.search.spec import FIRST_TUNING_SEED, SpaceSpec
from deltarl.training.spec import RunSpec, Seeds

if TYPE_CHECKING:
    from deltarl.comparison.matching import Size
    from deltarl.search.spec import Search

Metric = Literal["final", "area"]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=80)]
# Files in a comparison's folder, besides its runs.
COMPARISON = "comparison.yaml"
SIZES = "sizes.json"
COSTS = "costs.json"
TUNING = "tuning.json"
# Folders in a comparison's, besides those of tasks: the searches that tuned its arms, and its runs without tuning.
TRIALS, UNTUNED = "tuning", "untuned"
# Keys that an arm may change. All others define the conditions of the comparison.
ARM_KEYS = ("torso", "actor_torso", "critic_torso", "encoder", "agent")
NO_SUM = 1e-9  # tolerance for weights that sum to 0


class TuneSpec(SpaceSpec):
    """How the arms are tuned; in a file, `space` may also name a space, whose other keys are then the defaults."""

    trials: int = Field(30, ge=1, description="Trials of each arm on each task.")
    seeds: Seeds = Field((FIRST_TUNING_SEED,), description="Seeds of every trial; the comparison has others.")


class ComparisonSpec(Spec):
    """The keys of a comparison, in addition to those of a config, which apply to all of its runs."""

    name: str = Field("comparison", pattern=r"^[^/\x00.][^/\x00]*$", max_length=200, description="Folder below `out`.")
    tasks: dict[Name, dict[str, Any]] = Field(
        description="Keys of a config that hold in one task, such as its `env`; `config` names one to start from.",
    )
    arms: dict[Name, dict[str, Any]] = Field(description=f"What is compared: {', '.join(ARM_KEYS)}; all else is equal.")
    seeds: Seeds = Field((0, 1, 2, 3, 4), description="Seeds, the same for every arm and task.")
    reference: str = Field(description="The arm that the others are matched to and compared with.")
    match: Literal["width", "parameters", "flops"] = Field(
        "parameters",
        description="What arms have in common: the width as it stands, or, by the choice of `hidden`, the number of "
        "parameters or the FLOPs of a forward pass.",
    )

    variants: dict[Name, dict[str, Any]] = Field(
        {},
        description="Settings that each arm is run with once, as ARM+VARIANT, as for tuning: what an arm may change; "
        "the report has a table of how much they matter.",
    )
    axes: dict[str, tuple[Value, ...]] = Field(
        {},
        description="Options of a run by path, with the values that they take, such as {torso.depth: [2, 8, 16]}: "
        "every task is run with each, as TASK+depth=2, and the report draws the arms' scores against them.",
    )
    tune: TuneSpec | None = Field(
        None,
        description="Tunes every arm on every task with the same number of trials; its runs then have the best values, "
        "and the same runs without tuning are made for comparison.",
    )
    metric: Metric = Field(
        "final",
        description="The primary metric: the return of the final policy, or the mean return over training (area).",
    )
    contrasts: dict[Name, dict[str, float]] = Field(
        {},
        description="What is tested, by name: weights of arms that sum to 0, such as {delta: 1, residual: -1}. Without "
        "any, each arm is compared with the reference.",
    )
    primary: tuple[str, ...] = Field(
        (), description="The contrasts that the comparison is made for; all others are adjusted together, apart."
    )
    sigma: dict[str, Positive] = Field(
        {},
        description="Planned standard deviation of the primary metric over seeds, by task: the unit of contrasts over "
        "tasks, and what power is computed from.",
    )
    equivalence: Positive | None = Field(
        None, description="Contrasts are also tested for being no larger than this many planned standard deviations."
    )

    @model_validator(mode="before")
    @classmethod
    def _arms_times_variants(cls, data: Any) -> Any:
        arms, variants = (data.get(key) if isinstance(data, dict) else None for key in ("arms", "variants"))
        if not isinstance(arms, dict) or not isinstance(variants, dict) or not variants:
            return data
        return {**data, "arms": {f"{arm}+{variant}": own for arm, own in arms.items() for variant in variants}}

    @model_validator(mode="before")
    @classmethod
    def _tasks_times_points(cls, data: Any) -> Any:
        tasks, axes = (data.get(key) if isinstance(data, dict) else None for key in ("tasks", "axes"))
        if not isinstance(tasks, dict) or not axes or not are_axes(axes):
            return data
        return {**data, "tasks": {f"{task}+{point}": own for task, own in tasks.items() for point in points(axes)}}

    @field_validator("axes", mode="before")
    @classmethod
    def _values_can_name_tasks(cls, axes: Any) -> Any:
        if isinstance(axes, dict):
            lists = {path: values for path, values in axes.items() if isinstance(values, list | tuple)}
            if (fault := fault_of(lists)) is not None:
                raise complaint(fault[1], key=fault[0])
        return axes

    @model_validator(mode="after")
    def _there_is_something_to_compare(self) -> ComparisonSpec:
        if len(self.arms) < 2:
            raise complaint(f"expected at least two arms, got {', '.join(self.arms) or 'none'}", key="arms")
        if not self.tasks:
            raise complaint("expected at least one task, got none", key="tasks")
        return self

    @model_validator(mode="after")
    def _reference_is_an_arm(self) -> ComparisonSpec:
        if self.reference not in self.arms:
            raise complaint(f"no arm '{self.reference}'{suggestion(self.reference, self.arms)}", key="reference")
        return self

    @model_validator(mode="after")
    def _contrasts_are_of_its_arms(self) -> ComparisonSpec:
        for name, weights in self.contrasts.items():
            for arm in weights:
                if arm not in self.arms:
                    raise complaint(f"no arm '{arm}'{suggestion(arm, self.arms)}", key=f"contrasts.{name}")
            if not any(weights.values()) or abs(sum(weights.values())) > NO_SUM:
                raise complaint(
                    "expected weights that sum to 0 and are not all 0, such as {delta: 1, residual: -1}; got a sum of "
                    f"{sum(weights.values()):g}",
                    key=f"contrasts.{name}",
                )
        for name in self.primary:
            if name not in self.contrasts:
                hint = suggestion(name, self.contrasts) if self.contrasts else "; there are no contrasts"
                raise complaint(f"no contrast '{name}'{hint}", key="primary")
        if self.contrasts and not self.primary:
            raise complaint("expected the names of the contrasts that the comparison is made for", key="primary")
        if len(set(self.primary)) < len(self.primary):
            raise complaint("names a contrast twice", key="primary")
        return self

    @model_validator(mode="after")
    def _tuning_is_apart(self) -> ComparisonSpec:
        if self.tune is not None and self.variants:
            raise complaint("cannot be combined with variants, which are for tuning by hand", key="tune")
        if self.tune is not None and (both := set(self.seeds) & set(self.tune.seeds)):
            raise complaint(
                f"{min(both)} is among the seeds of the comparison; scores of seeds that chose a config are no "
                "evidence for it",
                key="tune.seeds",
            )
        return self

    @model_validator(mode="after")
    def _what_is_planned_is_whole(self) -> ComparisonSpec:
        for task in self.sigma:
            if task not in self.tasks:
                raise complaint(f"no task '{task}'{suggestion(task, self.tasks)}", key="sigma")
        if missing := [task for task in self.tasks if self.sigma and task not in self.sigma]:
            raise complaint(f"missing for {missing[0]}; give a value for every task, or for none", key="sigma")
        if self.equivalence is not None and not (self.contrasts and self.sigma):
            what = "contrasts" if not self.contrasts else "sigma"
            raise complaint(f"needs {what}: it bounds contrasts, in planned standard deviations", key="equivalence")
        return self

    def parts(self, arm: str) -> tuple[tuple[str, ...], ...]:
        """The paths of an arm's keys in the file: its own, and its variant's."""
        if not self.variants:
            return (("arms", arm),)
        own, _, variant = arm.rpartition("+")
        return ("arms", own), ("variants", variant)

    @property
    def points(self) -> dict[str, tuple[str, dict[str, Value]]]:
        """The task in the file, and the value of each axis, for every task that is run."""
        values = points(self.axes)
        suffixes = {f"+{point}": at for point, at in values.items()}
        return {
            task: next(((task.removesuffix(end), at) for end, at in suffixes.items() if task.endswith(end)), (task, {}))
            for task in self.tasks
        }


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    task: str
    arm: str
    seed: int
    spec: RunSpec

    @property
    def folder(self) -> Path:
        """The run's folder: `<out>/<comparison>/<task>/<arm>/seed-<n>`."""
        return places.expanded(self.spec.out, "out") / self.spec.name / f"seed-{self.seed}"

    @property
    def label(self) -> str:
        return f"{self.task}/{self.arm}/seed-{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A comparison, resolved.

    Attributes:
        spec: arms, tasks and seeds.
        folder: the folder that contains all of its runs.
        cells: its runs; all tasks and arms of one seed come before the next seed.
        sizes: sizes of the arms' networks, by task and arm.
        text: YAML that reproduces the comparison when given to `deltarl compare`.
        notes: messages for the user.
        searches: what tunes the arms, by task and arm; empty without `tune`. The cells are then those before tuning.
    """

    spec: ComparisonSpec
    folder: Path
    cells: tuple[Cell, ...]
    sizes: dict[str, dict[str, Size]]
    text: str
    notes: tuple[str, ...]
    searches: Mapping[str, Mapping[str, Search]] = field(default_factory=dict)

    def shard(self, index: int, count: int) -> tuple[Cell, ...]:
        """The cells of machine `index` of `count`, from 1.

        All arms of a task and seed run on the same machine, so machines do not contribute to differences between arms.

        Raises:
            ConfigError: if there is no such machine.
        """
        if not 1 <= index <= count:
            raise ConfigError(f"shard: {index}/{count} is not among 1/{count} to {count}/{count}")
        pairs = list(dict.fromkeys((cell.task, cell.seed) for cell in self.cells))
        own = set(pairs[index - 1 :: count])
        return tuple(cell for cell in self.cells if (cell.task, cell.seed) in own)
