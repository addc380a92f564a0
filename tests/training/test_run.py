"""A run from its spec: learning, files and refusals."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import random
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from deltarl import ConfigError, RunResult, RunSpec, evaluate, fast, load_config, load_run, train
from deltarl.envs import FIRST_TRAINING_SEED
from deltarl.launch.display import PatientConsole
from deltarl.training.folder import choose_folder, claimed, load_spec
from deltarl.training.records import evaluations_in
from tests.quick import QUICK

QUICK_SAC = ("agent=sac", "agent.learning_starts=16", "agent.batch_size=16", "agent.buffer_size=1000")


def quick(out: Path, *more: str, config: str = "quickstart") -> RunSpec:
    given = {text.partition("=")[0] for text in more}
    settings = [
        text
        for text in QUICK
        if text.partition("=")[0] not in given and ("agent=sac" not in more or not text.startswith("agent"))
    ]
    return load_config(config, *more[:1], *settings, *more[1:], f"out={out}", "device=cpu", "name=test")


def run(spec: RunSpec) -> list[RunResult]:
    return train(spec, console=Console(file=io.StringIO()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_run(folder, device="cpu").policy.state_dict())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(quick(tmp_path_factory.mktemp("runs")))[0]


def test_the_folder_holds_all_that_design_promises(finished: RunResult) -> None:
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


def test_a_run_read_back_scores_the_same(finished: RunResult) -> None:
    evaluation = evaluate(load_run(finished.folder, device="cpu"))
    assert evaluation.return_mean == finished.final_return_mean
    # Another batch size rounds differently.
    assert evaluate(finished.folder, episodes=3).returns[:2] == pytest.approx(evaluation.returns, rel=1e-4)


def test_reading_a_run_leaves_the_random_state_alone(finished: RunResult) -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    evaluate(finished.folder, episodes=1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_the_zip_is_read_by_plain_stable_baselines3(finished: RunResult) -> None:
    model = PPO.load(finished.folder / "model.zip", device="cpu")
    envs = VecNormalize.load(str(finished.folder / "vecnormalize.pkl"), make_vec_env("Hopper-v5"))
    ours = load_run(finished.folder, device="cpu")
    assert ours.normalizer is not None
    observation = np.ones((3, 11))
    ours_seen, theirs_seen = (normalizer.normalize_obs(observation) for normalizer in (ours.normalizer, envs))
    assert np.array_equal(ours_seen, theirs_seen)
    assert np.array_equal(
        ours.policy.predict(ours_seen, deterministic=True)[0], model.predict(theirs_seen, deterministic=True)[0]
    )


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
    never = run(quick(tmp_path / "never", *algorithm))[0]
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


def test_a_finished_run_is_refused_and_nothing_is_written(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"))
    before = {path: path.stat().st_mtime_ns for path in finished.folder.parent.rglob("*")}
    with pytest.raises(ConfigError, match="this run has already finished"):
        run(spec)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.parent.rglob("*")} == before


def test_one_finished_seed_refuses_the_whole_command_before_any_other_is_trained(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), "seeds=[7,0]")
    with pytest.raises(ConfigError, match="seed-0: this run has already finished"):
        run(spec)
    assert not (finished.folder.parent / "seed-7").exists()


def test_another_config_of_the_same_name_gets_a_folder_of_its_own(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), "agent.gamma=0.5", "name=test")
    assert choose_folder(spec, 0).parent.name == f"test-{spec.digest()}"


def test_a_config_that_an_older_version_wrote_keeps_its_seeds(finished: RunResult, tmp_path: Path) -> None:
    content = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert content["env"].pop("seeding") == "separate"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert load_spec(tmp_path).env.seeding == "consecutive"
    assert load_config(str(tmp_path / "config.yaml")).env.seeding == "consecutive"
    (tmp_path / "user.yaml").write_text(yaml.safe_dump({**content, "env": {"base": "hopper", "n_envs": 2}}))
    assert load_config(str(tmp_path / "user.yaml")).env.seeding == "separate"


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


def test_a_run_that_ended_before_its_first_checkpoint_is_moved_aside_not_overwritten(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    result = run(spec)[0]
    (result.folder / "result.json").unlink()
    shutil.rmtree(result.folder / "checkpoints")
    kept = (result.folder / "policy.safetensors").read_bytes()
    again = run(spec)[0]
    assert again.folder == result.folder
    assert (again.folder.with_name("seed-0.unfinished-1") / "policy.safetensors").read_bytes() == kept


def test_a_run_that_can_be_gone_on_with_is_not_begun_anew(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    folder = run(spec)[0].folder
    (folder / "result.json").unlink()
    with pytest.raises(
        ConfigError, match=r"after its checkpoint of step 64; resume it with: deltarl resume .*seed-0; or"
    ):
        run(spec)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    folder = run(spec)[0].folder
    (folder / "result.json").unlink()
    with (folder / "provenance.json").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is training there"):
            run(spec)


@pytest.mark.parametrize("state", ["finished", "running"])
def test_a_run_that_another_process_began_meanwhile_is_neither_moved_nor_overwritten(
    state: str, finished: RunResult, tmp_path: Path
) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), f"out={tmp_path}")
    assert choose_folder(spec, 0) == tmp_path / "test" / "seed-0"
    with ExitStack() as other:
        if state == "running":
            other.enter_context(claimed(spec, 0, ["other"]))
        else:
            run(spec)
        held = sorted(tmp_path.rglob("*"))
        with (
            pytest.raises(ConfigError, match="finished" if state == "finished" else "is training"),
            claimed(spec, 0, []),
        ):
            pass
        assert sorted(tmp_path.rglob("*")) == held


def test_an_evaluation_that_fails_does_not_take_the_training_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_what_cannot_be_made_is_said_before_anything_is_written(
    overrides: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    sac = overrides[1:] if overrides[1:] == QUICK_SAC else ()
    with pytest.raises(ConfigError) as caught:
        run(quick(tmp_path, *sac, *(text for text in overrides if text not in sac)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^out: .* cannot be used: .*file is not a folder$"):
        run(quick(tmp_path / "file"))


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


@pytest.mark.parametrize(
    "left", [("provenance.json",), ("provenance.json.tmp",), ("provenance.json", "config.yaml.tmp")]
)
def test_a_folder_of_a_run_that_was_killed_before_it_had_its_config_is_taken_up(
    left: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "test" / "seed-0"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("{")
    spec = quick(tmp_path)
    with claimed(spec, 0, ["deltarl"]) as taken:
        assert taken == folder
        assert load_spec(taken) == spec


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"contains files but no config\.yaml"):
        run(quick(tmp_path))
    assert list(folder.iterdir()) == [folder / "thesis.tex"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("missing", ["config.yaml", "policy.safetensors", "result.json"])
def test_a_folder_without_a_finished_run_is_not_read(missing: str, finished: RunResult, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=f"not a finished run, {missing} is missing"):
        load_run(tmp_path)


def test_a_folder_of_runs_is_told_from_a_run(finished: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains runs but is not one; give one of seed-0 in it"):
        load_run(finished.folder.parent)
    with pytest.raises(ConfigError, match="no such folder"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("damaged", ["config.yaml", "policy.safetensors", "normalizer.npz"])
@pytest.mark.parametrize("content", [b"", b": [", b"x" * 100], ids=["empty", "broken", "other"])
def test_a_damaged_file_is_named(damaged: str, content: bytes, finished: RunResult, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / damaged).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{damaged}: missing or damaged: ") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("episodes", [0, -1])
def test_an_evaluation_has_at_least_one_episode(episodes: int, finished: RunResult) -> None:
    with pytest.raises(ConfigError, match=f"expected at least 1; got {episodes}"):
        evaluate(finished.folder, episodes=episodes)
