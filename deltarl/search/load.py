"""Loads searches: from a config, a space and overrides to what trials train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from deltarl.errors import ConfigError, first_complaint, nearest, suggestion
from deltarl.library import COMMAND_LINE, ROLES, Layer, compose, find, name_with, parse_override, read_yaml
from deltarl.search.engines import NoPrunerSpec
from deltarl.search.space import ChoiceSpec, FloatSpec, Parameter, Space, Value
from deltarl.search.spec import NOTHING, SEARCHED, TASK, Search, SearchSpec, value_at
from deltarl.training.spec import RunSpec

KIND = "configs/search"
# Keys of a search that overrides may change; all others are the config's.
OWN = ("sampler", "pruner", "n_seeds", "score")
DRAWS = 12  # of the whole space, to see which values go together


def load_search(config: str, space: str, *overrides: str) -> Search:
    """Load a search.

    Args:
        config: name or path of the config that is tuned.
        space: name or path of the space.
        overrides: `key.path=value`, for the config, or for `sampler`, `pruner`, `n_seeds` and `score`. A parameter that
            is given a value is not searched.

    Raises:
        ConfigError: names the file or command line, the key, and what is expected. Each value of a choice and both ends
            of a range have been tried.
    """
    source = read_yaml(find(KIND, space, f"{COMMAND_LINE}: space"))
    path = find("configs", config, f"{COMMAND_LINE}: config")
    changes, told, own = [], [], []
    for text in overrides:
        change = parse_override(text)
        [first] = change.data
        if first == "seeds":
            raise ConfigError(
                f"{COMMAND_LINE}: seeds: tuning has its own seeds, because the scores of seeds that chose a config are "
                "no evidence for it; give n_seeds= for their number"
            )
        if first == "space":
            raise ConfigError(f"{COMMAND_LINE}: space: give --space NAME; `deltarl copy` makes a space to edit")
        if first in OWN:
            own.append(change)
        else:
            changes.append(change)
            told.append(text)
    # `pruner=hyperband` before `pruner.reduction_factor=3`, whatever the order.
    for change in sorted(own, key=lambda change: any(isinstance(value, dict) for value in change.data.values())):
        _lay_over(source, change)
    spec = _validated(source)
    base = read_yaml(path)
    base.data.pop("seeds", None)
    resolution = compose([base, *changes], path.stem)
    given = next((text for text in reversed(told) if text.startswith("name=")), None)
    run = resolution.spec
    if given is None:
        name = f"{name_with(run.name, told, run.digest())}+tune-{Path(space).stem}"
        run = run.model_copy(update={"name": name})
    pinned = given_by(changes, spec.space)
    if len(pinned) == len(spec.space):
        raise ConfigError(f"{COMMAND_LINE}: overrides give a value to every parameter of the space {space}")
    notes = [*resolution.notes, *(f"{path} is given as an override, and not searched" for path in pinned)]
    return checked(Search(spec, run, spec.seeds, (base, *changes), source, pinned, tuple(notes)))


def given_by(layers: Sequence[Layer], space: Space) -> tuple[str, ...]:
    """The parameters that layers give a value; one of a torso also if they give it to one of the roles."""
    return tuple(
        path for path in space if any(_gives(layer.data, same) for layer in layers for same in same_options(path))
    )


def same_options(path: str) -> tuple[str, ...]:
    """The paths that set an option or a part of it: `torso` stands for both roles."""
    first, _, rest = path.partition(".")
    if first == "torso":
        return path, *(f"{role}.{rest}" for role in ROLES)
    return (path, f"torso.{rest}") if first in ROLES else (path,)


def checked(search: Search) -> Search:
    """The search of all parameters that are not pinned, each after those that its condition names.

    Raises:
        ConfigError: if conditions name no option or form a circle, or if a value has a place in no config.
    """
    left = {path: parameter for path, parameter in search.spec.space.items() if path not in search.pinned}
    return _checked(_ordered(replace(search, spec=search.spec.model_copy(update={"space": left}))))


def read_space(path: Path) -> SearchSpec:
    """Read the file of a space by itself; whether its options exist depends on the config that it is used with.

    Raises:
        ConfigError: names file, line and key.
    """
    return _validated(read_yaml(path))


def _validated(source: Layer) -> SearchSpec:
    try:
        spec = SearchSpec.model_validate(source.data)
    except ValidationError as error:
        key, message = first_complaint(error, source.data)
        raise ConfigError(f"{source.asker(key)}: {message}") from None
    check_paths(spec.space, source)
    return spec


def check_paths(space: Space, source: Layer) -> None:
    """Refuse parameters that cannot be searched.

    Raises:
        ConfigError: names file, line and path.
    """
    for path in space:
        if (reason := _unsearchable(path)) is not None:
            raise ConfigError(f"{source.asker(('space', path))}: {reason}")


def _unsearchable(path: str) -> str | None:
    """Why a space may not contain a path: trials would not have comparable scores, or there is no such key."""
    first = path.partition(".")[0]
    if path in TASK:
        return "scores in different tasks cannot be compared"
    if first in SEARCHED:
        return None
    if first in RunSpec.model_fields:
        return f"{first} is a condition of the search; set it in the config or as an override"
    return f"unknown key{suggestion(first, SEARCHED)}"


def _lay_over(source: Layer, change: Layer) -> None:
    [(key, value)] = change.data.items()
    held = source.data.get(key)
    if isinstance(value, dict) and "name" not in value:
        if isinstance(held, str):
            held = {"name": held}
        value = {**(held or {}), **value}
    source.data[key] = value
    source.places = {path: place for path, place in source.places.items() if path[0] != key}
    source.places[(key,)] = change.source


def _gives(data: Mapping[str, Any], path: str) -> bool:
    """Whether an override gives an option a value; a torso's bare kind is its `kind`."""
    value: Any = data
    parts = path.split(".")
    for index, part in enumerate(parts):
        if not isinstance(value, dict):
            return parts[index:] == ["kind"]
        if part not in value:
            return False
        value = value[part]
    return True


