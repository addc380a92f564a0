"""Resuming a run from its checkpoints, and refusals."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from deltarl import ConfigError, RunResult, RunSpec, evaluate, load_config, load_run, resume, train
from deltarl.checkpoints.checkpoint import best, newest, steps_of
from deltarl.recording import make_logger
from tests.training.small import longer, quiet, rows, spec_of


def test_it_continues_from_the_newest_checkpoint(interrupted: Path, whole: RunResult) -> None:
    [result] = resume(interrupted, console=quiet())
    # Differs between processes and over time.
    own = {name: getattr(whole, name) for name in ("folder", "wall_seconds", "peak_memory_mib")}
    assert dataclasses.replace(result, **own, resumes=0) == whole
    assert (result.resumes, result.continued) == (1, ())
    [line] = rows(interrupted, "resumes.jsonl")
    assert (line["from_step"], line["continued"]) == (96, [])
    assert line["packages"]["torch"] == torch.__version__
    written = json.loads((interrupted / "result.json").read_text())
    assert (written["resumes"], written["continued"]) == (1, [])


def test_training_time_adds_up(interrupted: Path, whole: RunResult) -> None:
    found = newest(interrupted)
    assert found is not None
    [result] = resume(interrupted, console=quiet())
    assert result.wall_seconds > found.manifest["elapsed_seconds"] > 0
    seconds = [row["wall_seconds"] for row in rows(interrupted)]
    assert seconds == sorted(seconds)
    assert whole.wall_seconds > 0


def test_a_damaged_checkpoint_is_skipped_with_a_warning(interrupted: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(interrupted / "checkpoints" / "96" / "state.safetensors", 100)
    [result] = resume(interrupted, console=quiet())
    assert re.search(r"96: skipped, it is damaged: state\.safetensors: expected \d+ bytes, got 100", caplog.text)
    assert rows(interrupted, "resumes.jsonl")[0]["from_step"] == 64
    assert result.status == "finished"
    steps = [row["step"] for row in rows(interrupted) if "time/fps" in row]
    assert steps == [32, 64, 96, 128]
    assert steps_of(interrupted) == [128, 96, 64, 32]


def test_it_does_not_start_over_if_no_checkpoint_is_valid(interrupted: Path) -> None:
    for folder in (interrupted / "checkpoints").iterdir():
        (folder / "manifest.json").write_text("")
    before = rows(interrupted)
    with pytest.raises(ConfigError, match=r"none of its checkpoints \(steps 96, 64, 32\) is valid"):
        resume(interrupted, console=quiet())
    assert rows(interrupted) == before


def test_without_a_checkpoint_it_starts_over(
    interrupted: Path, whole: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(interrupted / "checkpoints")
    [result] = resume(interrupted, console=quiet())
    assert "no checkpoint yet; starting again" in caplog.text
    assert (result.resumes, result.final_return_mean) == (0, whole.final_return_mean)
    assert rows(interrupted, "evaluations.csv") == rows(whole.folder, "evaluations.csv")


def test_half_written_checkpoints_are_removed(interrupted: Path) -> None:
    leftover = interrupted / "checkpoints" / ".writing-128"
    shutil.copytree(interrupted / "checkpoints" / "96", leftover)
    resume(interrupted, console=quiet())
    assert not leftover.exists()


def test_a_finished_run_is_not_resumed(whole: RunResult) -> None:
    with pytest.raises(
        ConfigError, match="already finished at 128 steps; to train longer, give a larger total_timesteps"
    ):
        resume(whole.folder, console=quiet())


def test_all_seeds_of_a_folder_are_resumed(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "seeds=[0,1]")
    results = train(spec, quiet(), jobs=1)
    (results[1].folder / "result.json").unlink()
    again = resume(tmp_path / "run", console=quiet())
    assert [(result.seed, result.final_return_mean) for result in again] == [(1, results[1].final_return_mean)]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such folder"):
        resume(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"contains no run"):
        resume(tmp_path)


def test_a_moved_run_continues_where_it_is(interrupted: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    interrupted.rename(elsewhere)
    [result] = resume(elsewhere, console=quiet())
    assert result.folder == elsewhere
    assert (elsewhere / "result.json").exists()


def test_checkpoints_change_nothing_of_what_is_learned(whole: RunResult, tmp_path: Path) -> None:
    [without] = train(spec_of(tmp_path, "checkpoint.every=null"), quiet())
    assert steps_of(without.folder) == [128]
    assert (without.folder / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()


def test_the_best_policy_is_kept_and_can_be_evaluated_before_the_end(interrupted: Path) -> None:
    found = best(interrupted)
    assert found is not None
    scores: dict[int, list[float]] = {}
    for line in rows(interrupted, "evaluations.csv")[1:]:
        step, _, score, *_ = line.split(",")
        scores.setdefault(int(step), []).append(float(score))
    means = {step: sum(each) / len(each) for step, each in scores.items()}
    assert found.steps == max(means, key=lambda step: means[step])
    run = load_run(interrupted, best=True)
    assert evaluate(run).return_mean == pytest.approx(means[found.steps])
    with pytest.raises(ConfigError, match=r"not a finished run, result.json is missing; resume it with: deltarl res"):
        load_run(interrupted)


def test_without_an_evaluation_there_is_no_best(interrupted: Path) -> None:
    shutil.rmtree(next((interrupted / "checkpoints").glob("best-*")))
    with pytest.raises(ConfigError, match="no best policy yet"):
        load_run(interrupted, best=True)


def test_a_checkpoint_that_does_not_fit_the_config_is_refused(interrupted: Path) -> None:
    config = interrupted / "config.yaml"
    config.write_text(config.read_text().replace("width: 8", "width: 16"))
    with pytest.raises(ConfigError, match=r"96: does not fit the config as .*: /model/policy/.*got \(8,"):
        resume(interrupted, console=quiet())


def test_a_finished_run_that_cannot_be_trained_longer_stays_finished(whole: RunResult, tmp_path: Path) -> None:
    folder = tmp_path / "seed-0"
    shutil.copytree(whole.folder, folder)
    # The config was edited by hand, so no checkpoint fits it any more.
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("width: 8", "width: 16"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="does not fit the config"):
        resume(folder, longer(192), quiet())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_damaged_record_is_set_aside_and_the_run_continues(
    interrupted: Path, whole: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    path = interrupted / "metrics.jsonl"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    [result] = resume(interrupted, console=quiet())
    assert "kept as metrics.jsonl.damaged" in caplog.text
    assert result.final_return_mean == whole.final_return_mean
    assert [row["step"] for row in rows(interrupted)] == [128, 128]


def test_foreign_files_among_the_checkpoints_are_left_alone(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".DS_Store", ".nfs0001", "notes.txt"):
        (interrupted / "checkpoints" / name).write_text("mine")
    resume(interrupted, console=quiet())
    assert [record.msg for record in caplog.records if record.name.startswith("deltarl.training")] == []
    assert (interrupted / "checkpoints" / ".nfs0001").exists()
    assert steps_of(interrupted)[0] == 128


def test_a_run_that_another_process_finishes_in_the_meantime_is_not_touched(
    interrupted: Path, whole: RunResult
) -> None:
    def finished_now(config: Path) -> RunSpec:
        shutil.copy(whole.folder / "result.json", interrupted / "result.json")
        return load_config(str(config))

    with pytest.raises(ConfigError, match="already finished at 128 steps"):
        resume(interrupted, finished_now, quiet())


def test_a_seed_that_cannot_be_resumed_stops_no_other(tmp_path: Path) -> None:
    results = train(spec_of(tmp_path, "seeds=[0,1]"), quiet(), jobs=1)
    for result in results:
        (result.folder / "result.json").unlink()
    for manifest in results[0].folder.glob("checkpoints/*/manifest.json"):
        manifest.write_text("[]")
    with pytest.raises(ConfigError, match="seed-0: none of its checkpoints"):
        resume(tmp_path / "run", console=quiet(), jobs=1)
    assert (results[1].folder / "result.json").exists()


def test_two_folders_of_the_same_seed_are_refused(interrupted: Path) -> None:
    shutil.copytree(interrupted, interrupted.with_name("seed-1"))
    with pytest.raises(ConfigError, match="contains two runs of the same seed"):
        resume(interrupted.parent, console=quiet())


def test_warnings_are_the_librarys_own(caplog: pytest.LogCaptureFixture, interrupted: Path) -> None:
    shutil.rmtree(interrupted / "checkpoints")
    resume(interrupted, console=quiet())
    assert {(record.name.split(".")[0], record.levelno) for record in caplog.records} == {("deltarl", logging.WARNING)}


def test_event_files_sort_in_the_order_of_their_making(interrupted: Path, caplog: pytest.LogCaptureFixture) -> None:
    [events] = interrupted.glob("events.out.tfevents.*")
    now = int(time.time())
    for stamp, said in ((now, 0), (now + 1000, 1)):
        prefix, _, rest = re.split(r"\.(\d{10})\.", events.name)
        events = events.rename(events.with_name(f"{prefix}.{stamp}.{rest}"))
        make_logger(interrupted).close()
        [made] = [path for path in interrupted.glob("events.out.tfevents.*") if path != events]
        assert (made.name > events.name) == (not said)
        assert len([message for message in caplog.messages if "from the future" in message]) == said
        made.unlink()


def test_a_kill_while_a_finished_run_is_extended_leaves_one_that_continues(
    whole: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed-0"
    shutil.copytree(whole.folder, folder)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("write_config", "note_resumption"):
        with monkeypatch.context() as patch:
            patch.setattr(f"deltarl.training.folder.{step}", killed)
            with pytest.raises(KeyboardInterrupt):
                resume(folder, longer(160), quiet())
        assert not (folder / "result.json").exists()
    [result] = resume(folder, longer(160), quiet())
    assert (result.steps, result.status) == (160, "finished")
