"""Exported files: what they hold, that they act as the policy does, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from deltarl import ConfigError, evaluate, load_run
from deltarl.checkpoints.store import Store
from deltarl.export import evaluate_onnx, export_run, read_onnx, save_policy
from deltarl.export.check import TOLERANCE, check, sample
from deltarl.export.formats import encode, opened
from deltarl.export.policy import policy_module
from deltarl.export.target import FORMATS
from deltarl.policies import DeltaActorCriticPolicy
from tests.export.test_policy import BOX, OBSERVED, Backwards, Sum, few, perturb, plain_policy
from tests.policies.matrix import SUBJECTS, Case, make, parameters
from tests.quick import Deltarl

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy_onnx.py"
RUNS = Path(__file__).parents[1] / "fixtures" / "runs"


def finished(name: str, folder: Path) -> Path:
    with tarfile.open(RUNS / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "finished"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PPO on normalised observations of Hopper."""
    return finished("ppo", tmp_path_factory.mktemp("ppo"))


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    assert export_run(run, run.parent / "hopper.onnx") <= TOLERANCE
    return run.parent / "hopper.onnx"


def test_a_file_says_where_its_policy_comes_from(run: Path, exported: Path) -> None:
    said = read_onnx(exported).metadata
    result = json.loads((run / "result.json").read_text())
    made = json.loads((run / "provenance.json").read_text())
    assert (said["task"], said["algorithm"], said["policy"]) == ("Hopper-v5", "ppo", "final")
    assert (int(said["steps"]), float(said["return_mean"])) == (result["steps"], result["final_return_mean"])
    assert json.loads(said["git"]) == made["git"]
    assert json.loads(said["trained_with"]) == made["packages"]
    assert said["torso"].startswith("delta")
    assert "(11,)" in said["observation_space"]
    assert str(run.parent) not in exported.read_bytes().decode("latin-1")
    assert __file__.partition("tests/")[0] not in exported.read_bytes().decode("latin-1")
    assert onnx.load(exported).producer_name == "deltarl"
    onnx.checker.check_model(exported)