def _ordered(search: Search) -> Search:
    """The search with each parameter after those that its condition names."""
    space = search.spec.space
    for path, parameter in space.items():
        for other in parameter.when:
            if other not in space and other not in search.pinned:
                _check_condition(search, path, other)
    graph = {path: [other for other in parameter.when if other in space] for path, parameter in space.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        cycle = " and ".join(dict.fromkeys(error.args[1]))
        raise _complaint(search, error.args[1][0], f"conditions in a circle: {cycle}") from None
    spec = search.spec.model_copy(update={"space": {path: space[path] for path in order}})
    return replace(search, spec=spec)


def _check_condition(search: Search, path: str, other: str) -> None:
    """Refuse a condition on an option that no config has."""
    role = other.replace("torso.", "actor_torso.", 1) if other.startswith("torso.") else other
    if value_at(search.run, role) is not NOTHING:
        return
    condition = search.spec.space[path].when
    try:
        search.with_values({**dict(_conditions(search, path)), other: condition[other][0]})
    except ConfigError as error:
        reason = str(error).partition(f"{other}: ")[2] or str(error)
        if "did you mean" not in reason and (hint := nearest(other, search.spec.space)):
            reason = f"unknown key{hint}"
        raise _complaint(search, path, f"when.{other}: {reason}") from None


def _checked(search: Search) -> Search:
    """Check that every value of every parameter has a place in some config.

    A value may need another one with it, so each is tried with the config as it is, and then within random draws of the
    whole space. Values that never fit are errors; combinations that do not fit are noted, because such trials fail.
    """
    active = dict.fromkeys(path for path in search.spec.space if may_be_searched(search, path))
    if not active:
        raise ConfigError(f"{search.source.source}: no condition of any parameter is met by {search.layers[0].source}")
    draws = list(_draws(search, DRAWS))
    reasons = [reason for draw in draws if (reason := _misfit(search, draw)) is not None]
    for path in active:
        for value in search.spec.space[path].examples():
            _check_value(search, path, value, draws)
    notes = list(search.notes)
    if search.run.eval.every is None and not isinstance(search.spec.pruner, NoPrunerSpec):
        notes.append("no trial is pruned, because eval.every is null")
    idle = [path for path in search.spec.space if path not in active]
    if idle:
        notes.append(f"not searched, because their conditions are not met by this config: {', '.join(idle)}")
    if reasons:
        share = len(reasons) / len(draws)
        notes.append(f"about {share:.0%} of the space are not valid configs, and such trials fail: {reasons[0]}")
    return replace(search, notes=tuple(notes))


def may_be_searched(search: Search, path: str) -> bool:
    """Whether the conditions of a parameter that depend on the config alone are met."""
    space = search.spec.space
    own = space[path].when
    outside = {other: wanted for other, wanted in own.items() if other not in space}
    assumed = {other: _some(space[other], wanted) for other, wanted in own.items() if other in space}
    if None in assumed.values():
        return False
    reduced = search.spec.model_copy(
        update={"space": {**space, path: space[path].model_copy(update={"when": outside})}}
    )
    return replace(search, spec=reduced).is_searched(path, {}) and all(
        may_be_searched(search, other) for other in assumed
    )


def _some(parameter: Parameter, wanted: Sequence[Value]) -> tuple[Value] | None:
    """One of the wanted values that a parameter can have."""
    if not isinstance(parameter, ChoiceSpec):
        low, high = parameter.low, parameter.high
        found = [each for each in wanted if isinstance(each, int | float) and low <= each <= high]
    else:
        found = [each for each in wanted if each in parameter.values]
    return (found[0],) if found else None


def _check_value(search: Search, path: str, value: Value, draws: Sequence[Mapping[str, Value]]) -> None:
    needed = dict(_conditions(search, path))
    first = _misfit(search, {**needed, path: value})
    if first is None:
        return
    for draw in draws:
        if path in draw and _misfit(search, {**draw, path: value}) is None:
            return
    raise ConfigError(first)


def _conditions(search: Search, path: str) -> Iterator[tuple[str, Value]]:
    """Values of other parameters with which a parameter is searched."""
    for other, wanted in search.spec.space[path].when.items():
        if other in search.spec.space and (found := _some(search.spec.space[other], wanted)) is not None:
            yield from _conditions(search, other)
            yield other, found[0]


def _misfit(search: Search, values: Mapping[str, Value]) -> str | None:
    try:
        search.with_values(values)
    except ConfigError as error:
        return str(error)
    return None


def _draws(search: Search, count: int) -> Iterator[dict[str, Value]]:
    """Random values for all parameters whose conditions are met; the same ones each time."""
    random = Random(0)
    for _ in range(count):
        values: dict[str, Value] = {}
        for path, parameter in search.spec.space.items():
            if search.is_searched(path, values):
                values[path] = _drawn(parameter, random)
        yield values


def _drawn(parameter: Parameter, random: Random) -> Value:
    if isinstance(parameter, ChoiceSpec):
        return deepcopy(random.choice(parameter.values))
    if isinstance(parameter, FloatSpec):
        return random.uniform(parameter.low, parameter.high)
    return random.randint(parameter.low, parameter.high)


def _complaint(search: Search, path: str, message: str) -> ConfigError:
    return ConfigError(f"{search.source.asker(('space', path))}: {message}")
