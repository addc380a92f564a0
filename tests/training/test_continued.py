"""A resumed run says whether it is exact, or what made it a continued one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn.modules.module import register_module_forward_hook

from deltarl import ConfigError, RunResult, load_config, load_run, plugins, resume, train
from deltarl.checkpoints.checkpoint import newest, steps_of
from deltarl.training.resume import demand_exactness
from tests.training.small import SAC, longer, quiet, rows, spec_of


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


def test_another_module_of_the_user_is_continued_not_exact(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_later.py").write_text("GRAVITY = 1")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "own_later.py"))
    [result] = resume(interrupted, None, quiet())
    assert [reason.partition(":")[0] for reason in result.continued] == ["imported"]
    assert "then {'own_later.py': " in result.continued[0]


def test_exactness_is_demanded_when_resuming(interrupted: Path) -> None:
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"checkpoint\.exact: threads: 1, then 2, or checkpoint\.exact=false"):
        resume(interrupted, lambda config: load_config(str(config), "threads=2", "checkpoint.exact=true"), quiet())
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before
    [result] = resume(interrupted, lambda config: load_config(str(config), "checkpoint.exact=true"), quiet())
    assert result.continued == ()


def test_exactness_is_refused_in_environments_that_cannot_be_stored(tmp_path: Path) -> None:
    class Iterating(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(gym.make("InvertedPendulum-v5"))
            self.source = iter([1.0])

    envs = DummyVecEnv([Iterating])
    demand_exactness(spec_of(tmp_path), envs)
    message = r"^checkpoint\.exact: \S+/source \(builtins\.list_iterator\) of the .*, or checkpoint\.exact=false$"
    with pytest.raises(ConfigError, match=message):
        demand_exactness(spec_of(tmp_path, "checkpoint.exact=true"), envs)


def test_exactness_is_refused_in_envpool(tmp_path: Path) -> None:
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
    assert "; only eval, checkpoint, gates, logging, threads, device and a larger total_timesteps may" in str(
        caught.value
    )
    assert sorted(interrupted.rglob("*")) == before


def test_cadences_may_change(interrupted: Path, whole: RunResult) -> None:
    changed = ("eval.every=16", "eval.episodes=1", "checkpoint.every=16", "checkpoint.keep=1")
    [result] = resume(interrupted, lambda config: load_config(str(config), *changed), quiet())
    assert result.continued == ()
    assert steps_of(interrupted) == [128]
    assert load_run(interrupted).spec.eval.every == 16
    assert (interrupted / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()


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


def test_a_buffer_with_separate_next_observations_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
