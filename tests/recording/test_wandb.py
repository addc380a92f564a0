"""Weights & Biases, as its own files tell it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from deltarl.recording import About, make_logger, png_of
from deltarl.recording.sinks import logged
from deltarl.recording.spec import WandbSpec
from deltarl.recording.tracker import Ending
from tests.recording.wandb_files import finished, history_in
from tests.trackers import offline


@pytest.fixture(scope="module", autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with offline(tmp_path_factory.mktemp("trackers")):
        yield


def gif() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, format="GIF")
    return file.getvalue()


def write(folder: Path, spec: WandbSpec, steps: range, ending: Ending = "finished") -> Path:
    """Write rows as a run does; return the folder of W&B's files."""
    about = About(folder, "hop", 3, "Hopper-v5", "ppo", {"torso": {"width": 8}}, {"torso.width": 8}, {"git": "abc"})
    logger = make_logger(folder, loggers=[spec], about=lambda: about)
    with logged(logger):
        [*_, sink] = logger.output_formats
        for step in steps:
            logger.record("train/loss", 1 / step)
            logger.dump(step)
        sink.histogram("torso/gates/policy/0/beta", torch.ones(4), steps[-1])  # type: ignore[attr-defined]
        sink.scalars({"eval/return_mean": 5.0}, 1)  # type: ignore[attr-defined]  # too late
        sink.figure("figures/beta", *png_of(Figure(figsize=(1, 1))), steps[-1])  # type: ignore[attr-defined]
        sink.video("eval/clip", gif(), (4, 4), steps[-1])  # type: ignore[attr-defined]
        if ending == "finished":
            sink.summary({"return_mean": 7.0, "status": "finished"}, steps[-1])  # type: ignore[attr-defined]
        sink.ended(ending)  # type: ignore[attr-defined]
    return max((folder.parent / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)


def records(folder: Path, kind: str) -> list[Any]:
    return [getattr(record, kind) for record in finished(folder) if record.WhichOneof("record_type") == kind]


def test_a_run_is_recorded_and_continued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "hop" / "seed-3"
    folder.mkdir(parents=True)
    first = write(folder, WandbSpec(tags=("mine",)), range(10, 40, 10), "stopped")
    [run] = records(first, "run")
    assert (run.project, run.run_group, run.display_name) == ("deltarl", "hop", "hop-seed-3")
    assert list(run.tags) == ["mine", "Hopper-v5", "ppo"]
    config = {item.key: item.value_json for item in run.config.update}
    assert (config["torso"], config["seed"], config["versions"]) == ('{"width":8}', "3", '{"git":"abc"}')
    rows = history_in(first)
    assert [(row["_step"], row["train/loss"]) for row in rows] == [(step, 1 / step) for step in (10, 20, 30)]
    last = rows[-1]
    assert {last[f"{tag}/_type"] for tag in ("figures/beta", "eval/clip")} == {"image-file", "video-file"}
    assert last["torso/gates/policy/0/beta/_type"] == "histogram"
    assert sorted(path.suffix for path in first.glob("files/media/**/*.*")) == [".gif", ".png"]
    assert [each.exit_code for each in records(first, "exit")] == [1]
    assert len(records(first, "preempting")) == 1
    assert "1 rows were left out, because they came after rows of later steps" in caplog.text
    assert [path.name for path in folder.iterdir() if path.is_symlink()] == []

    second = write(folder, WandbSpec(), range(20, 60, 10))
    assert [each.run_id for each in records(second, "run")] == [run.run_id]
    assert [row["_step"] for row in history_in(second)] == [40, 50]
    assert [each.exit_code for each in records(second, "exit")] == [0]
    summary = {
        item.key or "/".join(item.nested_key): item for each in records(second, "summary") for item in each.update
    }
    assert summary["final/return_mean"].value_json == "7.0"
