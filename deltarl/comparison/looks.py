"""Records when results were looked at: adding seeds or changing the plan afterwards invalidates tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deltarl.comparison.records import Study
from deltarl.reading import read_json, readable
from deltarl.training import folder as files

LOOKS = "looks.json"
# What must be decided before the results are known.
_PLANNED = ("reference", "metric", "contrasts", "primary", "sigma", "equivalence")


def record_look(study: Study) -> None:
    """Record in the comparison's folder what is being looked at, unless the last look was at the same."""
    looks, look = read_looks(study.folder), _look(study)
    if not looks or looks[-1] != look:
        with files.usable(study.folder):
            files.write_json(study.folder / LOOKS, {"looks": [*looks, look]})


def read_looks(folder: Path) -> list[dict[str, Any]]:
    """All looks so far, oldest first.

    Raises:
        ConfigError: if the record is damaged.
    """
    path = folder / LOOKS
    if not path.is_file():
        return []
    content = read_json(path)
    with readable(path):
        looks = content["looks"]
        for look in looks:
            if not isinstance(look["seeds"], list) or not isinstance(look["plan"], dict):
                raise ValueError("seeds: expected a list, plan: expected an object")
        return list(looks)


def since_the_first(study: Study) -> Iterator[str]:
    """What has changed since the results were first looked at, one sentence each."""
    looks = read_looks(study.folder)
    if not looks:
        return
    first, now = looks[0], _look(study)
    if added := [seed for seed in now["seeds"] if seed not in first["seeds"]]:
        yield (
            f"Seeds {_listed(added)} were added after a look at the results of {_listed(first['seeds'])}: the "
            "probability of a false claim is larger than the tests say."
        )
    for key in _PLANNED:
        if first["plan"].get(key) != now["plan"][key]:
            yield (
                f"The key '{key}' of the comparison was changed after a look at the results; it was "
                f"{first['plan'].get(key) or 'not given'} before."
            )


def _look(study: Study) -> dict[str, Any]:
    plan = study.spec.model_dump(mode="json", include=set(_PLANNED))
    return {"seeds": sorted({record.seed for record in study.records}), "plan": plan}


def _listed(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
