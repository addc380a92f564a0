"""Comparisons from start to finish, with real runs."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl.cli import main
from deltarl.comparison import Compared, Comparison, compare, load_comparison
from deltarl.comparison.cells import placed_on_a_device, train_cell
from deltarl.comparison.progress import Board
from deltarl.comparison.report import is_of, sources_of
from deltarl.errors import ConfigError
from deltarl.launch.launcher import Outcome
from deltarl.launch.local import Processes
from deltarl.library import load_config
from deltarl.training import RunResult, TrainingStopped
from deltarl.training.progress import Progress
from deltarl.training.signals import StopRequest

SMALL = (
    "seeds=[0,1]",
    "total_timesteps=512",
    "agent.n_steps=64",
    "agent.batch_size=32",
    "agent.n_epochs=2",
    "env.n_envs=2",
    "torso.width=16",
    "torso.depth=1",
    "eval={every: 256, episodes: 2}",
    "checkpoint.every=128",
    "gates={every: 128, rows: 16}",
    "device=cpu",
    "name=small",
)


pytestmark = pytest.mark.usefixtures("imported_once")


def small(out: Path, *overrides: str) -> Comparison:
    comparison = load_comparison("quick", *SMALL, f"out={out}", *overrides)
    assert comparison.cells[0].spec.eval.every == 256
    return comparison


def run(comparison: Comparison, shard: tuple[int, int] = (1, 1)) -> tuple[Compared, str]:
    held = io.StringIO()
    return compare(comparison, Console(file=held, width=200), ["deltarl", "compare"], shard=shard), held.getvalue()


def records(folder: Path) -> dict[str, object]:
    """The records that must not depend on interruptions: scores, weights, evaluations."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("reacher/*/seed-*/result.json")):
        key = str(path.parent.relative_to(folder))
        found[key] = json.loads(path.read_text())["final_return_mean"]
        for name in ("evaluations.csv", "policy.safetensors"):
            found[f"{key}/{name}"] = (path.parent / name).read_bytes()
    return found


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Compared, str]:
    """The small comparison on two machines; on the second one, a file blocks one run."""
    out = tmp_path_factory.mktemp("machines")
    compared, _ = run(small(out / "1"), (1, 2))
    assert (compared.finished, compared.failed) == (2, {})
    stray = out / "2" / "small" / "reacher" / "delta" / "seed-1" / "notes.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    hindered, shown = run(small(out / "2"), (2, 2))
    stray.unlink()
    return out, hindered, shown


@pytest.fixture(scope="module")
def merged(machines: tuple[Path, Compared, str]) -> Path:
    """The same after the second machine has repeated its command and the folders have been copied into one."""
    out, _, _ = machines
    compared, shown = run(small(out / "2"), (2, 2))
    assert (compared.finished, compared.failed) == (2, {})
    assert "1 of 2 runs had already finished" in shown
    for index in (1, 2):
        shutil.copytree(out / str(index) / "small", out / "runs" / "small", dirs_exist_ok=True)
    return out / "runs" / "small"


def test_a_failed_run_is_reported_and_stops_no_other(machines: tuple[Path, Compared, str]) -> None:
    _, compared, shown = machines
    assert compared.finished == 1
    assert list(compared.failed) == ["reacher/delta/seed-1"]
    assert "contains files but no config.yaml" in compared.failed["reacher/delta/seed-1"]
    assert "reacher/delta/seed-1  FAILED: " in shown
    assert compared.report is None


def test_the_shards_of_a_comparison_make_a_whole(merged: Path) -> None:
    """Nothing is trained again; only the costs and the report over all seeds are added."""
    before = records(merged)
    compared, shown = run(small(merged.parent))
    assert (compared.finished, compared.failed) == (4, {})
    assert compared.report == merged / "report" / "report.html"
    assert "4 of 4 runs had already finished" not in shown
    assert records(merged) == before
    costs = json.loads((merged / "costs.json").read_text())["reacher"]
    assert costs["residual"].keys() == costs["delta"].keys()
    assert len(costs["delta"]["seconds_per_1000_steps"]) == 5
    assert "2 seeds an arm" in compared.report.read_text()


def test_nothing_is_written_if_nothing_is_left_to_do(merged: Path) -> None:
    run(small(merged.parent))
    before = {path: path.stat().st_mtime_ns for path in merged.rglob("*") if path.is_file()}
    again, shown = run(small(merged.parent))
    assert again.finished == 4
    assert shown == ""
    assert {path: path.stat().st_mtime_ns for path in merged.rglob("*") if path.is_file()} == before


