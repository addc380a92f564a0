"""Weights & Biases: a run for each seed, with the environment's steps as its steps."""

from __future__ import annotations

import io
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltarl.recording.background import PATIENCE
from deltarl.recording.spec import WandbSpec
from deltarl.recording.tracker import About, Ending, Row, Tracker
from deltarl.recording.wandb_files import newest_step

log = logging.getLogger(__name__)

# Less than the end of training waits for, so that a short run is recorded offline if the server cannot be reached.
INIT_SECONDS = 20.0


def target(spec: WandbSpec) -> str:
    """The user or team, and the project."""
    entity = spec.entity or os.environ.get("WANDB_ENTITY", "")
    return f"{entity}/{spec.project or os.environ.get('WANDB_PROJECT', 'deltarl')}"


def _folder(about: About) -> Path:
    return Path(os.environ.get("WANDB_DIR") or about.folder.parent)


class Wandb(Tracker):
    """A run of Weights & Biases.

    It is recorded offline if `WANDB_MODE` says so, if there is no account, or if the server cannot be reached. Its
    files are in `WANDB_DIR`, or next to the seeds' folders: W&B makes links, which a run's folder may not contain.

    Args:
        spec: its options.
        about: the run.
        id: of the run to continue; empty for a new one.
    """

    name = "wandb"

    def __init__(self, spec: WandbSpec, about: About, id: str = "") -> None:  # noqa: A002
        import wandb  # noqa: PLC0415

        self._wandb = wandb
        self.id = id or secrets.token_hex(4)
        # Of a killed process, W&B may have less than it was given.
        recorded = newest_step(_folder(about) / "wandb", id) if id else None
        if not (mode := os.environ.get("WANDB_MODE", "")):
            mode = "online" if wandb.login(prompt=False) else "offline"
        try:
            self._run = self._init(spec, about, mode, self.id)
        except wandb.errors.Error as error:
            if mode != "online":
                raise
            log.warning("wandb: %s", " ".join(str(error).split()))
            # W&B does not let go of the id in this process.
            self._run = self._init(spec, about, mode := "offline", secrets.token_hex(4))
            self.id = id or self._run.id
        self.where = str(Path(self._run.dir).parent if mode != "online" else self._run.url)
        if mode == "offline" and os.environ.get("WANDB_MODE") != "offline":
            into = "" if self._run.id == self.id else f"--id {self.id} "
            log.warning("wandb: the run is recorded offline; upload it with: wandb sync %s%s", into, self.where)
        self.newest = self._run.step - 1 if id and mode == "online" else recorded
        self._latest = -1
        self._late = 0

    def _init(self, spec: WandbSpec, about: About, mode: Any, run_id: str) -> Any:
        options: dict[str, Any] = {} if mode == "offline" else {"resume": "allow"}
        limits = {
            name: seconds
            for name, seconds in {"init_timeout": INIT_SECONDS, "finish_timeout": PATIENCE["finished"]}.items()
            if f"WANDB_{name.upper()}" not in os.environ
        }
        entity, project = target(spec).split("/", 1)
        return self._wandb.init(
            id=run_id,
            entity=entity or None,
            project=project,
            group=spec.group or about.name,
            name=f"{about.name}-seed-{about.seed}",
            job_type="train",
            tags=[*dict.fromkeys((*spec.tags, about.task[:64], about.algorithm[:64]))],
            config={**about.config, "seed": about.seed, "versions": dict(about.facts)},
            dir=_folder(about),
            mode=mode,
            settings=self._wandb.Settings(
                console="off",  # W&B would replace stdout and stderr
                silent=True,
                symlink=False,
                reinit="create_new",  # the user's script may have a run of its own
                **limits,
            ),
            **options,
        )

    def rows(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._log(row.values, row.step)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        """Log values; W&B takes steps in order only, and merges what has the same step."""
        if step < self._latest:
            self._late += 1
            return
        self._latest = step
        self._run.log(dict(values), step=step)

    def histogram(self, tag: str, values: NDArray[np.float32], step: int) -> None:
        self._log({tag: self._wandb.Histogram(values.tolist())}, step)

    def image(self, tag: str, png: bytes, step: int) -> None:
        from PIL import Image  # noqa: PLC0415

        self._log({tag: self._wandb.Image(Image.open(io.BytesIO(png)))}, step)

    def video(self, tag: str, gif: bytes, step: int) -> None:
        self._log({tag: self._wandb.Video(io.BytesIO(gif), format="gif")}, step)

    def summary(self, scores: Mapping[str, float | str], step: int) -> None:
        del step
        self._run.summary.update({f"final/{name}": value for name, value in scores.items()})

    def close(self, ending: Ending) -> None:
        if self._late:
            log.warning("wandb: %s rows were left out, because they came after rows of later steps", f"{self._late:,}")
        if ending == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if ending == "finished" else 1)
