"""Packs the policy of a run with its card into one archive of safe files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deltarl import yaml_text
from deltarl.checkpoints import checkpoint
from deltarl.comparison.runs import EVALUATIONS, curve_of, learning_curves
from deltarl.errors import ConfigError
from deltarl.export.card import Card, card_text
from deltarl.export.scores import SeedScore, highest, known_scores, scores_of
from deltarl.gates import Record
from deltarl.reading import content_of, read_json, readable
from deltarl.recording import metrics_in
from deltarl.training import Run, RunSpec, load_run, packed
from deltarl.training import folder as files

MOST_ROWS = 200  # of the learning curve of the training episodes
MOST_MEASUREMENTS = 100  # of the gates
# What a stranger needs of the provenance; the command may contain paths of the machine.
PROVENANCE = (
    *("git", "python", "packages", "extras", "imports", "imported", "platform", "processor", "cores", "gpus"),
    *("threads", "training_step"),
)


def pack_run(
    run: Path | str,
    path: Path | str | None = None,
    *,
    best: bool = False,
    seed: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Pack the policy of a run into one archive that `load_run` and every verb take in place of the run's folder.

    It contains config, policy, normaliser, result, versions, learning curve, gate statistics and a card: text, tables
    and arrays only, nothing that is executed, and no state to resume from. One policy is packed; the card gives the
    scores of all seeds. The same run gives the same bytes.

    Args:
        run: the run's folder, `.../seed-<n>`, or the folder that holds its seeds.
        path: the archive, whose name ends in .zip; default: the run's name, in the current folder.
        best: pack the policy of the best evaluation instead of the final one; the run need not have finished.
        seed: which seed's policy; default: the one with the best score.
        overwrite: replace an existing file.

    Returns:
        The archive's path.

    Raises:
        ConfigError: if there is no such policy, a file of the run is damaged, or the archive cannot be written.
    """
    run = packed.found(Path(run))
    if run.is_file():
        raise ConfigError(f"pack: {run} is a packed agent already" if packed.is_pack(run) else f"pack: {run} is a file")
    if path is not None:
        packed.check_target(Path(path), "pack", overwrite=overwrite)
    scores = scores_of(run, best=best)
    if seed is None and run.name.startswith("seed-") and run.name[5:].isdecimal():
        seed = int(run.name[5:])
    own = _chosen(run, scores, seed, best=best)
    loaded = load_run(own.folder, device="cpu", best=best)
    target = Path(f"{loaded.spec.name}{packed.SUFFIX}") if path is None else Path(path)
    packed.check_target(target, "pack", overwrite=overwrite)
    content = _files(loaded, scores, own)
    content[packed.CARD] = card_text(_card(loaded, scores, own, content)).encode()
    packed.write_pack(target, content, seed=own.seed, policy="best" if best else "final", version=version("deltarl"))
    return target


def _chosen(run: Path, scores: Sequence[SeedScore], seed: int | None, *, best: bool) -> SeedScore:
    if not scores:
        what = "no best policy yet; there is one after the first evaluation" if best else "no seed has finished"
        raise ConfigError(f"{run}: {what}")
    if seed is None:
        return highest(scores)
    for score in scores:
        if score.seed == seed:
            return score
    known = ", ".join(str(score.seed) for score in scores)
    raise ConfigError(f"--seed: {run} has no {'best' if best else 'final'} policy of seed {seed}; there is {known}")