@pytest.mark.parametrize("rows", [1, 64])
def test_onnxruntime_alone_gives_the_actions_of_predict(run: Path, exported: Path, rows: int) -> None:
    loaded = load_run(run, device="cpu")
    assert loaded.normalizer is not None
    session = onnxruntime.InferenceSession(exported)
    assert [(each.name, each.shape) for each in session.get_inputs()] == [("observation", ["batch", 11])]
    space = loaded.normalizer.venv.observation_space
    [observations] = sample(space, loaded.normalizer, rows, np.random.default_rng(1)).values()
    [found] = session.run(None, {"observation": observations})
    expected, _ = loaded.policy.predict(loaded.normalizer.normalize_obs(observations), deterministic=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_evaluate_plays_the_file_as_it_plays_the_run(run: Path, exported: Path, deltarl: Deltarl) -> None:
    expected = evaluate(run, episodes=3)
    assert evaluate_onnx(exported, episodes=3).returns == pytest.approx(expected.returns, rel=0.01)
    status, out, _ = deltarl("evaluate", exported, "--episodes", "3")
    title, score = deltarl("evaluate", run, "--episodes", "3")[1].splitlines()
    assert (status, out.splitlines()) == (0, [title.replace(str(run), str(exported)), score])
    assert deltarl("evaluate", exported, "--episodes", "3", "--env", "hopper")[1] == out
    status, _, error = deltarl("evaluate", exported, "--env", "walker2d")
    assert status == 2
    assert "the policy takes 'observation' of shape (11,); the environment's is (17,)" in error


def test_the_example_plays_the_policy_without_pytorch(run: Path, exported: Path) -> None:
    code = (
        "import runpy, sys, numpy\nfrom pathlib import Path\n"
        "from deltarl.export.onnx_file import read_onnx\n"
        "print(read_onnx(Path(sys.argv[1])).predict(numpy.zeros((2, 11)))[0].shape)\n"
        f"runpy.run_path({str(EXAMPLE)!r})\n"
        "print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code, exported], capture_output=True, text=True, check=True)
    shape, played, imported = ended.stdout.splitlines()
    expected = evaluate(run, episodes=1)
    assert (shape, imported) == ("(2, 3)", "[]")
    assert played == f"return {expected.return_mean:.1f} after {expected.lengths[0]} steps"


def test_the_best_policy_is_exported_with_its_score(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))

    def write(folder: Path) -> None:
        weights = load_file(run / "policy.safetensors")
        save_file({name: 2 * tensor for name, tensor in weights.items()}, folder / "policy.safetensors")
        shutil.copy(run / "normalizer.npz", folder)

    Store(copy, keep=1).write_best(20, write, {"return_mean": 7.5, "success_rate": None})
    (copy / "result.json").unlink()
    assert export_run(copy, tmp_path / "best.ts", best=True) <= TOLERANCE
    extra = {"metadata.json": ""}
    with pytest.deprecated_call():
        act = torch.jit.load(tmp_path / "best.ts", _extra_files=extra)
    said = json.loads(extra["metadata.json"])
    assert (said["policy"], said["steps"], said["return_mean"]) == ("best", "20", "7.5")
    loaded = load_run(copy, device="cpu", best=True)
    assert torch.equal(
        act(torch.zeros(1, 11).double()), policy_module(loaded.policy, loaded.normalizer)(torch.zeros(1, 11))
    )
    with pytest.raises(ConfigError, match=r"result\.json is missing"):
        export_run(copy, tmp_path / "final.ts")


@pytest.mark.parametrize("kind", [name for name in FORMATS if name != "onnx"])
def test_pytorchs_formats_are_made_by_the_verb(kind: str, run: Path, tmp_path: Path, deltarl: Deltarl) -> None:
    file = tmp_path / "hopper.bin"
    status, out, error = deltarl("export", run, file, "--format", kind)
    assert (status, error) == (0, "")
    assert out.startswith(f"{file}: ")
    extra = {"metadata.json": ""}
    load: Any = torch.jit.load if kind == "torchscript" else torch.export.load
    keyword = "_extra_files" if kind == "torchscript" else "extra_files"
    with pytest.deprecated_call() if kind == "torchscript" else nullcontext():
        act = load(file, **{keyword: extra})
    assert json.loads(extra["metadata.json"])["task"] == "Hopper-v5"
    act = act if kind == "torchscript" else act.module()
    assert [act(torch.zeros(rows, 11, dtype=torch.float64)).shape for rows in (1, 64)] == [(1, 3), (64, 3)]


def test_a_zero_state_has_a_direction_in_the_file_too() -> None:
    """Where the state is 0, only an epsilon keeps the direction of a Delta block from being 0 / 0."""
    module = policy_module(make(SUBJECTS[0], torso={"kind": "delta", "width": 16}))
    player = opened(encode(module, "onnx", {}), "onnx", module, Path("policy"))
    zeros = np.zeros((2, 10))
    found, _ = player.predict(zeros, None)
    np.testing.assert_allclose(found, module(torch.from_numpy(zeros)), atol=1e-6)
    assert np.isfinite(found).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", [each for each in parameters(covering=few) if not each.marks])
def test_every_algorithm_and_torso_is_exported(case: Case, kind: Any) -> None:
    model = make(case.subject, case.observation, torso=case.torso)
    module = policy_module(model)
    player = opened(encode(module, kind, {}), kind, module, Path("policy"))
    assert [each.name for each in player.inputs] == [each.name for each in module.inputs]
    assert check(model.policy, None, module, player) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        *({"update": update} for update in ("write_only", "additive", "lerp", "residual_erase", "orthogonal")),
        {"channels": 3, "expand": "linear"},
        {"channels": 2, "expand": "copy", "value": "sigmoid"},
        {"products": 2, "gate_layers": 2, "drop_path": 0.2},
        {"sphere": True},
        {"direction": "generator", "gate": "fixed"},
        {"direction": "linear", "norm": "none", "output_scale": "mlp"},
        {"norm": "rms", "norm_position": "sandwich", "residual_scale": 0.1, "sublayers": 2, "activation": "gelu"},
        {"kind": "hyper", "channels": 3, "connections": "dynamic", "mixing": "free"},
        {"kind": "hyper", "channels": 3, "connections": "dynamic", "mixing": "doubly_stochastic"},
    ],
    ids=str,
)
def test_options_of_torsos_are_exported(options: dict[str, Any]) -> None:
    torso = {"width": 16, "depth": 2, **options}
    policy = DeltaActorCriticPolicy(OBSERVED["float64"], BOX, lambda _: 0.0, torso=torso)
    perturb(policy)
    module = policy_module(policy)
    player = opened(encode(module, "onnx", {}), "onnx", module, Path("policy"))
    assert check(policy, None, module, player) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent_ppo", "tqc_her", "sac"])
