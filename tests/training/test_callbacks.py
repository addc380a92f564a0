"""The user's own callbacks in `train` and `resume`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback, EveryNTimesteps
from stable_baselines3.common.logger import KVWriter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl import ConfigError, RunResult, RunSpec, load_config, resume, train
from deltarl.checkpoints.checkpoint import steps_of
from deltarl.training.callbacks import Callbacks
from deltarl.training.result import result_in

COMMON = ("torso.width=8", "torso.depth=1", "eval.episodes=1", "device=cpu", "name=run", "gates.every=null")
PPO = (*COMMON, "agent.n_steps=16", "agent.batch_size=32", "env.n_envs=2", "total_timesteps=128", "checkpoint.every=32")
SAC = ("agent=sac", *COMMON, "agent.learning_starts=8", "agent.batch_size=8", "agent.buffer_size=100", "env.n_envs=1")
SAC = (*SAC, "total_timesteps=64", "checkpoint.every=16")


class Writer(KVWriter):
    """A user-defined output."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        del key_excluded
        self.rows.append({"step": step, **key_values})

    def close(self) -> None:
        self.rows.append({"closed": True})


class Recording(BaseCallback):
    """Logs a metric; has a state and its own random generator."""

    def __init__(self, writer: Writer | None = None) -> None:
        super().__init__()
        self.writer = writer
        self.generator = np.random.default_rng(0)
        self.drawn: list[float] = []

    def _on_training_start(self) -> None:
        if self.writer is not None:
            self.logger.output_formats.append(self.writer)

    def _on_step(self) -> bool:
        self.drawn.append(self.generator.random())
        self.logger.record("mine/calls", self.n_calls)
        return True


class Stopping(BaseCallback):
    """Ends a run at a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return self.num_timesteps < self.at


class Locked(Recording):
    """Has state that cannot be stored."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def spec_of(out: Path, *more: str, base: tuple[str, ...] = PPO) -> RunSpec:
    return load_config("quickstart", *base, f"out={out}", *more)


def run(spec: RunSpec, callbacks: Callbacks, **options: Any) -> list[RunResult]:
    return train(spec, Console(file=io.StringIO()), callbacks=callbacks, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Recording, list[int]]:
    """A run with a callback object and a function as callbacks."""
    callback, steps = Recording(Writer()), []

    def watch(held: dict[str, Any], _: dict[str, Any]) -> bool:
        steps.append(held["self"].num_timesteps)
        return True

    [result] = run(spec_of(tmp_path_factory.mktemp("whole"), "checkpoint.keep=9"), [callback, watch])
    return result, callback, steps


def test_metrics_reach_every_sink(whole: tuple[RunResult, Recording, list[int]]) -> None:
    result, callback, steps = whole
    assert (result.status, result.notes) == ("finished", ())
    assert steps == list(range(2, 129, 2))
    logged = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["mine/calls"] for row in logged if "mine/calls" in row] == [16, 32, 48, 64]
    table = list(csv.DictReader((result.folder / "progress.csv").read_text().splitlines()))
    assert [row["mine/calls"] for row in table if row["mine/calls"]] == ["16", "32", "48", "64"]
    events = EventAccumulator(str(result.folder))
    events.Reload()
    assert [each.value for each in events.Scalars("mine/calls")] == [16, 32, 48, 64]
    assert callback.writer is not None
    # An output added by a callback receives the evaluations, too, and is closed.
    *_, evaluated = [row for row in callback.writer.rows if "eval/return_mean" in row]
    assert (evaluated["step"], evaluated["eval/return_mean"]) == (128, result.final_return_mean)
    assert callback.writer.rows[-1] == {"closed": True}


def test_they_are_named_in_the_provenance(whole: tuple[RunResult, Recording, list[int]]) -> None:
    named = json.loads((whole[0].folder / "provenance.json").read_text())["callbacks"]
    assert named == [f"{__name__}.Recording", f"{__name__}.whole.<locals>.watch"]


@pytest.mark.parametrize(("base", "kept"), [(PPO, [32]), (SAC, [32, 16])], ids=["ppo", "sac"])
def test_one_that_returns_false_ends_the_run(base: tuple[str, ...], kept: list[int], tmp_path: Path) -> None:
    """It ends in the middle of a rollout, where no checkpoint is written."""
    spec = spec_of(tmp_path, base=base)
    [result] = run(spec, [Recording(), Stopping(40)])
    assert (result.status, result.steps, result.episodes) == ("stopped", 40, 1)
    total = spec.total_timesteps
    assert result.notes == (f"stopped by the callback {__name__}.Stopping at step 40 of {total}",)
    assert result_in(result.folder) == result
    assert steps_of(result.folder) == kept
    assert run(spec, None, resume=True) == [result]
    with pytest.raises(ConfigError, match="run: stopped by a callback at 40 steps; to train longer"):
        resume(result.folder.parent)
    [longer] = resume(
        result.folder, lambda path: load_config(str(path), f"total_timesteps={total + 32}"), Console(file=io.StringIO())
    )
    assert (longer.status, longer.steps) == ("finished", total + 32)


