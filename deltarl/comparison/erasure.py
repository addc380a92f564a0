"""What erasing contributes to final policies: their returns without it, on the episodes of the final evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.vec_env import VecEnv

from deltarl.agents.build import roles_of
from deltarl.comparison.intervals import Interval
from deltarl.comparison.records import Record, Study
from deltarl.comparison.spec import Cell
from deltarl.comparison.statistics import paired_difference
from deltarl.errors import ConfigError
from deltarl.gates.interventions import intervene
from deltarl.reading import number, read_json, readable
from deltarl.torsos import TorsoSpec
from deltarl.training import TrainingStopped, load_run
from deltarl.training import folder as files
from deltarl.training.build import one_message
from deltarl.training.evaluation import evaluate_policy
from deltarl.training.signals import stop_on_signals

ERASURE = "erasure.json"  # in the folder of a run
Run = TypeVar("Run", Record, Cell)


@dataclass(frozen=True)
class Worth:
    """What erasing contributes to an arm on a task.

    Attributes:
        difference: return without erasing minus return with it, paired by seed; None if no seed was measured.
        seeds: number of measured seeds.
        of: number of finished seeds.
    """

    task: str
    arm: str
    difference: Interval | None
    seeds: int
    of: int


def worths(study: Study) -> list[Worth]:
    """One entry for each task and arm whose policies erase."""
    found = []
    for task in study.tasks:
        for arm in study.arms:
            records = [record for record in study.of(task, arm) if _erases(record)]
            if not records:
                continue
            pairs = [(without, record.final) for record in records if (without := _read(record.folder)) is not None]
            difference = paired_difference(*np.array(pairs).T) if pairs else None
            found.append(Worth(task, arm, difference, len(pairs), len(records)))
    return found


def unmeasured(runs: Sequence[Run]) -> list[Run]:
    """The finished runs with weights whose policies erase and have not been measured yet."""
    return [
        run
        for run in runs
        if _erases(run) and (run.folder / files.POLICY).is_file() and not (run.folder / ERASURE).is_file()
    ]


def measure_erasure(records: Sequence[Record], console: Console) -> None:
    """Evaluate each unmeasured policy without erasing, and store its returns in its run.

    This takes the time of one final evaluation per run. Measurements made before a stop are kept. A run that cannot be
    loaded, played or written to is reported and skipped.

    Raises:
        TrainingStopped: if a signal requested it.
    """
    todo = unmeasured(records)
    if not todo:
        return
    console.print(f"evaluating {len(todo)} policies without erasing", highlight=False)
    threads = torch.get_num_threads()
    with stop_on_signals() as stop:

        def watch(_: object) -> None:
            if stop:
                raise TrainingStopped(f"{stop.reason}: stopped while evaluating policies; repeat the command to resume")

        try:
            for record in todo:
                torch.set_num_threads(record.spec.threads)
                try:
                    _measure(record, watch)
                except ConfigError as error:
                    console.print(f"note: not evaluated without erasing: {error}", markup=False, soft_wrap=True)
        finally:
            torch.set_num_threads(threads)


def _measure(record: Record, watch: Callable[[VecEnv], None]) -> None:
    run = load_run(record.folder, device="cpu")
    with intervene(run.policy, {"erase": "off"}), one_message(f"env: {run.spec.env.id} failed in the evaluation"):
        found = evaluate_policy(
            run.policy,
            run.spec.env,
            run.normalizer,
            record.result.episodes,
            n_envs=run.spec.eval.n_envs,
            max_episode_steps=run.spec.eval.max_episode_steps,
            watch=watch,
        )
    with files.usable(record.folder):
        files.write_json(record.folder / ERASURE, {"returns_without_erasure": list(found.returns)})


def _erases(run: Record | Cell) -> bool:
    torso: TorsoSpec = getattr(run.spec, roles_of(run.spec.agent)[0])  # of the network that chooses actions
    return torso.erases


def _read(folder: Path) -> float | None:
    path = folder / ERASURE
    if not path.is_file():
        return None
    content = read_json(path)
    with readable(path):
        returns = [number(each) for each in content["returns_without_erasure"]]
        if not returns:
            raise ConfigError(f"{path}: has no returns")
        return float(np.mean(returns))
