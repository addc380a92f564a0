"""Packed agents: what is in them, and that they stand wherever a run does."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from rich.console import Console

import deltarl as library
from deltarl import ConfigError, load_config, load_run, train
from deltarl.export import pack_run
from deltarl.export.runs import description
from deltarl.training import packed
from deltarl.training.packed import read_pack
from tests.export.test_files import finished
from tests.quick import QUICK, Deltarl

SAFE = {
    *("README.md", "config.yaml", "curve.png", "evaluations.csv", "gates.npz", "manifest.json", "metrics.jsonl"),
    *("normalizer.npz", "policy.safetensors", "provenance.json", "result.json", "seeds.csv"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds, each with two evaluations."""
    settings = [
        *QUICK,
        "eval.every=32",
        "gates.every=32",
        "gates.rows=32",
        "torso.width=16",
        "seeds=[0,1]",
        "device=cpu",
        "name=small",
    ]
    out = tmp_path_factory.mktemp("runs")
    spec = load_config("quickstart", *settings, f"out={out}", "threads=1")
    return train(spec, console=Console(file=io.StringIO()), jobs=1)[0].folder.parent


@pytest.fixture(scope="module")
def agent(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_run(runs, tmp_path_factory.mktemp("packed") / "agent.zip")


@pytest.fixture(scope="module")
def best_agent(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_run(runs, tmp_path_factory.mktemp("packed") / "best.zip", best=True)


def result(runs: Path, seed: int) -> dict[str, float]:
    content: dict[str, float] = json.loads((runs / f"seed-{seed}" / "result.json").read_text())
    return content


def highest(runs: Path) -> int:
    return max((0, 1), key=lambda seed: result(runs, seed)["final_return_mean"])


def same(first: library.Run, second: library.Run) -> bool:
    pairs = zip(first.policy.state_dict().values(), second.policy.state_dict().values(), strict=True)
    assert first.normalizer is not None
    assert second.normalizer is not None
    return all(torch.equal(one, other) for one, other in pairs) and np.array_equal(
        first.normalizer.obs_rms.mean, second.normalizer.obs_rms.mean
    )


def test_it_contains_safe_files_only(agent: Path, runs: Path) -> None:
    with ZipFile(agent) as archive:
        assert set(archive.namelist()) == SAFE
    pack = read_pack(agent)
    assert (pack.manifest.policy, pack.manifest.seed) == ("final", highest(runs))
    assert pack.manifest.files.keys() == pack.files.keys() == SAFE - {"manifest.json"}


def test_it_says_nothing_about_the_machines_folders(agent: Path, runs: Path) -> None:
    for name, content in read_pack(agent).files.items():
        assert str(runs.parent).encode() not in content, name
    assert "command" not in json.loads(read_pack(agent).files["provenance.json"])


def test_the_same_run_gives_the_same_bytes(agent: Path, runs: Path, tmp_path: Path) -> None:
    again = pack_run(runs / f"seed-{highest(runs)}", tmp_path / "again.zip")
    assert again.read_bytes() == agent.read_bytes()


def test_one_policy_is_packed_with_the_scores_of_all_seeds(agent: Path, runs: Path, tmp_path: Path) -> None:
    assert load_run(agent).seed == highest(runs)
    other = 1 - highest(runs)
    chosen = pack_run(runs, tmp_path / "other.zip", seed=other)
    assert same(load_run(chosen), load_run(runs / f"seed-{other}"))
    assert not same(load_run(chosen), load_run(agent))
    rows = list(csv.DictReader(io.StringIO(read_pack(chosen).files["seeds.csv"].decode())))
    assert [(int(row["seed"]), float(row["return_mean"])) for row in rows] == [
        (seed, result(runs, seed)["final_return_mean"]) for seed in (0, 1)
    ]


def test_it_is_loaded_as_the_run_is(agent: Path, runs: Path) -> None:
    run, original = load_run(agent, device="cpu"), load_run(runs / f"seed-{highest(runs)}", device="cpu")
    assert (run.folder, run.seed, run.best) == (agent, original.seed, False)
    assert run.spec.digest() == original.spec.digest()
    assert same(run, original)
    assert library.evaluate(run, episodes=2) == library.evaluate(original, episodes=2)


def test_the_policy_of_the_best_evaluation(best_agent: Path, agent: Path, runs: Path) -> None:
    run = load_run(best_agent)
    assert run.best
    assert same(run, load_run(runs / f"seed-{run.seed}", best=True))
    assert same(run, load_run(best_agent, best=True))
    with pytest.raises(
        ConfigError, match=r"agent\.zip: contains the final policy only; pack the run again with --best"
    ):
        load_run(agent, best=True)


def test_an_unfinished_run_has_a_best_policy_only(runs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs / "seed-0", tmp_path / "seed-0"))
    for name in ("result.json", "policy.safetensors", "normalizer.npz"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match="no seed has finished"):
        pack_run(folder, tmp_path / "a.zip")
    assert same(load_run(pack_run(folder, tmp_path / "a.zip", best=True)), load_run(folder, best=True))


@pytest.mark.parametrize("verb", [("evaluate", "RUN"), ("gates", "RUN", "--set", "erase=off")])
def test_verbs_take_it_in_place_of_a_run(verb: tuple[str, ...], agent: Path, runs: Path, deltarl: Deltarl) -> None:
    told = []
    for run in (agent, runs / f"seed-{highest(runs)}"):
        status, out, _ = deltarl(*(str(run) if each == "RUN" else each for each in verb), "--episodes", "2")
        assert status == 0
        told.append(out.replace(str(run), "RUN"))
    assert told[0] == told[1]


def test_its_gates_are_drawn_into_the_current_folder(agent: Path, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("gates", str(agent))
    assert status == 0
    assert re.search(r"^policy +0 +0\.\d\d +0\.\d\d", out, re.MULTILINE)
    assert Path("agent-figures/gates_beta.png").stat().st_size


def test_its_config_is_shown_and_its_curve_drawn(agent: Path, runs: Path, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("show", str(agent), "torso.depth=3")
    assert status == 0
    assert yaml.safe_load(out)["actor_torso"]["depth"] == 3
    assert f"seeds:\n- {highest(runs)}\n" in out
    assert deltarl("plot", str(agent), "--to", "a.png")[:2] == (0, "a.png: eval/return_mean of 1 run\n")
    assert deltarl("plot", str(agent), str(runs), "--to", "a.png", "--key", "rollout/ep_rew_mean")[0] == 0


def test_packed_agents_are_listed(agent: Path, best_agent: Path, runs: Path, deltarl: Deltarl, tmp_path: Path) -> None:
    for path in (agent, best_agent):
        shutil.copy(path, tmp_path)
    (tmp_path / "other.zip").write_bytes(b"PK\3\4")
    shutil.copy(runs / "seed-0" / "model.zip", tmp_path)
    status, out, _ = deltarl("list", "runs", "--out", str(tmp_path), "--json")
    assert status == 0
    first, second = json.loads(out)
    assert (first["run"], first["status"]) == (str(tmp_path / "agent.zip"), "finished")
    assert first["return_mean"] == result(runs, highest(runs))["final_return_mean"]
    assert (second["run"], second["status"]) == (str(tmp_path / "best.zip"), "best")
    assert second["return_mean"] >= first["return_mean"]


def test_its_policy_is_exported_with_its_score(agent: Path, best_agent: Path) -> None:
    for path in (agent, best_agent):
        metadata = description(load_run(path))
        assert metadata["policy"] == ("final" if path is agent else "best")
        assert float(metadata["return_mean"]) == pytest.approx(_score(path), abs=0.01)


def _score(agent: Path) -> float:
    [metric] = _results(agent)
    return float(metric.split()[0])


def _results(agent: Path) -> list[str]:
    card = ModelCard(read_pack(agent).files["README.md"].decode())
    return [str(result.metric_value) for result in card.data.eval_results]


def test_training_starts_from_it(best_agent: Path, tmp_path: Path) -> None:
    settings = [*QUICK, "torso.width=16", "agent.learning_rate=1e-30", "device=cpu", f"out={tmp_path}"]
    spec = load_config("quickstart", *settings, f"init_from={best_agent}")
    [done] = train(spec, console=Console(file=io.StringIO()))
    before, after = load_run(best_agent).policy.state_dict(), load_run(done.folder).policy.state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_it_cannot_be_resumed_trained_or_packed_again(agent: Path, deltarl: Deltarl) -> None:
    for verb, message in (
        ("resume", "a packed agent has no optimizer and no replay buffer to resume with"),
        ("train", f"deltarl show {agent} > mine.yaml"),
        ("pack", "is a packed agent already"),
    ):
        status, _, error = deltarl(verb, str(agent))
        assert status == 2
        assert message in error
        assert len(error.splitlines()) == 1
    with pytest.raises(ConfigError, match="no optimizer"):
        library.resume(agent)


def test_the_card_is_a_model_card(agent: Path, runs: Path) -> None:
    text = read_pack(agent).files["README.md"].decode()
    data = ModelCard(text).data
    assert data.library_name == "deltarl"
    assert {"Hopper-v5", "ppo", "reinforcement-learning", "stable-baselines3"} <= set(data.tags)
    [scored] = data.eval_results
    own = result(runs, highest(runs))
    assert (scored.dataset_type, scored.metric_type) == ("Hopper-v5", "mean_reward")
    assert scored.metric_value == f"{own['final_return_mean']:.2f} +/- {own['final_return_std']:.2f}"


def test_the_card_says_how_good_the_agent_is(agent: Path, best_agent: Path, runs: Path) -> None:
    text = read_pack(agent).files["README.md"].decode()
    scores = [result(runs, seed)["final_return_mean"] for seed in (0, 1)]
    assert f"| mean of 2 seeds | {np.mean(scores):,.1f}, 95% interval [" in text
    assert "| random actions | 16.0 ± 14.2 (benchmarks/random_scores.py hopper) |" in text
    assert "| published | 2,787.0 ± 868.0 (SAC, 1M steps" in text
    assert f"{scores[0]:,.0f} (0), {scores[1]:,.0f} (1). The packed one is the best of them" in text
    assert re.search(r"^\| policy \| 0 \| 0\.\d\d \| 0\.\d\d \| \d\.\d\d \|$", text, re.MULTILINE)
    assert read_pack(agent).files["config.yaml"].decode() in text
    assert f"torch {torch.__version__}" in text
    with Image.open(io.BytesIO(read_pack(agent).files["curve.png"])) as picture:
        assert picture.size > (300, 200)
    assert "was chosen by the same episodes that score it" in read_pack(best_agent).files["README.md"].decode()


def test_the_card_of_one_seed_on_a_task_with_success(tmp_path: Path) -> None:
    run = finished("tqc_her", tmp_path)
    text = read_pack(pack_run(run, tmp_path / "agent.zip")).files["README.md"].decode()
    assert "| **this policy** (seed 0) | -50.0 ± 0.0 over 1 episode | 0.00 |" in text
    assert "| random actions | -49.1 ± 2.4 (benchmarks/random_scores.py fetch_reach) | 0.01 |" in text
    assert "Success is at the last step." in text
    assert "One seed was trained, so nothing is known about the spread between seeds" in text
    assert "interval" not in text.split("## Networks")[0]
    metrics = {each.metric_type: each.metric_value for each in ModelCard(text).data.eval_results}
    assert metrics == {"mean_reward": "-50.00 +/- 0.00", "success_rate": "0.00"}


@pytest.mark.parametrize("with_onnx", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_cards_code_runs(with_onnx: bool, agent: Path, deltarl: Deltarl, tmp_path: Path) -> None:
    shutil.copy(agent, tmp_path)
    text = read_pack(agent).files["README.md"].decode()
    for language, code in re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language == "python":
            with redirect_stdout(io.StringIO()):
                exec(code, {})
            continue
        for line in code.splitlines():
            _, *arguments, last = line.split()
            if arguments[0] in {"gates", "play"} or ("agent.onnx" in line and not with_onnx):
                continue  # above, and in tests/training/test_playback.py, where there is a renderer
            to_file = arguments[-1] == ">"
            arguments = arguments[:-1] if to_file else [*arguments, last]
            if arguments[0] == "train":
                arguments += ["name=again", *QUICK]
            status, out, error = deltarl(*arguments)
            assert status == 0, error
            if to_file:
                Path(last).write_text(out)
    assert {"agent.yaml", "runs"} <= {path.name for path in Path().iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no such folder"),
        (("RUNS", "agent.tar"), "pack: agent.tar: expected a name that ends in .zip"),
        (("RUNS", "no/agent.zip"), "pack: no: no such folder"),
        (("RUNS", "there.zip"), "pack: there.zip already exists; give another name, or --overwrite"),
        (("RUNS", "--seed", "7"), "has no final policy of seed 7; there is 0, 1"),
        (("RUNS", "--best", "--seed", "7"), "has no best policy of seed 7; there is 0, 1"),
    ],
)
def test_bad_input_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    runs: Path,
    deltarl: Deltarl,
) -> None:
    Path("there.zip").write_text("precious")
    status, out, error = deltarl("pack", *(str(runs) if each == "RUNS" else each for each in arguments))
    assert (status, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["there.zip"]
    assert Path("there.zip").read_text() == "precious"


def test_the_default_name_is_the_runs(runs: Path, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("pack", str(runs))
    assert (status, re.sub(r"\d+", "N", out)) == (0, "small.zip: N KiB\n")
    assert packed.is_pack(Path("small.zip"))
