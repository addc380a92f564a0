"""Loads comparisons: from a file and overrides to the runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from deltarl import places, yaml_text
from deltarl.comparison.axes import flattened
from deltarl.comparison.searches import searches_of, with_the_space
from deltarl.comparison.spec import (
    ARM_KEYS,
    COMPARISON,
    COSTS,
    SIZES,
    TRIALS,
    TUNING,
    UNTUNED,
    Cell,
    Comparison,
    ComparisonSpec,
)
from deltarl.errors import ConfigError, first_complaint
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
from deltarl.training.spec import Part, RunSpec, fields_of

if TYPE_CHECKING:
    from deltarl.comparison.matching import Size

KIND = "configs/compare"
assert KIND in KINDS
# The key that a bare string sets where a mapping is expected.
BARE = {
    "agent": "base",
    "env": "base",
    "torso": "kind",
    "actor_torso": "kind",
    "critic_torso": "kind",
    "encoder": "kind",
}
# Set by the comparison itself for every cell.
OF_THE_COMPARISON = fields_of(Part.PLACE)
RESERVED = ("report", "summary", COMPARISON, SIZES, COSTS, TUNING, TRIALS, UNTUNED, places.LOGS)


def load_comparison(name: str, *overrides: str) -> Comparison:
    """Load a comparison by name or path, with `key.path=value` overrides of its file.

    `arms.NAME=null` and `tasks.NAME=null` remove an arm or a task.

    Raises:
        ConfigError: names the file or command line, the key, and what is expected.
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
    """Read a comparison's file and apply the overrides; the runs are not checked.

    Raises:
        ConfigError: names the file or command line, the key, and what is expected.
    """
    layer = read_yaml(path)
    _spell_out(layer)
    for text in overrides:
        _lay_over(layer, parse_override(text))
        _spell_out(layer)
    with_the_space(layer)
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
    unmatched: dict[str, dict[str, RunSpec]] = {}
    own_of_arms = {arm: [layer.under(*part) for part in spec.parts(arm)] for arm in spec.arms}
    for task, (in_file, point) in spec.points.items():
        own = deepcopy(layer.under("tasks", in_file))
        base = Layer({}, {}, layer.source)
        if (config := own.data.pop("config", None)) is not None:
            base = read_yaml(find("configs", str(config), layer.asker(("tasks", in_file, "config"))))
            for key in OF_THE_COMPARISON:
                base.data.pop(key, None)
        arms = unmatched[task] = {}
        for arm in spec.arms:
            resolution = compose([base, common, own, *_at(point, layer), *own_of_arms[arm]], arm)
            notes |= dict.fromkeys(resolution.notes)
            arms[arm] = resolution.spec
        from deltarl.comparison.matching import MOST_MISMATCH, match_sizes  # noqa: PLC0415 - errors come before slow imports

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
    found = Comparison(spec, places.expanded(out, "out") / spec.name, cells, sizes, text, tuple(notes))
    return found if spec.tune is None else searches_of(found, layer, own_of_arms, unmatched)


def _at(point: Mapping[str, Any], layer: Layer) -> Iterator[Layer]:
    """The value of each axis as a layer; arms come after them."""
    for path, value in point.items():
        parts = tuple(path.split("."))
        data = value
        for part in reversed(parts):
            data = {part: data}
        yield Layer(data, {parts: layer.place(("axes", *parts))}, layer.source, prefix=("axes",))


def _own(layer: Layer, name: str) -> ComparisonSpec:
    """The keys of the file that belong to the comparison rather than to its runs."""
    own = {key: value for key, value in layer.data.items() if key in ComparisonSpec.model_fields}
    try:
        return ComparisonSpec.model_validate({"name": name, **own})
    except ValidationError as error:
        where, message = first_complaint(error, own)
        raise _complaint(layer, where, message) from None


def _check_tasks(spec: ComparisonSpec, layer: Layer) -> None:
    for path in spec.axes:
        if path.partition(".")[0] in OF_THE_COMPARISON:
            raise _complaint(layer, ("axes", *path.split(".")), "applies to all runs; set it at the top level")
    for task, changes in layer.data["tasks"].items():
        if task in RESERVED:
            raise _complaint(layer, ("tasks", task), "reserved name; call the task something else")
        for key in OF_THE_COMPARISON:
            if key in changes:
                raise _complaint(layer, ("tasks", task, key), f"{key} applies to all tasks; set it at the top level")


def _check_arms(spec: ComparisonSpec, layer: Layer) -> None:
    """Refuse arms that change the task, the budget, the evaluation or the algorithm: they would not be comparable."""
    for arm in spec.arms:
        for part in spec.parts(arm):
            _check_arm(
                layer, part, axes=spec.axes, matched=spec.match != "width" and arm != spec.reference, match=spec.match
            )


def _check_arm(layer: Layer, part: tuple[str, ...], *, axes: Iterable[str], matched: bool, match: str) -> None:
    changes = layer.under(*part).data
    for path in _keys(changes):
        if (axis := ".".join(path)) in axes:
            raise _complaint(layer, (*part, *path), f"is an axis of the comparison; remove it, or axes.{axis}")
    for key in changes:
        if key not in ARM_KEYS:
            raise _complaint(
                layer,
                (*part, key),
                f"an arm may change only {', '.join(ARM_KEYS)}; set options for all arms at the top level or in a task",
            )
    agent = changes.get("agent", {})
    for key in ("base", "algorithm"):
        if isinstance(agent, str) or key in agent:
            raise _complaint(layer, (*part, "agent"), "an arm may change hyperparameters, but not the agent")
    for path in _keys(changes):
        if matched and path[-1] == "hidden":
            raise _complaint(
                layer, (*part, *path), f"match: {match} chooses this value; leave it out, or set match: width"
            )


def _complaint(layer: Layer, key: tuple[str, ...], message: str) -> ConfigError:
    return ConfigError(f"{layer.asker(key)}: {message}")


def _spell_out(layer: Layer) -> None:
    """Spell out short forms: a string is a torso's kind in an arm and a config in a task; null removes an entry."""
    if isinstance(axes := layer.data.get("axes"), dict):
        layer.data["axes"] = flattened(axes)
    for group, key in (("arms", "torso"), ("variants", "torso"), ("tasks", "config"), ("contrasts", None)):
        if isinstance(held := layer.data.get(group), dict):
            layer.data[group] = {
                name: {key: value} if key is not None and isinstance(value, str) else value
                for name, value in held.items()
                if value is not None
            }


def _lay_over(layer: Layer, change: Layer) -> None:
    """Merge an override into the comparison's data: mappings are merged, anything else is replaced."""
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
