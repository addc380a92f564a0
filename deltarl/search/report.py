"""The results of a study: a table of its trials, the best config, and Optuna's plots."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltarl import yaml_text
from deltarl.errors import plain
from deltarl.search.given import GIVEN
from deltarl.search.plots import write_page
from deltarl.search.space import Value
from deltarl.search.spec import Search
from deltarl.search.storage import REASON, SCORES, VALUES, Place
from deltarl.training import folder as files
from deltarl.training.result import result_in
from deltarl.training.spec import RunSpec

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

BEST = "best.yaml"
TABLE = "trials.csv"
PAGE = "plots.html"


@dataclass(frozen=True)
class Row:
    """A trial.

    Attributes:
        state: Optuna's word for how it ended: complete, pruned or fail; or running.
        score: the score of a complete trial.
        scores: final returns of its runs, in the order of the seeds.
        last: the last evaluation, and its place among the trial's.
        values: its values of the options, by path.
        reason: why it failed.
        given: where its values come from, if they were given.
    """

    number: int
    state: str
    score: float | None
    scores: tuple[float, ...]
    last: tuple[int, float] | None
    values: Mapping[str, Value]
    reason: str = ""
    given: str = ""


@dataclass(frozen=True)
class Found:
    """The trials of a study.

    Attributes:
        rows: all trials, by number.
        best: finished trials, the best one first; of equal ones, the earlier one first.
        counts: trials by state.
    """

    rows: tuple[Row, ...]

    @property
    def best(self) -> list[Row]:
        finished = [row for row in self.rows if row.state == "complete" and row.score is not None]
        return sorted(finished, key=lambda row: (-(row.score or 0.0), row.number))

    @property
    def counts(self) -> dict[str, int]:
        states = [row.state for row in self.rows]
        return {state: states.count(state) for state in dict.fromkeys(states)}


def found_in(study: optuna.Study) -> Found:
    """Read the trials of a study."""
    return Found(tuple(map(_row, study.get_trials(deepcopy=False))))


def _row(trial: FrozenTrial) -> Row:
    state = trial.state.name.lower()
    attributes = trial.user_attrs
    evaluations = trial.intermediate_values
    last = max(evaluations, default=None)
    return Row(
        trial.number,
        state,
        trial.value if state == "complete" else None,
        tuple(attributes.get(SCORES, ())),
        None if last is None else (last, evaluations[last]),
        attributes.get(VALUES, {}),
        plain(str(attributes.get(REASON, ""))),
        plain(str(attributes.get(GIVEN, ""))),
    )


def write_report(search: Search, place: Place, study: optuna.Study, command: Sequence[str]) -> Found:
    """Write trials.csv, plots.html and, if a trial has finished, best.yaml to the study's folder."""
    found = found_in(study)
    files.write_text(place.folder / TABLE, _csv(search, found))
    if found.best:
        files.write_text(place.folder / BEST, best_config(search, found, command))
    write_page(study, place.folder / PAGE)
    return found


def best_config(search: Search, found: Found, command: Sequence[str]) -> str:
    """The config of the best trial as YAML; on the same machine it reproduces the scores."""
    best = found.best[0]
    assert best.score is not None
    own = search.trial(best.number, best.values)
    spec = own.model_copy(update={"name": f"{search.run.name}-best", "out": search.run.out})
    how = {"mean": "mean", "median": "median", "iqm": "interquartile mean"}[search.spec.score]
    seeds = f"seed {spec.seeds[0]}" if len(spec.seeds) == 1 else f"seeds {spec.seeds[0]} to {spec.seeds[-1]}"
    told = " ".join(plain(" ".join(command)).split())  # on one line, whatever was typed
    header = [
        f"Trial {best.number} of {len(found.rows)}, the best of: {told}",
        f"Its score, the {how} of the final returns, is {best.score:,.1f} with {seeds}, which chose it among all "
        "trials. What it is worth,",
        "other seeds show: deltarl train best.yaml seeds=[0,1,2,3,4]",
    ]
    header += [f"Seed {seed} was {why}" for seed, why in _inexact(own)]
    return "".join(f"# {line}\n" for line in header) + yaml_text.dump(spec.model_dump())


def _inexact(trial: RunSpec) -> Iterator[tuple[int, str]]:
    """Seeds whose runs were resumed, but not exactly, so that training them again may give another score."""
    for seed in trial.seeds:
        folder = Path(trial.out) / trial.name / f"seed-{seed}"
        if not (folder / files.RESULT).exists():
            continue  # on another machine
        if reasons := result_in(folder).continued:
            yield seed, f"continued, not exact, so that its score may differ: {'; '.join(reasons)}"


def _csv(search: Search, found: Found) -> str:
    paths = list(search.spec.space)
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(
        ["trial", "state", "score", "last_evaluation", *(f"seed_{seed}" for seed in search.seeds), *paths, "reason"]
    )
    for row in found.rows:
        scores = [*row.scores, *[""] * (len(search.seeds) - len(row.scores))]
        values = [cell(row.values[path]) if path in row.values else "" for path in paths]
        last = "" if row.last is None else row.last[1]
        writer.writerow(
            [row.number, row.state, "" if row.score is None else row.score, last, *scores, *values, row.reason]
        )
    return held.getvalue()


def cell(value: Value) -> str:
    """A value in YAML's notation, with all digits."""
    return value if isinstance(value, str) else json.dumps(value)