def test_a_function_that_returns_nothing_ends_the_run_and_is_named(tmp_path: Path) -> None:
    [result] = run(spec_of(tmp_path), lambda *_: None)
    assert (result.status, result.steps) == ("stopped", 2)
    assert "<lambda> (it returned None; give True to continue) at step 2 of 128" in result.notes[0]


def interrupted(whole: tuple[RunResult, Recording, list[int]], folder: Path) -> Path:
    """A run that was killed some time after its checkpoint of step 96."""
    shutil.copytree(whole[0].folder, folder := folder / "run" / "seed-0")
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "128")
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Recording, list[int]]:
    callback = Recording()
    [result] = run(spec_of(tmp_path_factory.mktemp("alone"), "checkpoint.keep=9"), EveryNTimesteps(6, callback))
    return result, callback, []


def test_their_state_is_restored_exactly(alone: tuple[RunResult, Recording, list[int]], tmp_path: Path) -> None:
    folder, again = interrupted(alone, tmp_path), Recording()
    changed = load_config(str(folder / "config.yaml"), "checkpoint.exact=true")
    [result] = resume(folder, lambda _: changed, Console(file=io.StringIO()), callbacks=EveryNTimesteps(6, again))
    assert result.continued == ()
    assert again.drawn == alone[1].drawn
    assert result.final_return_mean == alone[0].final_return_mean
    assert (folder / "policy.safetensors").read_bytes() == (alone[0].folder / "policy.safetensors").read_bytes()


@pytest.mark.parametrize(("given", "name"), [(None, "none"), (Stopping(10_000), f"{__name__}.Stopping")])
def test_without_the_same_ones_a_run_is_continued_not_exact(
    given: BaseCallback | None, name: str, alone: tuple[RunResult, Recording, list[int]], tmp_path: Path
) -> None:
    folder = interrupted(alone, tmp_path)
    reason = f"callbacks: stable_baselines3.common.callbacks.EveryNTimesteps, then {name}"
    with pytest.raises(ConfigError, match=rf"checkpoint\.exact: {reason}"):
        resume(folder, lambda path: load_config(str(path), "checkpoint.exact=true"), callbacks=given)
    [result] = resume(folder, console=Console(file=io.StringIO()), callbacks=given)
    assert result.continued[0] == reason
    assert json.loads((folder / "resumes.jsonl").read_text())["callbacks"] == ([] if given is None else [name])


def test_one_that_cannot_be_stored_is_refused_only_where_exactness_is_required(tmp_path: Path) -> None:
    message = (
        rf"^checkpoint\.exact: callbacks: {__name__}\.Locked/lock \(_thread\.lock\) cannot be stored, or "
        r"checkpoint\.exact=false$"
    )
    with pytest.raises(ConfigError, match=message):
        run(spec_of(tmp_path, "checkpoint.exact=true"), Locked())
    assert not (tmp_path / "run").exists()
    [result] = run(spec_of(tmp_path), Locked())
    (result.folder / "result.json").unlink()
    shutil.rmtree(result.folder / "checkpoints" / "128")
    [again] = resume(result.folder, console=Console(file=io.StringIO()), callbacks=Locked())
    assert again.continued == (f"callbacks: {__name__}.Locked/lock (_thread.lock) cannot be stored",)


def test_each_seed_begins_with_a_copy(tmp_path: Path) -> None:
    callback = Recording()
    results = run(spec_of(tmp_path, "seeds=[0,1]", "total_timesteps=32"), callback, jobs=1)
    for result in results:
        [row] = [row for row in (result.folder / "metrics.jsonl").read_text().splitlines() if "mine/calls" in row]
        assert json.loads(row)["mine/calls"] == 16
    assert callback.n_calls == 0


@pytest.mark.parametrize(
    ("given", "seeds", "message"),
    [
        (3, "0", "callbacks: expected a Stable-Baselines3 callback, a function, or a list of them; got 3"),
        ([Recording], "0", r"callbacks: Recording is a class; give an instance: Recording\(\)"),
        (lambda *_: True, "[0,1]", "callbacks: .*<lambda> cannot be copied for 2 seeds .*; define it at the top level"),
    ],
    ids=["number", "class", "lambda"],
)
def test_what_is_no_callback_is_refused_before_anything_is_written(
    given: Any, seeds: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(spec_of(tmp_path, f"seeds={seeds}"), given)
    assert not (tmp_path / "run").exists()
