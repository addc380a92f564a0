"""The records that a run writes while training."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger

from deltarl import disk, recording, yaml_text
from deltarl.errors import ConfigError
from deltarl.reading import number, read_rows, readable
from deltarl.recording import About, Sink, metrics_in, sinks_of
from deltarl.training.differences import leaves
from deltarl.training.evaluation import Evaluation
from deltarl.training.folder import EVALUATIONS, METRICS
from deltarl.training.provenance import surroundings
from deltarl.training.spec import RunSpec

log = logging.getLogger(__name__)

# Settings that are worth a column next to the scores.
_TORSO = ("kind", "width", "depth", "heads", "channels", "update")
MAIN_SETTINGS = {
    "agent": ("algorithm", "learning_rate", "batch_size", "gamma"),
    "actor_torso": _TORSO,
    "critic_torso": _TORSO,
}


def describe(logger: Logger, spec: RunSpec, seed: int) -> None:
    """Send a run's config to the logger's sinks as text, and its main settings with its scores."""
    content = spec.model_copy(update={"seeds": (seed,)}).model_dump()
    settings = {**main_settings(spec), "Seed": seed}
    scores = {"eval/return_mean": 0.0, **({} if spec.env.success is None else {"eval/success_rate": 0.0})}
    text = f"```yaml\n{yaml_text.dump(content)}```"
    for sink in sinks_of(logger):
        sink.text("config", text.replace("\n", "  \n"))
        sink.hparams(settings, scores)


def about(folder: Path, spec: RunSpec, seed: int) -> About:
    """What trackers tell of a run."""
    content = spec.model_copy(update={"seeds": (seed,)}).model_dump(mode="json")
    content.pop("logging")  # it says where to tell, not what
    return About(
        folder=folder,
        name=spec.name,
        seed=seed,
        task=spec.env.id,
        algorithm=spec.agent.algorithm,
        config=content,
        settings=leaves(content),
        facts=surroundings(spec.env.id),
    )


def main_settings(spec: RunSpec) -> dict[str, Any]:
    """The settings shown with the scores; in a comparison, the name is the arm's."""
    content = spec.model_dump(mode="json")
    labels = dict.fromkeys((spec.actor_torso.label(), spec.critic_torso.label()))  # one if they are the same
    # TensorBoard sorts capitals first.
    settings: dict[str, Any] = {"Task": spec.env.id, "Name": spec.name, "Torso": ", ".join(labels)}
    if spec.encoder.kind != "flat":
        settings["Encoder"] = spec.encoder.label()
    for part, keys in MAIN_SETTINGS.items():
        settings |= {f"{part}.{key}": content[part][key] for key in keys if _is_plain(content[part].get(key))}
    return settings


def sizes(folder: Path, logger: Logger) -> dict[str, int]:
    """The sizes of the append-only records, after everything logged has been written to the disk."""
    found = recording.sizes(folder, logger)
    if (path := folder / EVALUATIONS).exists():
        disk.sync(path)
        found[path.name] = path.stat().st_size
    return found


def cut_back(folder: Path, lengths: Mapping[str, int]) -> None:
    """Cut the append-only records back to the `lengths` that `sizes` returned."""
    recording.truncate(folder, lengths)
    recording.cut_back([path for path in (folder / EVALUATIONS,) if path.exists()], lengths)


def set_damaged_aside(folder: Path) -> None:
    """Rename a record that cannot be read, with a warning: it is not a reason to lose the run."""
    for name, read in ((METRICS, lambda: metrics_in(folder / METRICS)), (EVALUATIONS, lambda: evaluations_in(folder))):
        if not (folder / name).exists():
            continue
        try:
            read()
        except ConfigError as error:
            kept = folder / f"{name}.damaged"
            (folder / name).rename(kept)
            log.warning("%s; kept as %s, and started again", error, kept.name)


def evaluations_in(folder: Path) -> dict[int, Evaluation]:
    """The evaluations of a run by step, in the order in which they were made.

    Raises:
        ConfigError: if evaluations.csv is missing or damaged.
    """
    path = folder / EVALUATIONS
    found: dict[int, list[tuple[float, int, str]]] = {}
    rows = read_rows(path)
    with readable(path):
        for row in rows:
            episodes = found.setdefault(int(number(int(row["step"]), 0)), [])
            if int(row["episode"]) != len(episodes):
                raise ValueError(f"step {row['step']}: expected episode {len(episodes)}, got {row['episode']}")
            episodes.append((number(float(row["return"])), int(row["length"]), row["success"]))
        return {
            step: Evaluation(
                returns=tuple(score for score, _, _ in episodes),
                lengths=tuple(length for _, length, _ in episodes),
                successes=tuple(bool(int(success)) for _, _, success in episodes) if episodes[0][2] else None,
            )
            for step, episodes in found.items()
        }


def record_evaluation(
    folder: Path, logger: Logger, steps: int, evaluation: Evaluation, phase: int | None = None
) -> None:
    """Add an evaluation to evaluations.csv, one row per episode, and send its means to the logger's sinks.

    They bypass the logger's own store, because the values collected there belong to the algorithm's next dump at
    another step. `phase` is the phase of a drifting task.
    """
    path = folder / EVALUATIONS
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["step", "episode", "return", "length", "success"])
        for episode, (score, length) in enumerate(zip(evaluation.returns, evaluation.lengths, strict=True)):
            success = "" if evaluation.successes is None else int(evaluation.successes[episode])
            writer.writerow([steps, episode, score, length, success])
    means = {
        "eval/return_mean": evaluation.return_mean,
        "eval/return_std": evaluation.return_std,
        "eval/steps_mean": float(np.mean(evaluation.lengths)),
    }
    if evaluation.success_rate is not None:
        means["eval/success_rate"] = evaluation.success_rate
    if phase is not None:
        means["eval/phase"] = phase
    # A table has the step in a column, under SB3's name for it; other sinks store it with every value.
    row = {"time/total_timesteps": steps, **means}
    for output in logger.output_formats:
        if isinstance(output, Sink):
            output.scalars(row if output.is_table else means, steps)
            output.flush()
        else:  # added by a callback
            output.write(means, dict.fromkeys(means, ()), steps)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
