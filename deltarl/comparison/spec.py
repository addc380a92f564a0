"""A comparison as data, and the runs that it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from deltarl import places, yaml_text
from deltarl.errors import ConfigError, Spec, complaint, first_complaint, suggestion
from deltarl.library import (
    COMMAND_LINE,
    KINDS,
    UNNAMED_OVERRIDES,
    Layer,
    compose,
    find,
    name_with,
    parse_override,
    read_yaml,
)
from deltarl.training.spec import Part, RunSpec, Seeds, fields_of

if TYPE_CHECKING:
    from deltarl.comparison.matching import Size

KIND = "configs/compare"
assert KIND in KINDS
Metric = Literal["final", "area"]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=,-]*$", max_length=80)]
# What stands in the folder of a comparison beside its runs.
COMPARISON = "comparison.yaml"
SIZES = "sizes.json"
COSTS = "costs.json"
# What an arm may change. Everything else decides on what is compared, not on what with.
ARM_KEYS = ("torso", "actor_torso", "critic_torso", "agent")
# What a bare word means where a mapping may stand.
BARE = {"agent": "base", "env": "base", "torso": "kind", "actor_torso": "kind", "critic_torso": "kind"}
# What every cell gets of the comparison itself.
OF_THE_COMPARISON = fields_of(Part.PLACE)
NO_SUM = 1e-9  # what rounding leaves of weights that sum to 0
RESERVED = ("report", "summary", COMPARISON, SIZES, COSTS)


class ComparisonSpec(Spec):
    """What a comparison adds to the keys of a config, which hold for all of its runs."""

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

    @model_validator(mode="after")
    def _there_is_something_to_compare(self) -> ComparisonSpec:
        if len(self.arms) < 2:
            raise complaint(f"a comparison has two arms or more; got {', '.join(self.arms) or 'none'}", key="arms")
        if not self.tasks:
            raise complaint("a comparison has a task or more; got none", key="tasks")
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
                    "weights of a contrast sum to 0, and not all of them are 0, as in {delta: 1, residual: -1}; got a "
                    f"sum of {sum(weights.values()):g}",
                    key=f"contrasts.{name}",
                )
        for name in self.primary:
            if name not in self.contrasts:
                hint = suggestion(name, self.contrasts) if self.contrasts else "; there are no contrasts"
                raise complaint(f"no contrast '{name}'{hint}", key="primary")
        if self.contrasts and not self.primary:
            raise complaint("name the contrasts that the comparison is made for", key="primary")
        if len(set(self.primary)) < len(self.primary):
            raise complaint("the same contrast twice", key="primary")
        return self

    @model_validator(mode="after")
    def _what_is_planned_is_whole(self) -> ComparisonSpec:
        for task in self.sigma:
            if task not in self.tasks:
                raise complaint(f"no task '{task}'{suggestion(task, self.tasks)}", key="sigma")
        if missing := [task for task in self.tasks if self.sigma and task not in self.sigma]:
            raise complaint(f"{missing[0]} has none; give one for each task, or for none", key="sigma")
        if self.equivalence is not None and not (self.contrasts and self.sigma):
            what = "contrasts" if not self.contrasts else "sigma"
            raise complaint(
                f"it is a bound of contrasts, in planned standard deviations: give {what}", key="equivalence"
            )
        return self

    def parts(self, arm: str) -> tuple[tuple[str, ...], ...]:
        """Where the keys of an arm stand in the file: its own, and its variant's."""
        if not self.variants:
            return (("arms", arm),)
        own, _, variant = arm.rpartition("+")
        return ("arms", own), ("variants", variant)


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    task: str
    arm: str
    seed: int
    spec: RunSpec

    @property
    def folder(self) -> Path:
        """Where it goes: `<out>/<comparison>/<task>/<arm>/seed-<n>`."""
        return places.expanded(self.spec.out, "out") / self.spec.name / f"seed-{self.seed}"

    @property
    def label(self) -> str:
        return f"{self.task}/{self.arm}/seed-{self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A comparison, resolved.

    Attributes:
        spec: arms, tasks and seeds.
        folder: of all its runs.
        cells: its runs; all tasks and arms of one seed before the next seed.
        sizes: what was counted of every task's arms, by task and arm.
        text: YAML that gives the same comparison when given to `deltarl compare`.
        notes: for the user to read.
    """

    spec: ComparisonSpec
    folder: Path
    cells: tuple[Cell, ...]
    sizes: dict[str, dict[str, Size]]
    text: str
    notes: tuple[str, ...]

    def shard(self, index: int, count: int) -> tuple[Cell, ...]:
        """The cells of one of `count` machines, from 1; all arms of a task and seed are on the same.

        Differences between arms are then none between machines.

        Raises:
            ConfigError: if there is no such machine.
        """
        if not 1 <= index <= count:
            raise ConfigError(f"shard: {index}/{count} is not among 1/{count} to {count}/{count}")
        pairs = list(dict.fromkeys((cell.task, cell.seed) for cell in self.cells))
        own = set(pairs[index - 1 :: count])
        return tuple(cell for cell in self.cells if (cell.task, cell.seed) in own)


def load_comparison(name: str, *overrides: str) -> Comparison:
    """The comparison of a name or path, with `key.path=value` overrides of what stands in its file.

    `arms.NAME=null` and `tasks.NAME=null` leave one out.

    Raises:
        ConfigError: naming file or command line, key, and what would be right.
    """
    spec, layer = read_comparison(find(KIND, name, f"{COMMAND_LINE}: comparison"), *overrides)
    if not any(text.startswith("name=") for text in overrides):
        told = {key: value for key, value in layer.data.items() if key not in UNNAMED_OVERRIDES}
        digest = hashlib.sha256(json.dumps(json.loads(json.dumps(told)), sort_keys=True).encode()).hexdigest()[:8]
        spec = spec.model_copy(update={"name": name_with(spec.name, overrides, digest)})
    layer.data["name"] = spec.name
    text = yaml_text.dump(layer.data)
    return _resolved(spec, layer, text)


def read_comparison(path: Path, *overrides: str) -> tuple[ComparisonSpec, Layer]:
    """What a comparison's file says, its overrides laid over it; the runs are not looked at.

    Raises:
        ConfigError: naming file or command line, key, and what would be right.
    """
    layer = read_yaml(path)
    _spell_out(layer)
    for text in overrides:
        _lay_over(layer, parse_override(text))
        _spell_out(layer)
    return _own(layer, path.stem), layer


def _resolved(spec: ComparisonSpec, layer: Layer, text: str) -> Comparison:
    _check_tasks(spec, layer)
    _check_arms(spec, layer)
    common = Layer(
        {
            **{key: value for key, value in layer.data.items() if key not in ComparisonSpec.model_fields},
            "seeds": list(spec.seeds),
        },
        layer.places,
        layer.source,
    )
    notes: dict[str, None] = {}
    sizes: dict[str, dict[str, Size]] = {}
    by_task: dict[str, dict[str, RunSpec]] = {}
    for task in spec.tasks:
        own = deepcopy(layer.under("tasks", task))
        base = Layer({}, {}, layer.source)
        if (config := own.data.pop("config", None)) is not None:
            base = read_yaml(find("configs", str(config), layer.asker(("tasks", task, "config"))))
            for key in OF_THE_COMPARISON:
                base.data.pop(key, None)
        arms: dict[str, RunSpec] = {}
        for arm in spec.arms:
            resolution = compose([base, common, own, *(layer.under(*part) for part in spec.parts(arm))], arm)
            notes |= dict.fromkeys(resolution.notes)
            arms[arm] = resolution.spec
        from deltarl.comparison.matching import MOST_MISMATCH, match_sizes  # noqa: PLC0415 - what is wrong is said first

        try:
            by_task[task], sizes[task] = match_sizes(arms, spec.reference, spec.match)
        except ConfigError as error:
            raise ConfigError(f"{layer.source}: {task}: {error}") from None
        for arm, size in sizes[task].items():
            if size.mismatch is not None and abs(size.mismatch) > MOST_MISMATCH:
                notes[f"{arm} keeps its own size: on {task} {size.mismatch:+.0%} {spec.match}"] = None
    out = next(iter(next(iter(by_task.values())).values())).out
    cells = tuple(
        Cell(
            task, arm, seed, run.model_copy(update={"name": arm, "out": f"{out}/{spec.name}/{task}", "seeds": (seed,)})
        )
        for seed in spec.seeds
        for task, arms in by_task.items()
        for arm, run in arms.items()
    )
    return Comparison(spec, places.expanded(out, "out") / spec.name, cells, sizes, text, tuple(notes))


def _own(layer: Layer, name: str) -> ComparisonSpec:
    """The part of the file that is the comparison's own."""
    own = {key: value for key, value in layer.data.items() if key in ComparisonSpec.model_fields}
    try:
        return ComparisonSpec.model_validate({"name": name, **own})
    except ValidationError as error:
        where, message = first_complaint(error, own)
        raise _complaint(layer, where, message) from None


