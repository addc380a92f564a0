"""Reads the records of a comparison's finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from deltarl.comparison.costs import Cost
from deltarl.comparison.intervals import Array
from deltarl.comparison.load import read_comparison
from deltarl.comparison.matching import Size
from deltarl.comparison.spec import ARM_KEYS, COMPARISON, COSTS, SIZES, UNTUNED, ComparisonSpec
from deltarl.comparison.tuning_record import Tuned, read_tuning
from deltarl.errors import ConfigError, plain
from deltarl.reading import check_plain, number, read_json, readable
from deltarl.recording import metrics_in
from deltarl.training import RunResult, RunSpec
from deltarl.training import folder as files
from deltarl.training.differences import differences
from deltarl.training.records import evaluations_in
from deltarl.training.result import check_complete, result_in
from deltarl.training.spec import Part, fields_of

# What may differ between compared runs: it changes how they were stored and measured, not what they are.
FREE = fields_of(Part.PLACE, Part.CADENCE, Part.MACHINE, Part.ROUNDING)


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        steps: training steps at its T evaluations; the last one is of the final policy.
        returns: mean return of each evaluation, `[T]`.
        seconds: time since the start of training, including evaluations, `[T]`.
        updates: network updates as Stable-Baselines3 counts them, `[T]`; NaN if it had not counted yet.
    """

    task: str
    arm: str
    seed: int
    folder: Path
    spec: RunSpec
    result: RunResult
    provenance: dict[str, Any]
    steps: Array
    returns: Array
    seconds: Array
    updates: Array

    @property
    def final(self) -> float:
        """Mean return of the final policy."""
        return self.result.final_return_mean

    @property
    def area(self) -> float:
        """Area under the learning curve over its length: the mean return of the evaluations over training."""
        if len(self.steps) < 2:
            return self.final
        return float(np.trapezoid(self.returns, self.steps) / (self.steps[-1] - self.steps[0]))

    def normalized(self, score: float) -> float | None:
        """The score scaled to 0 for the random policy and 1 for the reference score; None if these are missing."""
        random, reference = self.spec.env.random_score, self.spec.env.reference_score
        if random is None or reference is None or random.mean >= reference.mean:
            return None
        return (score - random.mean) / (reference.mean - random.mean)


