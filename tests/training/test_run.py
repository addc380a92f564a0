"""A run from its spec: learning and files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from deltarl import ConfigError, RunResult, evaluate, fast, load_config, load_run, train
from deltarl.envs import FIRST_TRAINING_SEED
from deltarl.launch.display import PatientConsole
from deltarl.training.records import evaluations_in
from tests.training.quick_runs import QUICK_SAC, quick, run, weights


def test_the_folder_holds_every_documented_file(finished: RunResult) -> None:
    held = {path.name for path in finished.folder.iterdir()}
    events = {name for name in held if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert held - events == {
        "config.yaml",
        "provenance.json",
        "progress.csv",
        "metrics.jsonl",
        "evaluations.csv",
        "policy.safetensors",
        "normalizer.npz",
        "model.zip",
        "vecnormalize.pkl",
        "result.json",
        "checkpoints",
    }


def test_the_result_is_what_was_evaluated(finished: RunResult) -> None:
    result = json.loads((finished.folder / "result.json").read_text())
    rows = list(csv.DictReader((finished.folder / "evaluations.csv").read_text().splitlines()))
    returns = [float(row["return"]) for row in rows]
    assert result["final_return_mean"] == pytest.approx(np.mean(returns)) == finished.final_return_mean
    assert result["final_return_std"] == pytest.approx(np.std(returns))
    assert (result["status"], result["steps"], result["episodes"], result["success_rate"]) == ("finished", 64, 2, None)


def test_records_agree_and_their_steps_increase(finished: RunResult) -> None:
    rows = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    for key in set().union(*rows) - {"step", "wall_seconds", "time/total_timesteps"}:
        steps = [row["step"] for row in rows if key in row]
        assert steps == sorted(set(steps)), key
    events = EventAccumulator(str(finished.folder))
    events.Reload()
    logged = events.Scalars("eval/return_mean")[-1]
    assert logged.step == rows[-1]["step"] == 64
    assert logged.value == pytest.approx(rows[-1]["eval/return_mean"], rel=1e-6)


def test_the_provenance_names_versions_threads_and_command(finished: RunResult) -> None:
    provenance = json.loads((finished.folder / "provenance.json").read_text())
    assert provenance["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert {"mujoco", "stable-baselines3", "gymnasium", "deltarl"} <= provenance["packages"].keys()
    assert provenance["threads"] == 1
    assert provenance["training_step"] == {"implementation": "deltarl"}


def test_the_resolved_config_reproduces_the_run(finished: RunResult, tmp_path: Path) -> None:
    again = run(load_config(str(finished.folder / "config.yaml"), f"out={tmp_path}"))[0]
    expected = weights(finished.folder)
    for name, value in weights(again.folder).items():
        assert torch.equal(value, expected[name]), name


def test_a_config_and_a_plain_script_learn_the_same(finished: RunResult) -> None:
    envs = VecNormalize(make_vec_env("Hopper-v5", n_envs=2, seed=0), gamma=0.99)
    model = fast.PPO(
        "DeltaPolicy",
        envs,
        n_steps=16,
        batch_size=32,
        target_kl=0.02,
        policy_kwargs={"torso": {"kind": "delta", "width": 64}},
        seed=0,
        device="cpu",
    )
    envs.seed(FIRST_TRAINING_SEED)  # the algorithm has seeded them
    model.learn(64)
    for name, value in weights(finished.folder).items():
        assert torch.equal(value, model.policy.state_dict()[name]), name


@pytest.mark.parametrize("algorithm", [(), QUICK_SAC], ids=["ppo", "sac"])
def test_learning_is_the_same_whatever_the_cadence_of_evaluation(algorithm: tuple[str, ...], tmp_path: Path) -> None:
    never = run(quick(tmp_path / "never", *algorithm, "eval.n_envs=1"))[0]
    often = run(quick(tmp_path / "often", *algorithm, "eval.every=0.15"))[0]
    assert list(evaluations_in(often.folder)) == [10, 20, 30, 40, 50, 60, 64]
    expected = weights(never.folder)
    for name, value in weights(often.folder).items():
        assert torch.equal(value, expected[name]), name


def test_sac_trains_from_a_config_on_raw_observations(tmp_path: Path) -> None:
    result = run(quick(tmp_path, *QUICK_SAC, "env.normalize={observations: false, rewards: false}"))[0]
    assert not (result.folder / "normalizer.npz").exists()
    assert isinstance(SAC.load(result.folder / "model.zip", device="cpu"), SAC)
    assert evaluate(result.folder).return_mean == result.final_return_mean


def test_dict_observations_and_success(tmp_path: Path) -> None:
    reach = "{id: FetchReach-v4, kind: manipulation, success: {key: is_success, rule: any}}"
    result = run(quick(tmp_path, *QUICK_SAC, f"env={reach}", "env.normalize.observations=true"))[0]
    assert result.success_rate is not None
    assert 0 <= result.success_rate <= 1
    assert evaluate(result.folder).success_rate == result.success_rate


def test_infinities_in_an_environments_options_are_kept(tmp_path: Path) -> None:
    [result] = run(quick(tmp_path, "env.kwargs={healthy_z_range: [0.5, .inf]}"))
    assert load_run(result.folder).spec.env.kwargs == {"healthy_z_range": [0.5, float("inf")]}
    assert evaluate(result.folder).return_mean == result.final_return_mean


def test_seeds_differ_and_each_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forked.launched(monkeypatch)
    first, second = run(quick(tmp_path, "seeds=[3,4]"))
    assert (first.folder.name, second.folder.name) == ("seed-3", "seed-4")
    ours, theirs = weights(first.folder), weights(second.folder)
    assert any(not torch.equal(value, theirs[name]) for name, value in ours.items())
    assert load_run(second.folder).seed == 4


def test_tensorboard_has_the_config_as_text_and_the_main_settings_as_hparams(finished: RunResult) -> None:
    events = EventAccumulator(str(finished.folder))
    events.Reload()
    [text] = events.Tensors("config/text_summary")
    assert "algorithm: ppo" in text.tensor_proto.string_val[0].decode()
    [start] = [
        HParamsPluginData.FromString(content).session_start_info
        for tag, content in events.PluginTagToContent("hparams").items()
        if tag.endswith("session_start_info")
    ]
    # TensorBoard sorts the columns by name, and shows only the first ones.
    assert sorted(start.hparams)[:4] == ["Name", "Seed", "Task", "Torso"]
    assert start.hparams["Torso"].string_value == "delta 64x2"
    assert start.hparams["Task"].string_value == "Hopper-v5"
    assert start.hparams["agent.batch_size"].number_value == 32
    assert start.hparams["actor_torso.kind"].string_value == "delta"
    [experiment] = [
        HParamsPluginData.FromString(content).experiment
        for tag, content in events.PluginTagToContent("hparams").items()
        if tag.endswith("experiment")
    ]
    assert [info.name.tag for info in experiment.metric_infos] == ["eval/return_mean"]


def test_a_failed_evaluation_does_not_lose_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deltarl.training.session.evaluate_policy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(quick(tmp_path))
    held = {path.name for path in (tmp_path / "test" / "seed-0").iterdir()}
    assert {"policy.safetensors", "normalizer.npz", "model.zip"} <= held
    assert "result.json" not in held


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("env.kwargs={a: 1}",), "env: Hopper-v5 cannot be built from the config: TypeError"),
        (("env.id=CartPole-v1", *QUICK_SAC), "agent: sac needs Box actions; the environment has Discrete(2)"),
        (("env.id=FrozenLake-v1",), "env: FrozenLake-v1 cannot be built from the config: ValueError"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_written(
    overrides: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    sac = overrides[1:] if overrides[1:] == QUICK_SAC else ()
    with pytest.raises(ConfigError) as caught:
        run(quick(tmp_path, *sac, *(text for text in overrides if text not in sac)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_progress_falls_silent_when_its_reader_leaves(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    [result] = train(quick(tmp_path), console=PatientConsole(file=Gone()))
    assert result.status == "finished"


def test_the_number_of_threads_is_the_callers_again_afterwards(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    run(quick(tmp_path, "threads=2", "agent.n_epochs=1", "total_timesteps=32"))
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_without_a_device(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^device: PyTorch finds no CUDA device for 'cuda'; use device=cpu$"):
        train(quick(tmp_path).model_copy(update={"device": "cuda"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("algorithm", [(), QUICK_SAC], ids=["ppo", "sac"])
def test_a_run_trained_on_cuda_is_read_back_on_the_cpu(algorithm: tuple[str, ...], tmp_path: Path) -> None:
    spec = quick(tmp_path, *algorithm).model_copy(update={"device": "cuda"})
    result = run(spec)[0]
    assert result.device.startswith("cuda")
    assert evaluate(load_run(result.folder, device="cpu")).return_mean == pytest.approx(
        result.final_return_mean, rel=0.05
    )
