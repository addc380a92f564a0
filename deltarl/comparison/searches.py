"""The searches that tune the arms of a comparison, one for each arm on each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from deltarl.comparison.spec import ARM_KEYS, TRIALS, Comparison, ComparisonSpec
from deltarl.errors import ConfigError
from deltarl.library import Layer, find, read_yaml
from deltarl.search.load import KIND, check_paths, checked, given_by, may_be_searched, same_options
from deltarl.search.space import Value
from deltarl.search.spec import FIRST_TUNING_SEED, Search
from deltarl.training.spec import RunSpec

if TYPE_CHECKING:
    from deltarl.comparison.matching import Match

TUNE = "tune"


def with_the_space(layer: Layer) -> None:
    """Write out a space that is given by its name, so that the comparison's file says all there is to know.

    Raises:
        ConfigError: if there is no such space.
    """
    tune = layer.data.get(TUNE)
    if not isinstance(tune, dict) or not isinstance(tune.get("space"), str):
        return
    space = read_yaml(find(KIND, tune["space"], layer.asker((TUNE, "space"))))
    # A space's number of seeds is that of its own tuning seeds.
    count = space.data.pop("n_seeds", None)
    seeds = {"seeds": list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count))} if isinstance(count, int) else {}
    own = {key: value for key, value in tune.items() if key != "space"}
    layer.data[TUNE] = {**space.data, **seeds, **own}
    layer.places |= {(TUNE, *path): place for path, place in space.places.items() if path[0] not in own}


def searches_of(
    comparison: Comparison,
    layer: Layer,
    arms: Mapping[str, Sequence[Layer]],
    runs: Mapping[str, Mapping[str, RunSpec]],
) -> Comparison:
    """A comparison with the searches of its arms.

    Options to which an arm gives a value are what it is: they are not searched for this arm. A trial of an arm other
    than the reference has the inner widths that give it the reference's size.

    Args:
        comparison: its cells as they are without tuning.
        layer: the comparison's file with the overrides.
        arms: the keys of each arm.
        runs: the arms of each task before their sizes were matched.

    Raises:
        ConfigError: if an option cannot be tuned in a comparison, if an arm has nothing to tune, or if a value has a
            place in no config of the arm, or gives it a size that cannot be matched.
    """
    from deltarl.comparison.matching import PARTS  # noqa: PLC0415 - errors come before slow imports

    spec = comparison.spec
    assert spec.tune is not None
    source = layer.under(TUNE)
    _check_space(spec, source)
    first = runs[next(iter(runs))][spec.reference]
    sized = () if spec.match == "width" else _sizing(spec, Search(spec.tune, first, (), (layer_of(first),), source))
    notes = dict.fromkeys(comparison.notes)
    if sized:
        why = "arms keep the size of the reference; with match: width they are tuned"
        notes[f"not tuned: {', '.join(sized)}: {why}"] = None
    pinned = {
        arm: (*sized, *(each for each in given_by(own, spec.tune.space) if each not in sized))
        for arm, own in arms.items()
    }
    for arm, paths in pinned.items():
        if len(paths) == len(spec.tune.space):
            raise ConfigError(
                f"{source.asker(('space',))}: nothing to tune for arm {arm}: every option is given by the arm, or "
                "changes the size of the reference (match: width tunes those)"
            )
    searches: dict[str, dict[str, Search]] = {}
    for task, unmatched in runs.items():
        for arm, found in unmatched.items():
            run = found.model_copy(update={"name": arm, "out": f"{comparison.folder}/{TRIALS}/{task}"})
            settle = None
            if spec.match != "width" and arm != spec.reference:
                reference = unmatched[spec.reference]
                parts = tuple(part for part in PARTS if getattr(found, part) != getattr(reference, part))
                settle = partial(matched, reference=reference, match=spec.match, arm=arm, parts=parts)
            search = checked(
                Search(spec.tune, run, spec.tune.seeds, (layer_of(run),), source, pinned[arm], settle=settle)
            )
            searches.setdefault(task, {})[arm] = search
            told = [f"{path} is what the arm is, and not tuned" for path in pinned[arm] if path not in sized]
            notes |= dict.fromkeys(f"tuning {arm}: {note}" for note in (*told, *search.notes))
    for search in searches[next(iter(runs))].values():
        _check_settling(search)
    return replace(comparison, searches=searches, notes=tuple(notes))


def layer_of(run: RunSpec) -> Layer:
    """A resolved config as the data of a file."""
    data = run.model_dump(mode="json", exclude={"seeds"})
    data["env"]["kwargs"] = deepcopy(run.env.kwargs)  # whose keys may be integers, which JSON does not have
    return Layer(data, {}, run.name)


def matched(run: RunSpec, *, reference: RunSpec, match: Match, arm: str, parts: Sequence[str]) -> RunSpec:
    """The run with the inner widths of these parts that give it the reference's size."""
    from deltarl.comparison.matching import match_sizes  # noqa: PLC0415 - errors come before slow imports

    # No arm has this name.
    return match_sizes({"": reference, arm: run}, "", match, parts)[0][arm]


def _check_space(spec: ComparisonSpec, source: Layer) -> None:
    assert spec.tune is not None
    check_paths(spec.tune.space, source)
    for path in spec.tune.space:
        asker = source.asker(("space", path))
        if path.partition(".")[0] not in ARM_KEYS:
            raise ConfigError(f"{asker}: tuning may change what an arm may change: {', '.join(ARM_KEYS)}")
        if "." not in path:
            raise ConfigError(f"{asker}: name one of its options, such as agent.learning_rate")
        if path in {"agent.base", "agent.algorithm"}:
            raise ConfigError(f"{asker}: all arms have the same agent")
        if any(same in spec.axes for same in same_options(path)):
            raise ConfigError(f"{asker}: is an axis of the comparison; remove one of them")
        if path.endswith(".hidden") and spec.match != "width":
            raise ConfigError(f"{asker}: match: {spec.match} chooses this value; leave it out, or set match: width")


def _alone(search: Search) -> Iterator[tuple[str, Value, RunSpec]]:
    """The config with each value of each option of a network, as far as these go without other values."""
    for path, parameter in search.spec.space.items():
        if path.startswith("agent.") and not path.startswith("agent.policy."):
            continue
        for value in parameter.examples() if may_be_searched(search, path) else ():
            with suppress(ConfigError):
                yield path, value, search.with_values({path: value})


def _sizing(spec: ComparisonSpec, search: Search) -> tuple[str, ...]:
    """The options that change the size of the reference, to which all other arms are matched."""
    from deltarl.comparison.matching import MOST_MISMATCH, counted_of  # noqa: PLC0415

    runs = {"": search.run} | {f"{path}={value}": run for path, value, run in _alone(search)}
    amounts = (
        {name: getattr(counted, spec.match) for name, counted in counted_of(runs).items()} if len(runs) > 1 else {}
    )
    changed = {name.partition("=")[0] for name, each in amounts.items() if abs(each / amounts[""] - 1) > MOST_MISMATCH}
    return tuple(path for path in spec.tune.space if path in changed) if spec.tune is not None else ()


def _check_settling(search: Search) -> None:
    """Check that each value by itself gives an arm a size that can be matched."""
    if search.settle is not None:
        for path, value, run in _alone(search):
            try:
                search.settle(run)
            except ConfigError as error:
                raise ConfigError(f"{search.source.asker(('space', path))}: {value}: {error}") from None
