"""Runs with trackers: what is learned is the same, and an interrupted run goes on in the tracker's run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from deltarl import load_config, resume, train
from tests.quick import Deltarl
from tests.trackers import offline
from tests.training.small import SETTINGS, quiet, spec_of
from tests.wandb_runs import history_in

FEW = ("eval.episodes=1", "eval.every=64", "gates.every=null", "total_timesteps=96")
ALL = "logging=[tensorboard,csv,wandb,mlflow]"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with offline(tmp_path_factory.mktemp("trackers")) as uri:
        yield uri


class Stop(BaseCallback):
    """Fails at a step, as a process that is killed there."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise RuntimeError("killed")
        return True


# In a process of its own, because threads that other tests have left may draw random numbers, too.
SCRIPT = """
import json, os, random, sys
import numpy as np
import torch
from deltarl import load_config, train

os.environ.update(json.loads(sys.argv[1]))
random.seed(0)
[result] = train(load_config("quickstart", *sys.argv[2:]))
states = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
print(json.dumps([str(result.folder), states]))
"""


def trained(out: Path, *settings: str) -> tuple[Path, list[Any]]:
    """Train; return the run's folder and the states of the random generators."""
    (script := out.with_suffix(".py")).write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name.startswith(("WANDB", "MLFLOW"))}
    arguments = [json.dumps(environment), *SETTINGS, f"out={out}", *FEW, *settings]
    ended = forked.script(script, arguments, out.parent)
    assert ended.returncode == 0, ended.stderr
    folder, states = json.loads(ended.stdout.splitlines()[-1])
    return Path(folder), states


def steps_of(uri: str, experiment: str) -> list[int]:
    """The steps of an experiment's only run in MLflow."""
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return [each.step for each in client.get_metric_history(run.info.run_id, "time/iterations")]


@pytest.mark.slow
@pytest.mark.parametrize("gates", [("gates.every=null",), ("gates.every=64", "gates.rows=16")])
def test_what_is_learned_is_the_same_with_any_loggers(gates: tuple[str, ...], store: str, tmp_path: Path) -> None:
    name = f"logged-{len(gates)}"
    plain, states = trained(tmp_path / "plain", *gates, "logging=null")
    logged, also = trained(tmp_path / "logged", *gates, ALL, f"name={name}")
    for file in ("policy.safetensors", "evaluations.csv", *(["gates.npz"] if len(gates) > 1 else [])):
        assert (plain / file).read_bytes() == (logged / file).read_bytes()
    assert states == also
    assert not (plain / "progress.csv").exists()
    [folder] = (tmp_path / "logged" / name / "wandb").glob("offline-run-*")
    assert len(history_in(folder)) >= len(steps_of(store, name)) > 2


def test_a_resumed_run_goes_on_in_the_run_of_its_trackers(store: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, *FEW, ALL, "name=cut", "checkpoint.every=32")
    with pytest.raises(RuntimeError, match="killed"):
        train(spec, quiet(), callbacks=Stop(70))
    assert steps_of(store, "cut") == [32, 64]
    [run] = (tmp_path / "cut").glob("seed-*")
    [result] = resume(run, console=quiet())
    assert steps_of(store, "cut") == list(range(32, result.steps + 1, 32))
    first, second = sorted((tmp_path / "cut" / "wandb").glob("offline-run-*"))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]
    steps = [row["_step"] for folder in (first, second) for row in history_in(folder)]
    assert steps == sorted(set(steps))
    assert steps[-1] == result.steps


def test_a_logger_added_when_a_run_is_resumed_gets_the_whole_run(store: str, tmp_path: Path) -> None:
    [result] = train(spec_of(tmp_path, *FEW, "name=later"), quiet())
    more = f"total_timesteps={result.steps + 32}"
    resume(result.folder, lambda path: load_config(str(path), more, "logging=[mlflow]"), console=quiet())
    assert steps_of(store, "later") == list(range(32, result.steps + 33, 32))


def test_a_missing_package_is_refused_before_anything_is_written(
    deltarl: Deltarl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    status, out, error = deltarl("train", "quickstart", "logging=[csv,wandb]")
    assert (status, out, list(tmp_path.iterdir())) == (2, "", [])
    assert error.splitlines() == [
        "deltarl: error: logging: wandb needs the package of Weights & Biases: pip install 'deltarl[wandb]'"
    ]
    status, _, error = deltarl("train", "quickstart", "logging=[wandbb]")
    assert (status, list(tmp_path.iterdir())) == (2, [])
    assert "logging: unknown logger 'wandbb'; did you mean 'wandb'?" in error