def test_other_runs_return_what_they_return_in_pytorch(name: str, tmp_path: Path) -> None:
    run = finished(name, tmp_path)
    export_run(run, tmp_path / "policy.onnx")
    assert evaluate_onnx(tmp_path / "policy.onnx", episodes=20).return_mean == pytest.approx(
        evaluate(run, episodes=20).return_mean, rel=0.01
    )


# What is refused: one line, and nothing is written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("{run}", "policy.bin"),
            "expected a name that ends in .onnx (onnx), .pt2 (torch), .ts (torchscript)",
        ),
        (("{run}", "policy.onnx", "--format", "onx"), "no format 'onx'; did you mean 'onnx'"),
        (("{run}", "there.onnx"), "already exists; give another name, or --overwrite"),
        (("{run}", "missing/policy.onnx"), "missing: no such folder"),
        (("{run}", "."), "expected a name that ends in"),
        (("no_run", "policy.onnx"), "no_run: no such folder"),
        (("{run}", "policy.onnx", "--best"), "no best policy yet"),
        (("{run}", "policy.onnx", "--seed", "5"), "has no seed-5"),
        (("several", "policy.onnx"), "has several seeds; give --seed with one of 0, 1"),
    ],
)
def test_export_refuses_in_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    run: Path,
    tmp_path: Path,
    deltarl: Deltarl,
) -> None:
    Path("there.onnx").write_text("mine")
    for seed in (0, 1):
        Path(f"several/seed-{seed}").mkdir(parents=True)
        Path(f"several/seed-{seed}/config.yaml").write_text("")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    status, out, error = deltarl("export", *(each.format(run=run) for each in arguments))
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_command(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'deltarl\[onnx\]'"):
        save_policy(plain_policy(OBSERVED["float64"], BOX), tmp_path / "policy.onnx")


def test_a_policy_that_acts_differently_is_not_written(tmp_path: Path) -> None:
    policy: BasePolicy = Backwards(OBSERVED["float64"], BOX, lambda _: 0.0, torso={"width": 8, "depth": 1})
    with pytest.raises(ConfigError, match="acts differently"):
        save_policy(policy, tmp_path / "policy.ts")
    assert not list(tmp_path.iterdir())


class Switch(Sum):
    """Code that depends on values, which no exporter can follow."""

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        return features if features.sum() > 0 else -features


class SwitchPolicy(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Switch()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "message"),
    [("policy.pt2", "export: PyTorch cannot convert this policy: "), ("policy.ts", "acts differently")],
)
def test_a_policy_that_cannot_be_converted_is_not_written(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        save_policy(SwitchPolicy(OBSERVED["float64"], BOX, lambda _: 0.0), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_if_asked(tmp_path: Path) -> None:
    file = tmp_path / "policy.ts"
    file.write_text("mine")
    assert save_policy(plain_policy(OBSERVED["float64"], BOX), file, overwrite=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["policy.ts"]
    with pytest.deprecated_call():
        assert torch.jit.load(file)(torch.zeros(1, 3, dtype=torch.float64)).shape == (1, 2)


def test_a_file_that_is_no_policy_is_refused_in_one_line(tmp_path: Path, deltarl: Deltarl) -> None:
    file = tmp_path / "policy.onnx"
    assert deltarl("evaluate", file)[::2] == (2, f"deltarl: error: {file}: no such file\n")
    file.write_bytes(b"onnx")
    status, _, error = deltarl("evaluate", file)
    assert (status, error.count("\n")) == (2, 1)
    assert f"{file}: missing or damaged" in error
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([node], "g", [info], [out])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), file)
    assert "no policy that deltarl exported" in deltarl("evaluate", file)[2]
    assert "--best" in deltarl("evaluate", file, "--best")[2]
    assert "--env" in deltarl("evaluate", tmp_path, "--env", "hopper")[2]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "does not say which task"),
        ({"env": "{"}, "env: missing or damaged"),
        ({"env": '{"id": "Hopper-v5", "extra": 1}'}, "extra: unknown key"),
    ],
)
def test_a_task_that_a_file_names_is_not_trusted(metadata: dict[str, str], message: str, exported: Path) -> None:
    player = read_onnx(exported)
    player.metadata = metadata
    with pytest.raises(ConfigError, match=message):
        evaluate_onnx(player)