def _files(run: Run, scores: Sequence[SeedScore], own: SeedScore) -> dict[str, bytes]:
    folder = own.folder
    spec = run.spec.model_copy(update={"out": RunSpec.model_fields["out"].default})  # a path of this machine
    found = {files.CONFIG: yaml_text.dump(spec.model_dump()).encode(), packed.SEEDS: _table(scores)}
    source = folder
    if run.best:
        kept = checkpoint.best(folder)
        assert kept is not None
        source = kept.folder
    inner = "" if source == folder else f"{source.relative_to(folder).as_posix()}/"
    names = [files.POLICY, *([files.NORMALIZER] if run.normalizer is not None else [])]
    copied = [(f"{inner}{name}", source / name) for name in (*names, *([packed.MANIFEST] if inner else []))]
    copied += [(name, folder / name) for name in (files.EVALUATIONS, *([] if inner else [files.RESULT]))]
    for name, path in copied:
        if path.exists():
            with readable(path):
                found[name] = content_of(path)
    if (folder / files.PROVENANCE).is_file():
        found[files.PROVENANCE] = _lines(_provenance(read_json(folder / files.PROVENANCE)))
    if (folder / files.METRICS).is_file() and (rows := _thinned(_rollouts(folder), MOST_ROWS)):
        found[files.METRICS] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if (folder / files.GATES).is_file():
        found[files.GATES] = _arrays(_main_statistics(files.read_gates(folder)))
    if (picture := _curve(scores)) is not None:
        found[packed.CURVE] = picture
    return found


def _card(run: Run, scores: Sequence[SeedScore], own: SeedScore, content: dict[str, bytes]) -> Card:
    gates: Record | None = files.read_gates(own.folder) if files.GATES in content else None
    return Card(
        run=run,
        own=own,
        scores=tuple(scores),
        known=known_scores(run.spec.env),
        gates=gates,
        provenance=json.loads(content.get(files.PROVENANCE, b"{}")),
        config=content[files.CONFIG].decode(),
        has_curve=packed.CURVE in content,
    )


def _table(scores: Sequence[SeedScore]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    columns = ("seed", "steps", "episodes", "return_mean", "return_std", "success_rate")
    writer.writerow(columns)
    for score in scores:
        writer.writerow(["" if (value := getattr(score, column)) is None else value for column in columns])
    return text.getvalue().encode()


def _provenance(written: dict[str, Any]) -> dict[str, Any]:
    found = {name: written[name] for name in PROVENANCE if name in written}
    if isinstance(imports := found.get("imports"), list):
        found["imports"] = [Path(str(name)).name for name in imports]
    return found


def _rollouts(folder: Path) -> list[dict[str, Any]]:
    """The rows with scores of the training episodes, without the rest."""
    rows = metrics_in(folder / files.METRICS)
    kept = [
        {name: value for name, value in row.items() if name in {"step", "wall_seconds"} or name.startswith("rollout/")}
        for row in rows
    ]
    return [row for row in kept if len(row) > 2]


def _main_statistics(record: Record) -> Record:
    """The statistics of the gates, without histograms and the second batch, which take most of the space."""
    times = np.array(_thinned(range(len(record["steps"])), MOST_MEASUREMENTS))
    return {
        name: values[times]
        for name, values in record.items()
        if not name.startswith("gates_probe/") and not name.endswith("/beta_counts")
    }


def _thinned(rows: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the rows, evenly spaced, with the first and the last one."""
    if len(rows) <= most:
        return list(rows)
    return [rows[index] for index in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _arrays(record: Record) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **record)  # type: ignore[arg-type]
    return content.getvalue()


def _curve(scores: Sequence[SeedScore]) -> bytes | None:
    """The learning curve over the seeds as PNG; None if they were evaluated at the end only."""
    curves = []
    for score in scores:
        if (score.folder / files.EVALUATIONS).is_file():
            curve = curve_of(score.folder, EVALUATIONS)
            curves += [curve] if len(curve.steps) > 1 else []
    if not curves:
        return None
    drawn, content = io.BytesIO(), io.BytesIO()
    learning_curves({"this run": curves}, EVALUATIONS).savefig(drawn, format="png", dpi=90)
    # Few colours take a third of the space.
    Image.open(drawn).convert("RGB").quantize(64).save(content, format="png", optimize=True)
    return content.getvalue()


def _lines(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode() + b"\n"