@dataclass(frozen=True)
class Study:
    """The finished runs of a comparison.

    Attributes:
        missing: labels of the runs that have not finished.
        unlisted: labels of finished runs in the folder that the comparison does not list.
        sizes: sizes of each task's arms; the fields of `matching.Size`.
        costs: costs of each task's arms; the fields of `costs.Cost`. Empty if they were not measured.
        tuning: how the arms were tuned, by task and arm; empty if they were not.
        untuned: the same runs without tuning, as far as they have finished.
    """

    folder: Path
    spec: ComparisonSpec
    records: tuple[Record, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    sizes: dict[str, dict[str, dict[str, Any]]]
    costs: dict[str, dict[str, dict[str, Any]]]
    tuning: Mapping[str, Mapping[str, Tuned]] = field(default_factory=dict)
    untuned: tuple[Record, ...] = ()

    def of(self, task: str, arm: str) -> list[Record]:
        """The runs of an arm on a task, by seed."""
        return [record for record in self.records if (record.task, record.arm) == (task, arm)]

    @property
    def tasks(self) -> list[str]:
        """Tasks on which every arm has a finished run."""
        return [task for task in self.spec.tasks if all(self.of(task, arm) for arm in self.spec.arms)]

    @property
    def arms(self) -> list[str]:
        return list(self.spec.arms)


def read_study(folder: Path | str) -> Study:
    """Read the records in a comparison's folder.

    Raises:
        ConfigError: if it is not a comparison, if a record is damaged, if there is no task on which every arm has
            finished, or if runs differ in ways that make a comparison meaningless.
    """
    folder = Path(folder)
    if not (folder / COMPARISON).is_file():
        what = "contains no comparison" if folder.is_dir() else "no such folder"
        raise ConfigError(f"{folder}: {what}; deltarl compare makes them")
    check_plain(folder)
    spec, _ = read_comparison(folder / COMPARISON)
    records, missing = _read_runs(folder, spec)
    found = read_tuning(folder)
    listed = {f"{record.task}/{record.arm}/seed-{record.seed}" for record in records}
    present = {plain(str(path.parent.relative_to(folder))) for path in folder.glob(f"*/*/seed-*/{files.RESULT}")}
    study = Study(
        folder,
        spec,
        records,
        missing,
        tuple(sorted(label for label in present - listed if label.rpartition("-")[2].isdigit())),
        read_measured(folder / SIZES, Size),
        read_measured(folder / COSTS, Cost),
        {} if found is None or spec.tune is None else found[1],
        () if spec.tune is None else _read_runs(folder / UNTUNED, spec)[0],
    )
    _check_alike(study)
    if not study.tasks:
        raise ConfigError(f"{folder}: there is no task yet on which a run of every arm has finished")
    return study


def _read_runs(folder: Path, spec: ComparisonSpec) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """The finished runs in a folder, and the labels of the others."""
    records, missing = [], []
    for task in spec.tasks:
        for arm in spec.arms:
            for seed in spec.seeds:
                run = folder / task / arm / f"seed-{seed}"
                if (run / files.RESULT).is_file():
                    records.append(_read_run(run, task, arm, seed))
                else:
                    missing.append(f"{task}/{arm}/seed-{seed}")
    return tuple(records), tuple(missing)


def _check_alike(study: Study) -> None:
    """Check that the runs of a task differ only in their arms' keys, and those of an arm not at all."""
    for task in study.spec.tasks:
        firsts: list[Record] = []
        for arm in study.spec.arms:
            for index, record in enumerate(study.of(task, arm)):
                if index:
                    _check_pair(firsts[-1], record, of_the_arm=True)
                else:
                    firsts.append(record)
                _check_pair(firsts[0], record, of_the_arm=False)


def _check_pair(first: Record, record: Record, *, of_the_arm: bool) -> None:
    """Refuse two runs that differ in the keys of an arm, or in all other keys."""
    for key, (one, other) in differences(first.spec, record.spec).items():
        if key.partition(".")[0] not in FREE and key.startswith(ARM_KEYS) == of_the_arm:
            raise ConfigError(
                f"{record.folder}: {key} is {other}, but {one} in {first.folder}; these runs cannot be compared "
                "with each other"
            )


def _read_run(folder: Path, task: str, arm: str, seed: int) -> Record:
    result, evaluations = result_in(folder), evaluations_in(folder)
    spec = files.load_spec(folder)
    if (spec.seeds, result.seed) != ((seed,), seed):
        raise ConfigError(f"{folder}: has seed {spec.seeds[0]}, but its result has seed {result.seed}")
    check_complete(result, spec)
    if (spec.name, Path(spec.out).name) != (arm, task):
        raise ConfigError(
            f"{folder}: is a run of arm {spec.name} on task {Path(spec.out).name}, as {files.CONFIG} says"
        )
    path = folder / files.METRICS
    metrics = metrics_in(path) if path.exists() else []  # without it, only time and FLOPs are unknown
    with readable(path):
        steps = sorted(evaluations)
        seconds = {row["step"]: row["wall_seconds"] for row in metrics if "eval/return_mean" in row}
        counted = [
            (row["step"], number(row["train/n_updates"], 0))
            for row in metrics
            if row.get("train/n_updates") is not None
        ]
    return Record(
        task,
        arm,
        seed,
        folder,
        spec,
        result,
        _read_provenance(folder / files.PROVENANCE),
        steps=np.array(steps, float),
        returns=np.array([evaluations[step].return_mean for step in steps]),
        seconds=np.array([seconds.get(step, np.nan) for step in steps]),
        updates=np.array([_newest(counted, step) for step in steps]),
    )


def _read_provenance(path: Path) -> dict[str, Any]:
    provenance = read_json(path)
    with readable(path):
        if not isinstance(provenance["command"], str):
            raise ValueError(f"command: expected a text, got {provenance['command']}")
        if not isinstance(provenance.get("packages", {}), dict):
            raise ValueError(f"packages: expected an object, got {provenance['packages']}")
    return provenance


def _newest(counted: Sequence[tuple[int, float]], step: int) -> float:
    return max((value for at, value in counted if at <= step), default=float("nan"))


def read_measured(path: Path, kind: type[Size] | type[Cost]) -> dict[str, dict[str, dict[str, Any]]]:
    """The sizes or costs of each task's arms; empty if there is no such file.

    Raises:
        ConfigError: if it is damaged.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    with readable(path):
        adapter = TypeAdapter(dict[str, dict[str, kind]])  # type: ignore[valid-type]
        measured: dict[str, dict[str, dict[str, Any]]] = adapter.dump_python(adapter.validate_python(content))
    return measured
