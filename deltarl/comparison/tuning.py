"""Tunes the arms of a comparison before its runs: each with the same number of trials, on seeds of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import yaml
from rich.console import Console

from deltarl import places, yaml_text
from deltarl.comparison.cells import started, write_description
from deltarl.comparison.spec import TUNING, UNTUNED, Cell, Comparison
from deltarl.comparison.tuning_record import OF_ARM, Tuned, read_tuning
from deltarl.errors import ConfigError, SeedFailedError
from deltarl.launch.launcher import Launcher
from deltarl.reading import check_plain
from deltarl.search.conduct import tune
from deltarl.search.given import OWN, own_values, searched_among
from deltarl.search.report import Found, Row
from deltarl.search.space import Value
from deltarl.search.spec import Search
from deltarl.search.storage import Place, check_packages, check_same
from deltarl.training import folder as files
from deltarl.training.locks import locked

LOCK = ".tuning.lock"


def tuned(
    comparison: Comparison,
    console: Console,
    command: list[str],
    *,
    jobs: int | None,
    launcher: Launcher | None,
) -> Comparison:
    """Tune the arms, unless this has been done, and return the comparison with the values that were chosen.

    Every arm has the same number of trials on each task; the first one has its own values. Then each arm is tried with
    the values that were chosen for the others, and takes them if they are better than its own.

    Args:
        comparison: from `load_comparison`, with `tune`.
        console: where progress is shown.
        command: the command to record in the provenance.
        jobs: trials at once; default: as many as the cores allow.
        launcher: where trials are trained; default: in processes of this machine.

    Raises:
        ConfigError, TrainingStopped, SeedFailedError: as in `search.tune`; also if no trial of an arm finishes.
    """
    _check(comparison)
    with files.usable(comparison.folder):
        comparison.folder.mkdir(parents=True, exist_ok=True)
    # Another command on the same folder waits, and then finds everything done.
    with locked(comparison.folder / LOCK, wait=True):
        return _tuned(comparison, console, command, jobs, launcher)


def _check(comparison: Comparison) -> None:
    """Refuse what cannot be tuned, or goes on from something else, before anything is written."""
    places.check_folder(comparison.folder, "out")
    if comparison.folder.exists():
        check_plain(comparison.folder)
    if read_tuning(comparison.folder) is None:
        for cell in comparison.cells:
            if (cell.folder / files.CONFIG).exists():
                raise ConfigError(
                    f"{cell.folder}: was trained without tuning; remove tune, or give the comparison another name="
                )
    for searches in comparison.searches.values():
        for search in searches.values():
            check_packages(search)
            check_same(search, Place(search.folder))


def _tuned(
    comparison: Comparison, console: Console, command: list[str], jobs: int | None, launcher: Launcher | None
) -> Comparison:
    found = read_tuning(comparison.folder)
    known = {} if found is None else found[1]
    if any(arm not in known.get(task, {}) for task, arms in comparison.searches.items() for arm in arms):
        write_description(comparison)
        by_arm = {task: _tuned_on(comparison, task, console, command, jobs, launcher) for task in comparison.searches}
        arms = {task: {arm: asdict(each) for arm, each in own.items()} for task, own in by_arm.items()}
        chosen = applied(comparison, by_arm)
        for cell in chosen.cells:
            started(cell)  # raises if the values of a new arm have changed what an old one has
        files.write_json(comparison.folder / TUNING, {"tune": _spec(comparison), "arms": arms})
        return chosen
    return applied(comparison, known)


def applied(comparison: Comparison, by_arm: Mapping[str, Mapping[str, Tuned]]) -> Comparison:
    """The comparison with the chosen values in its cells."""
    from deltarl.comparison.matching import sizes_of  # noqa: PLC0415

    spec = comparison.spec
    runs = {
        task: {arm: search.settled(by_arm[task][arm].values) for arm, search in own.items()}
        for task, own in comparison.searches.items()
    }

    def with_values(cell: Cell) -> Cell:
        place = {key: getattr(cell.spec, key) for key in ("name", "out", "seeds")}
        return replace(cell, spec=runs[cell.task][cell.arm].model_copy(update=place))

    return replace(
        comparison,
        cells=tuple(map(with_values, comparison.cells)),
        sizes={task: sizes_of(arms, spec.reference, spec.match) for task, arms in runs.items()},
    )


def untuned(comparison: Comparison) -> Comparison:
    """The same comparison without tuning, in a folder within."""
    folder = comparison.folder / UNTUNED
    data = {**yaml.load(comparison.text, yaml_text.CoreLoader), "out": str(comparison.folder), "name": UNTUNED}
    del data["tune"]
    return replace(
        comparison,
        spec=comparison.spec.model_copy(update={"tune": None, "name": UNTUNED}),
        folder=folder,
        cells=tuple(
            replace(cell, spec=cell.spec.model_copy(update={"out": f"{folder}/{cell.task}"}))
            for cell in comparison.cells
        ),
        text=yaml_text.dump(data),
        searches={},
    )


def _spec(comparison: Comparison) -> dict[str, Any]:
    assert comparison.spec.tune is not None
    content: dict[str, Any] = json.loads(comparison.spec.tune.model_dump_json())
    return content


def _tuned_on(  # noqa: PLR0917
    comparison: Comparison,
    task: str,
    console: Console,
    command: list[str],
    jobs: int | None,
    launcher: Launcher | None,
) -> dict[str, Tuned]:
    spec = comparison.spec.tune
    assert spec is not None
    searches = comparison.searches[task]

    def search_for(arm: str, trials: int, given: Mapping[str, Mapping[str, Value]]) -> Found:
        console.print(f"tuning {arm} on {task}", highlight=False, markup=False, soft_wrap=True)
        return tune(searches[arm], console, command, trials=trials, jobs=jobs, launcher=launcher, given=given).found

    best: dict[str, Row] = {}
    own_trials: dict[str, list[Row]] = {}
    for arm, search in searches.items():
        own = own_values(search)
        found = search_for(arm, spec.trials, {} if own is None else {OWN: own})
        own_trials[arm] = [row for row in found.best if not row.given.startswith(OF_ARM)]
        if not own_trials[arm]:
            reasons = "".join(f"; {reason}" for reason in {row.reason for row in found.rows if row.reason})
            raise SeedFailedError(f"tuning {arm} on {task}: no trial finished{reasons}")
        best[arm] = own_trials[arm][0]
    chosen = {}
    for arm, search in searches.items():
        wanted = {other: _with_those_of(search, best[arm], best[other]) for other in searches if other != arm}
        known = [row.values for row in own_trials[arm]]
        new: dict[str, Mapping[str, Value]] = {}
        for other, values in wanted.items():
            if values not in [*known, *new.values()]:
                new[f"{OF_ARM}{other}"] = values
        chosen[arm] = _told(search_for(arm, spec.trials + len(new), new), wanted)
    return chosen


def _with_those_of(search: Search, own: Row, other: Row) -> dict[str, Value]:
    """An arm's own values, with those of another one where both have the option."""
    return searched_among(search, {**own.values, **other.values})


def _told(found: Found, wanted: Mapping[str, Mapping[str, Value]]) -> Tuned:
    first = found.best[0]

    def score_of(values: Mapping[str, Value]) -> float | None:
        return next((row.score for row in found.best if row.values == values), None)

    return Tuned(
        values=dict(first.values),
        score=float(first.score or 0.0),
        source=first.given,
        own=next((row.score for row in found.best if row.given == OWN), None),
        drawn=tuple(float(row.score or 0.0) for row in found.best if not row.given),
        pruned=found.counts.get("pruned", 0),
        failed=sum(row.state == "fail" and not row.given for row in found.rows),
        with_others={other: score_of(values) for other, values in wanted.items()},
    )