def _check_tasks(spec: ComparisonSpec, layer: Layer) -> None:
    for task, changes in spec.tasks.items():
        if task in RESERVED:
            raise _complaint(layer, ("tasks", task), "no task can be called so; the folder has another use for it")
        for key in OF_THE_COMPARISON:
            if key in changes:
                raise _complaint(layer, ("tasks", task, key), f"{key} holds for all tasks; set it above them")


def _check_arms(spec: ComparisonSpec, layer: Layer) -> None:
    """An arm that changed the task, the budget, the evaluation or the algorithm would be compared with nothing."""
    for arm in spec.arms:
        for part in spec.parts(arm):
            _check_arm(layer, part, matched=spec.match != "width" and arm != spec.reference, match=spec.match)


def _check_arm(layer: Layer, part: tuple[str, ...], *, matched: bool, match: str) -> None:
    changes = layer.under(*part).data
    for key in changes:
        if key not in ARM_KEYS:
            raise _complaint(
                layer,
                (*part, key),
                f"an arm may change {', '.join(ARM_KEYS)} alone; what holds for all arms stands above them, or in a "
                "task",
            )
    agent = changes.get("agent", {})
    for key in ("base", "algorithm"):
        if isinstance(agent, str) or key in agent:
            raise _complaint(
                layer, (*part, "agent"), "an arm may change hyperparameters, and not the agent they are of"
            )
    for path in _keys(changes):
        if matched and path[-1] == "hidden":
            raise _complaint(layer, (*part, *path), f"match {match} chooses it; leave it out, or set match: width")


def _complaint(layer: Layer, key: tuple[str, ...], message: str) -> ConfigError:
    return ConfigError(f"{layer.asker(key)}: {message}")


def _spell_out(layer: Layer) -> None:
    """A bare word is a torso's kind as an arm, and a config as a task; null leaves one out."""
    for group, key in (("arms", "torso"), ("variants", "torso"), ("tasks", "config"), ("contrasts", None)):
        if isinstance(held := layer.data.get(group), dict):
            layer.data[group] = {
                name: {key: value} if key is not None and isinstance(value, str) else value
                for name, value in held.items()
                if value is not None
            }


def _lay_over(layer: Layer, change: Layer) -> None:
    """Merge an override into the comparison's own data: mappings add to each other, anything else replaces."""
    _merge(layer.data, deepcopy(change.data))
    for key in _keys(change.data):
        layer.places[key] = change.source


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        held = into.get(key)
        if isinstance(value, dict) and isinstance(held, str) and key in BARE:
            held = into[key] = {BARE[key]: held}
        if isinstance(value, dict) and isinstance(held, dict) and "schedule" not in value:
            _merge(held, value)
        else:
            into[key] = value


def _keys(data: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, (*above, key))
        else:
            yield (*above, key)