def test_a_report_from_other_sources_is_rewritten(merged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(small(merged.parent))
    page, known = merged / "report" / "report.html", sources_of(merged)
    page.write_text("old")
    assert is_of(page.parent, known, "residual")
    assert not is_of(page.parent, known, "delta")
    moved = merged / "reacher" / "delta" / "seed-1" / "result.json"
    moved.rename(moved.with_name("aside"))
    assert not is_of(page.parent, sources_of(merged), "residual")
    moved.with_name("aside").rename(moved)
    monkeypatch.setattr("deltarl.comparison.report.version", lambda _: "later")
    run(small(merged.parent))
    assert page.read_text() != "old"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("deltarl.comparison.report.version", lambda _: "later still")
    monkeypatch.setattr(sys.modules[compare.__module__], "analyse", full)
    with pytest.raises(TrainingStopped, match="4 of 4 runs have finished; when there is room"):
        run(small(merged.parent))


@pytest.mark.parametrize(("failed", "status"), [({}, 75), ({"reacher/delta/seed-0": "ended with status -9"}, 1)])
def test_runs_that_did_not_finish_are_named_and_are_no_success(
    failed: dict[str, str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped: Outcome[RunResult] = Outcome("stopped", stopped="no space left")
    failures: dict[str, Outcome[RunResult]] = {name: Outcome("failure", failure=said) for name, said in failed.items()}
    ended = {"reacher/residual/seed-0": stopped, **failures}
    monkeypatch.setattr(Processes, "run", lambda *_, **__: ended)
    compared, _ = run(small(tmp_path))
    assert (compared.finished, compared.report) == (0, None)
    assert compared.stopped == {"reacher/residual/seed-0": "no space left"}
    assert compared.failed == failed
    monkeypatch.setattr(sys, "argv", ["deltarl", "compare", "quick", *SMALL, f"out={tmp_path}"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == status
    assert "reacher/residual/seed-0 has not finished: no space left" in capsys.readouterr().err


def test_a_run_that_another_process_finishes_in_the_meantime_is_used_as_it_is(merged: Path) -> None:
    cell = small(merged.parent).cells[0]
    result = train_cell(cell, ["deltarl"], lambda _: None, StopRequest())
    assert result.folder == cell.folder
    assert result.final_return_mean == json.loads((cell.folder / "result.json").read_text())["final_return_mean"]


def test_a_report_on_fewer_seeds_names_what_it_leaves_out(merged: Path, tmp_path: Path) -> None:
    shutil.copytree(merged, tmp_path / "small")
    compared, _ = run(small(tmp_path, "seeds=[1]"))
    assert compared.report is not None
    text = compared.report.read_text()
    assert "1 seed an arm" in text
    assert "2 finished runs in the folder do not belong to this comparison: reacher/delta/seed-0" in text


def test_tensorboard_ranks_the_arms(merged: Path) -> None:
    compared, _ = run(small(merged.parent))
    for arm in ("residual", "delta"):
        [path] = (merged / "summary" / "reacher" / arm).glob("events.out.tfevents.*")
        events = EventAccumulator(str(path)).Reload()
        assert set(events.Tags()["scalars"]) == {
            "eval/return_mean",
            *(f"comparison/{metric}_{statistic}" for metric in ("final", "area") for statistic in ("mean", "iqm")),
        }
        assert "_hparams_/session_start_info" in events.summary_metadata
    assert compared.report is not None


@pytest.mark.parametrize(
    ("blow", "status"), [(signal.SIGTERM, 75), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_a_comparison_that_was_stopped_comes_to_the_same_end(
    blow: signal.Signals, status: int, merged: Path, tmp_path: Path
) -> None:
    """Finished runs are kept, interrupted ones are resumed, and the results are those without interruption."""
    shutil.copytree(merged, tmp_path / "small")
    begun = tmp_path / "small" / "reacher" / "delta" / "seed-1"
    shutil.rmtree(begun)
    command = ["deltarl", "compare", "quick", *SMALL, f"out={tmp_path}", "--jobs", "1"]
    process = forked.Running(command, tmp_path, group=True)
    while not list((begun / "checkpoints").glob("*/manifest.json")):
        assert not process.has_ended, process.wait()
        time.sleep(0.01)
    os.killpg(process.pid, blow)
    ended = process.wait(100)
    assert ended.returncode == status, ended.stderr
    assert "3 of 4 runs had already finished" in ended.stderr
    finished = list((tmp_path / "small").glob("*/*/*/result.json"))
    assert begun / "result.json" not in finished
    before = {path: path.stat().st_mtime_ns for path in finished}

    compared, shown = run(small(tmp_path))
    assert compared.finished == 4
    assert "3 of 4 runs had already finished" in shown
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert records(tmp_path / "small") == records(merged)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("agent.gamma=0.9", r"agent\.gamma \(0\.99 in the run, 0\.9 given\).*or give the comparison another name="),
        # A run may be resumed with it, but the report refuses to compare runs that differ in it.
        (
            "eval.episodes=3",
            r"has finished with eval\.episodes 2, but it is now 3.*give the comparison another name=",
        ),
    ],
)
def test_runs_of_another_config_are_not_taken_for_ones_own(override: str, message: str, merged: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in merged.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message):
        run(small(merged.parent, override))
    assert {path: path.stat().st_mtime_ns for path in merged.rglob("*") if path.is_file()} == before


def test_what_cannot_be_built_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="env: Reacher-v5 cannot be built from the config"):
        run(small(tmp_path, "env.kwargs={bogus: 1}"))
    assert list(tmp_path.iterdir()) == []


def test_several_gpus_are_used_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    spec = load_config("quickstart")
    assert [placed_on_a_device(spec, number).device for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    for device in ("cpu", "cuda:1"):
        assert placed_on_a_device(load_config("quickstart", f"device={device}"), 0).device == device


def test_a_live_table_shows_how_far_each_arm_has_come(tmp_path: Path) -> None:
    cells = small(tmp_path).cells
    held = io.StringIO()
    with Board(cells, cells[:1], Console(file=held, force_terminal=True, width=120)) as board:
        board.update(cells[1], Progress(256, 10.0))
        board.end(cells[2], Outcome("failure", failure="ValueError: no such key [/obs] in mapping"))
        time.sleep(1)
    text = held.getvalue()
    assert "1/2" in text
    assert "no such key [/obs] in mapping" in text
    assert "reacher/delta/seed-0   50%  256 steps" in text
