"""Weights & Biases, as its own files tell it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from matplotlib.figure import Figure
from PIL import Image

from deltarl.recording import About, make_logger, png_of
from deltarl.recording.mark import Mark
from deltarl.recording.sinks import logged
from deltarl.recording.spec import WandbSpec
from deltarl.recording.tracker import Ending
from deltarl.recording.wandb_files import newest_step
from tests.trackers import offline
from tests.wandb_runs import finished, history_in


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


@pytest.mark.parametrize("held", ["", "abcd1234"])
def test_without_a_server_a_run_is_recorded_offline(
    held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {
        "MODE": "online",
        "API_KEY": "0" * 40,
        "BASE_URL": "http://127.0.0.1:9",  # nobody listens there
        "INIT_TIMEOUT": "0.5",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # it has read its variables
    folder = tmp_path / "hop" / "seed-3"
    folder.mkdir(parents=True)
    if held:
        Mark("/deltarl", held, step=10, rows=1).write(folder / "wandb.json")
    offline_run = write(folder, WandbSpec(), range(10, 40, 10))
    assert [row["_step"] for row in history_in(offline_run)] == ([20, 30] if held else [10, 20, 30])
    [run] = records(offline_run, "run")
    mark = json.loads((folder / "wandb.json").read_text())
    assert mark["id"] == (held or run.run_id)
    upload = f"upload it with: wandb sync {f'--id {held} ' if held else ''}{offline_run}"
    assert upload in caplog.text
    wandb.teardown()


def test_a_killed_process_has_less_than_it_was_given(tmp_path: Path) -> None:
    folder = tmp_path / "hop" / "seed-3"
    folder.mkdir(parents=True)
    first = write(folder, WandbSpec(), range(10, 50, 10))
    run_id = records(first, "run")[0].run_id
    [path] = first.glob("*.wandb")
    assert newest_step(first.parent, run_id) == 40
    whole = path.read_bytes()
    at = whole.index(b'"train/loss"') if b'"train/loss"' in whole else whole.index(b"train/loss")
    path.write_bytes(whole[: at + 20])  # in its first row
    assert newest_step(first.parent, run_id) == -1
    assert newest_step(first.parent, "another") is None
    Mark("/deltarl", run_id, step=40, rows=1).write(folder / "wandb.json")
    second = write(folder, WandbSpec(), range(10, 60, 10))
    assert [row["_step"] for row in history_in(second)] == [10, 20, 30, 40, 50]
