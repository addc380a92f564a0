"""Resuming a run: checkpoints, changed configs, records and refusals."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import logging
import os
import pickle
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn.modules.module import register_module_forward_hook

from deltarl import (
    ConfigError,
    RunResult,
    RunSpec,
    TrainingStopped,
    disk,
    evaluate,
    load_config,
    load_run,
    plugins,
    resume,
    train,
)
from deltarl.checkpoints.checkpoint import best, newest, steps_of
from deltarl.recording import make_logger
from deltarl.training.resume import demand_exactness

SETTINGS = (
    "torso.width=8",
    "torso.depth=1",
    "agent.n_steps=16",
    "agent.batch_size=32",
    "env.n_envs=2",
    "total_timesteps=128",
    "checkpoint.every=32",
    "eval.every=48",
    "eval.episodes=2",
    "device=cpu",
    "name=run",
)
SAC = (
    "agent=sac",
    *(setting for setting in SETTINGS if "n_steps" not in setting),
    "agent.learning_starts=16",
    "agent.buffer_size=500",
)


def spec_of(out: Path, *more: str, base: tuple[str, ...] = SETTINGS) -> RunSpec:
    return load_config("quickstart", *base, f"out={out}", *more)


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(spec_of(tmp_path_factory.mktemp("whole"), "checkpoint.keep=9"), quiet())[0]


@pytest.fixture
def interrupted(whole: RunResult, tmp_path: Path) -> Path:
    """A run that was killed some time after its checkpoint of step 96."""
    folder = tmp_path / "run" / "seed-0"
    shutil.copytree(whole.folder, folder)
    for name in ("result.json", "policy.safetensors", "model.zip", "normalizer.npz", "vecnormalize.pkl"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints" / "128")
    return folder


def rows(folder: Path, name: str = "metrics.jsonl") -> list[Any]:
    lines = (folder / name).read_text().splitlines()
    return [json.loads(line) for line in lines] if name.endswith("jsonl") else lines


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


def test_seconds_of_training_add_up(interrupted: Path, whole: RunResult) -> None:
    found = newest(interrupted)
    assert found is not None
    [result] = resume(interrupted, console=quiet())
    assert result.wall_seconds > found.manifest["elapsed_seconds"] > 0
    seconds = [row["wall_seconds"] for row in rows(interrupted)]
    assert seconds == sorted(seconds)
    assert whole.wall_seconds > 0


def test_a_damaged_checkpoint_is_passed_over_and_said(interrupted: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(interrupted / "checkpoints" / "96" / "state.safetensors", 100)
    [result] = resume(interrupted, console=quiet())
    assert re.search(r"96: skipped, it is damaged: state\.safetensors: expected \d+ bytes, got 100", caplog.text)
    assert rows(interrupted, "resumes.jsonl")[0]["from_step"] == 64
    assert result.status == "finished"
    steps = [row["step"] for row in rows(interrupted) if "time/fps" in row]
    assert steps == [32, 64, 96, 128]
    assert steps_of(interrupted) == [128, 96, 64, 32]


def test_it_does_not_begin_anew_where_no_checkpoint_is_sound(interrupted: Path) -> None:
    for folder in (interrupted / "checkpoints").iterdir():
        (folder / "manifest.json").write_text("")
    before = rows(interrupted)
    with pytest.raises(ConfigError, match=r"none of its checkpoints \(steps 96, 64, 32\) is valid"):
        resume(interrupted, console=quiet())
    assert rows(interrupted) == before


def test_without_a_checkpoint_it_begins_anew(
    interrupted: Path, whole: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(interrupted / "checkpoints")
    [result] = resume(interrupted, console=quiet())
    assert "no checkpoint yet; starting again" in caplog.text
    assert (result.resumes, result.final_return_mean) == (0, whole.final_return_mean)
    assert rows(interrupted, "evaluations.csv") == rows(whole.folder, "evaluations.csv")


def test_what_a_kill_left_half_written_is_swept(interrupted: Path) -> None:
    leftover = interrupted / "checkpoints" / ".writing-128"
    shutil.copytree(interrupted / "checkpoints" / "96", leftover)
    resume(interrupted, console=quiet())
    assert not leftover.exists()


def test_a_finished_run_is_left_alone(whole: RunResult) -> None:
    with pytest.raises(
        ConfigError, match="already finished at 128 steps; to train longer, give a larger total_timesteps"
    ):
        resume(whole.folder, console=quiet())


def longer(total: int) -> Any:
    return lambda config: load_config(str(config), f"total_timesteps={total}")


def test_a_finished_run_can_be_trained_longer_exactly_where_nothing_follows_a_schedule(
    whole: RunResult, tmp_path: Path
) -> None:
    folder = tmp_path / "seed-0"
    shutil.copytree(whole.folder, folder)
    [result] = resume(folder, longer(192), quiet())
    [direct] = train(spec_of(tmp_path / "direct", "total_timesteps=192"), quiet())
    assert (result.steps, result.resumes, result.continued) == (192, 1, ())
    assert (folder / "policy.safetensors").read_bytes() == (direct.folder / "policy.safetensors").read_bytes()
    assert load_run(folder).spec.total_timesteps == 192
    # The evaluation at the end of the shorter run is kept.
    evaluated = {line.split(",")[0] for line in rows(folder, "evaluations.csv")[1:]}
    assert evaluated == {"48", "96", "128", "144", "192"}


def test_under_a_schedule_a_longer_run_is_continued_not_exact(tmp_path: Path) -> None:
    [first] = train(spec_of(tmp_path, "agent.learning_rate={schedule: linear, start: 1.0e-3}"), quiet())
    [result] = resume(first.folder, longer(192), quiet())
    assert result.continued == ("total_timesteps: 128, then 192, and learning_rate follows a schedule over it",)
    assert json.loads((first.folder / "result.json").read_text())["continued"] == list(result.continued)
    # And a run that was once continued remains so.
    [again] = resume(first.folder, longer(256), quiet())
    assert len(again.continued) == 2


def test_another_number_of_threads_is_continued_not_exact(interrupted: Path) -> None:
    [result] = resume(interrupted, lambda config: load_config(str(config), "threads=2"), quiet())
    assert result.continued == ("threads: 1, then 2",)


def test_another_module_of_the_users_own_is_continued_not_exact(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_later.py").write_text("GRAVITY = 1")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "own_later.py"))
    [result] = resume(interrupted, None, quiet())
    assert [reason.partition(":")[0] for reason in result.continued] == ["imported"]
    assert "then {'own_later.py': " in result.continued[0]


def test_what_is_to_be_exact_does_not_go_on_otherwise(interrupted: Path) -> None:
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"checkpoint\.exact: threads: 1, then 2, or checkpoint\.exact=false"):
        resume(interrupted, lambda config: load_config(str(config), "threads=2", "checkpoint.exact=true"), quiet())
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before
    [result] = resume(interrupted, lambda config: load_config(str(config), "checkpoint.exact=true"), quiet())
    assert result.continued == ()


def test_what_is_to_be_exact_does_not_begin_in_environments_that_cannot_be_stored(tmp_path: Path) -> None:
    class Iterating(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(gym.make("InvertedPendulum-v5"))
            self.source = iter([1.0])

    envs = DummyVecEnv([Iterating])
    demand_exactness(spec_of(tmp_path), envs)
    message = r"^checkpoint\.exact: \S+/source \(builtins\.list_iterator\) of the .*, or checkpoint\.exact=false$"
    with pytest.raises(ConfigError, match=message):
        demand_exactness(spec_of(tmp_path, "checkpoint.exact=true"), envs)


def test_what_is_to_be_exact_does_not_begin_in_envpool(tmp_path: Path) -> None:
    pytest.importorskip("envpool")
    with pytest.raises(
        ConfigError, match=r"^checkpoint\.exact: the state of EnvPool's environments cannot be stored; give"
    ):
        train(spec_of(tmp_path, "checkpoint.exact=true", "env.vectorization=envpool"), quiet())
    assert not list(tmp_path.iterdir())


def test_another_version_is_continued_not_exact(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltarl.training.provenance.version", lambda name: "9.9" if name == "torch" else "same")
    [result] = resume(interrupted, console=quiet())
    assert f"torch: {torch.__version__}, then 9.9" in result.continued


def test_another_training_step_is_continued_not_exact(interrupted: Path) -> None:
    hook = register_module_forward_hook(lambda *_: None)  # lean steps would not call it
    try:
        with pytest.raises(ConfigError, match=r"checkpoint\.exact: training step: deltarl, then sb3 \(.*hooks"):
            resume(interrupted, lambda config: load_config(str(config), "checkpoint.exact=true"), quiet())
        [result] = resume(interrupted, console=quiet())
    finally:
        hook.remove()
    [reason] = result.continued
    assert reason.startswith("training step: deltarl, then sb3 (the policy has methods, hooks")
    [resumed] = [json.loads(line) for line in (interrupted / "resumes.jsonl").read_text().splitlines()]
    found = newest(interrupted)
    assert found is not None
    assert found.manifest["training_step"] == resumed["training_step"]
    assert resumed["training_step"]["implementation"] == "sb3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("agent.gamma=0.5",), "agent.gamma (0.99 in the run, 0.5 given)"),
        (("env.n_envs=4",), "env.n_envs (2 in the run, 4 given)"),
        (("agent=a2c", "agent.n_steps=16"), "agent.algorithm (ppo in the run, a2c given), "),
        (("total_timesteps=64",), "total_timesteps (128 in the run, 64 given; it can only grow)"),
    ],
)
def test_another_config_is_refused_by_the_keys_that_differ(
    changes: tuple[str, ...], message: str, interrupted: Path
) -> None:
    before = sorted(interrupted.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        resume(interrupted, lambda config: load_config(str(config), *changes), quiet())
    assert f"these keys differ: {message}" in str(caught.value)
    assert "; only eval, checkpoint, gates, threads, device and a larger total_timesteps may" in str(caught.value)
    assert sorted(interrupted.rglob("*")) == before


def test_cadences_may_change(interrupted: Path, whole: RunResult) -> None:
    changed = ("eval.every=16", "eval.episodes=1", "checkpoint.every=16", "checkpoint.keep=1")
    [result] = resume(interrupted, lambda config: load_config(str(config), *changed), quiet())
    assert result.continued == ()
    assert steps_of(interrupted) == [128]
    assert load_run(interrupted).spec.eval.every == 16
    assert (interrupted / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()


def test_the_same_call_is_right_the_first_time_and_after_every_interruption(
    interrupted: Path, whole: RunResult, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, "checkpoint.keep=9").model_copy(update={"seeds": (0, 1)})
    first = train(spec, quiet(), jobs=1, resume=True)
    assert [(result.seed, result.resumes) for result in first] == [(0, 1), (1, 0)]
    assert first[0].final_return_mean == whole.final_return_mean
    assert train(spec, quiet(), resume=True) == first
    assert interrupted.exists()


def test_the_same_call_with_another_config_is_refused(interrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"these keys differ: agent.gamma \(0.99 in the run, 0.5 given\)"):
        train(spec_of(tmp_path, "agent.gamma=0.5"), quiet(), resume=True)
    assert interrupted.exists()


def test_a_buffer_that_was_kept_in_double_precision_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of older versions have such buffers."""
    plain = ("env.normalize={observations: false, rewards: false}", "eval.every=null")
    with monkeypatch.context() as before:
        before.setattr("deltarl.fast.off_policy.algorithm.store_in_single_precision", lambda _: None)
        [first] = train(spec_of(tmp_path, *plain, base=SAC), quiet())
        [whole] = train(spec_of(tmp_path, *plain, "total_timesteps=192", "name=whole", base=SAC), quiet())
    [result] = resume(first.folder, longer(192), quiet())
    assert result.continued == ()
    stored = json.loads((result.folder / "checkpoints" / "192" / "manifest.json").read_text())["replay"]["arrays"]
    assert stored["observations"][0] == stored["next_observations"][0] == "float64"
    assert (result.folder / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()


def test_a_buffer_that_kept_next_observations_of_their_own_does_so_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of older versions have such buffers, in single precision."""
    plain = ("env.normalize={observations: false, rewards: false}", "eval.every=null")
    with monkeypatch.context() as before:
        before.setattr("deltarl.fast.off_policy.algorithm.shared", lambda buffer: buffer)
        [first] = train(spec_of(tmp_path, *plain, base=SAC), quiet())
        [whole] = train(spec_of(tmp_path, *plain, "total_timesteps=192", "name=whole", base=SAC), quiet())
    [result] = resume(first.folder, longer(192), quiet())
    assert result.continued == ()
    one, other = (
        json.loads((each.folder / "checkpoints" / "192" / "manifest.json").read_text()) for each in (result, whole)
    )
    assert one["replay"] == other["replay"]
    assert one["replay"]["arrays"]["next_observations"][0] == "float32"
    replay = [name for name in one["files"] if name.startswith("replay/")]
    assert replay
    assert [one["files"][name] for name in replay] == [other["files"][name] for name in replay]
    assert (result.folder / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()


def test_all_seeds_of_a_folder_go_on(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "seeds=[0,1]")
    results = train(spec, quiet(), jobs=1)
    (results[1].folder / "result.json").unlink()
    again = resume(tmp_path / "run", console=quiet())
    assert [(result.seed, result.final_return_mean) for result in again] == [(1, results[1].final_return_mean)]


def test_where_there_is_no_run_it_says_so(tmp_path: Path) -> None:
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


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "free", lambda _: 0)
    [result] = train(spec_of(tmp_path), quiet())
    assert result.status == "finished"
    assert "no checkpoint of step 32, 1 MiB needed, 0 MiB free; nothing is stored yet" in caplog.text
    assert steps_of(result.folder) == []


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


class Payload:
    """Leaves a folder behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("opened",)


@pytest.mark.parametrize(
    ("settings", "where"), [((*SETTINGS, "checkpoint.keep=1"), ""), (SAC, "/replay/")], ids=["ppo", "sac"]
)
def test_a_pickle_in_the_place_of_any_file_is_never_opened(
    settings: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload = pickle.dumps(Payload())
    pickle.loads(payload)
    Path("opened").rmdir()  # it does work
    [result] = train(spec_of(tmp_path, "eval.max_episode_steps=5", base=settings), quiet())
    files = [path.relative_to(result.folder) for path in result.folder.rglob("*") if path.is_file()]
    files += [Path("policy.pkl"), Path("checkpoints/128/state.pt"), Path("checkpoints/128/replay/0.npy")]
    chosen = [name for name in files if where in f"/{name}"]
    assert len(chosen) > 3
    for name in chosen:
        folder = tmp_path / "planted"
        shutil.copytree(result.folder, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(payload)
        with suppress(ConfigError):
            evaluate(folder, episodes=1)
        with suppress(ConfigError):
            evaluate(load_run(folder, best=True), episodes=1)
        (folder / "result.json").unlink()
        with suppress(ConfigError):
            resume(folder, longer(160), quiet())
        shutil.rmtree(folder)
        assert not Path("opened").exists(), name


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


def test_files_that_others_leave_among_the_checkpoints_are_let_be(
    interrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".DS_Store", ".nfs0001", "notes.txt"):
        (interrupted / "checkpoints" / name).write_text("mine")
    resume(interrupted, console=quiet())
    assert [record.msg for record in caplog.records if record.name.startswith("deltarl.training")] == []
    assert (interrupted / "checkpoints" / ".nfs0001").exists()
    assert steps_of(interrupted)[0] == 128


def test_a_run_that_another_process_has_finished_meanwhile_is_not_touched(interrupted: Path, whole: RunResult) -> None:
    def finished_now(config: Path) -> RunSpec:
        shutil.copy(whole.folder / "result.json", interrupted / "result.json")
        return load_config(str(config))

    with pytest.raises(ConfigError, match="already finished at 128 steps"):
        resume(interrupted, finished_now, quiet())


def test_a_seed_that_cannot_go_on_takes_no_other_with_it(tmp_path: Path) -> None:
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


def test_a_run_of_a_longer_name_is_found_again(interrupted: Path, tmp_path: Path) -> None:
    # Another config had the name, so this run's folder includes its digest; its total was increased later.
    train(spec_of(tmp_path, "agent.gamma=0.5"), quiet())
    [again] = train(spec_of(tmp_path, "agent.gamma=0.5", "total_timesteps=160"), quiet(), resume=True)
    assert again.folder.parent.name.startswith("run-")
    assert (again.resumes, again.steps) == (1, 160)
    assert interrupted.exists()


def test_a_run_whose_name_an_older_version_made_of_its_overrides_is_found_again(
    interrupted: Path, tmp_path: Path
) -> None:
    interrupted.parent.rename(tmp_path / "run+agent.n_steps=16-0123abcd")
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run+agent.n_steps=16-0123abcd", 1)


@pytest.mark.parametrize("name", ["run-other", "run+other"])
def test_a_run_of_the_same_config_under_a_name_of_its_own_is_left_alone(
    name: str, interrupted: Path, tmp_path: Path
) -> None:
    interrupted.parent.rename(tmp_path / name)
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run", 0)


def test_a_run_of_another_name_that_begins_the_same_is_no_hindrance(interrupted: Path, tmp_path: Path) -> None:
    interrupted.parent.rename(tmp_path / "run-other")
    [result] = train(spec_of(tmp_path, "agent.gamma=0.5"), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run", 0)


def test_a_disk_that_is_full_stops_the_run_where_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: RunResult
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("deltarl.training.session.record_evaluation", full)
        with pytest.raises(TrainingStopped, match=r"no space left on the disk: stopped, .* deltarl resume .*seed-0"):
            train(spec_of(tmp_path), quiet())
    [result] = resume(tmp_path / "run" / "seed-0", console=quiet())
    assert (result.resumes, result.continued) == (1, ())
    assert result.final_return_mean == whole.final_return_mean


@pytest.mark.parametrize("free", [0, 2**40])
def test_any_librarys_full_disk_is_a_warning_or_stops_the_run(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "free", lambda _: free)
        patch.setattr("deltarl.training.formats.save_model", full)
        ends = (TrainingStopped, r"stored at step 128") if free else (disk.FullDiskError, r"nothing is stored")
        with pytest.raises(ends[0], match=ends[1]):
            train(spec_of(tmp_path), quiet())
    assert "the best policy, of step 48, could not be stored" in caplog.text
    assert bool(steps_of(tmp_path / "run" / "seed-0")) == bool(free)
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert result.continued == ()


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
