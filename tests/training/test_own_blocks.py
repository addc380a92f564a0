"""Blocks of the user's own in configs, as `module:Class`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from deltarl import ConfigError, evaluate, load_config, plugins, resume, train
from deltarl.torsos import CustomTorsoSpec
from deltarl.training.folder import UnregisteredError, load_spec
from tests.quick import Deltarl

MODULE = """
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.linear = nn.Linear(spec.width, spec.width)
        self.scale = nn.Parameter(torch.full((spec.width,), 0.1))

    def forward(self, state):
        return state + self.scale * torch.tanh(self.linear(state))
"""
QUICK = ("total_timesteps=32", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "env.n_envs=2")
QUICK = (*QUICK, "gates.every=16", "gates.rows=8", "eval.episodes=1", "device=cpu", "name=own")
OWN = ("torso=custom", "torso.block=own_block:Scaled", "torso.width=8", "torso.depth=1")
TRAIN = ("train", "quickstart", *OWN, *QUICK)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module, whose import is undone at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_block.py").write_text(MODULE)
    yield tmp_path
    os.environ.pop(plugins.VARIABLE, None)
    sys.modules.pop("own_block", None)


def test_every_verb_takes_them_from_an_imported_module_only(
    folder: Path, deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        status, out, error = deltarl(*arguments)
        return status, out + error

    status, said = run(*TRAIN)
    assert (status, list(folder.glob("runs"))) == (2, [])
    assert "torso.block: no module 'own_block' is imported; give --import own_block or the path of its file" in said
    status, said = run(*TRAIN, "--import", "own_block.py")
    assert status == 0, said
    held = Path("runs/own/seed-0")
    assert yaml.safe_load((held / "config.yaml").read_text())["actor_torso"]["block"] == "own_block:Scaled"

    del sys.modules["own_block"]
    monkeypatch.delenv(plugins.VARIABLE)
    with pytest.raises(UnregisteredError):
        load_spec(held)
    advice = f"own_block:Scaled: it was trained with --import {folder}/own_block.py; give this again"
    for verb in ("evaluate", "resume", "gates"):
        status, said = run(verb, str(held))
        assert (status, advice in said, "own_block" in sys.modules) == (2, True, False), said
    for arguments in (("evaluate",), ("show", "runs/own/seed-0/config.yaml"), ("resume", "total_timesteps=64")):
        verb, *rest = arguments
        given = rest if verb == "show" else [str(held), *rest]
        status, said = run(verb, *given, "--import", "own_block.py")
        assert status == 0, said
    assert "resumed  1 time, exactly" in said
    assert load_spec(held).total_timesteps == 64


@pytest.mark.slow
def test_a_comparison_takes_them(folder: Path, deltarl: Deltarl) -> None:
    settings = ("total_timesteps=32", "agent.n_steps=16", "agent.batch_size=32", "env.n_envs=2", "eval.episodes=1")
    arms = {"own": {"torso": {"kind": "custom", "block": "own_block:Scaled", "width": 8, "depth": 1}}}
    arms["mlp"] = {"torso": {"kind": "mlp"}}
    plan = {"reference": "mlp", "match": "width", "seeds": [0], "arms": arms, "tasks": {"hopper": "quickstart"}}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    arguments = ("compare", "plan.yaml", "--import", "own_block.py", *settings, "device=cpu", "--jobs", "1")
    status, _, said = deltarl(*arguments)
    assert status == 0, said
    [config] = folder.glob("runs/*/hopper/own/seed-0/config.yaml")
    assert "block: own_block:Scaled" in config.read_text()


def test_from_python_the_class_is_enough(folder: Path) -> None:
    sys.path.append(str(folder))
    from own_block import Scaled  # type: ignore[import-not-found]  # noqa: PLC0415

    spec = load_config("quickstart", *OWN, *QUICK)
    assert spec.actor_torso.block is Scaled  # type: ignore[attr-defined]
    [result] = train(spec)
    assert evaluate(result.folder).return_mean == result.final_return_mean
    with pytest.raises(ConfigError, match="already finished"):
        resume(result.folder)


@pytest.mark.slow
def test_seeds_side_by_side_take_them(folder: Path, deltarl: Deltarl) -> None:
    arguments = (*TRAIN, "seeds=[0,1]", "--jobs", "2", "--import", "own_block.py")
    status, _, said = deltarl(*arguments)
    assert status == 0, said
    assert len(list(folder.glob("runs/own/seed-*/result.json"))) == 2


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("Scaled", "torso.block: expected module:Class; got 'Scaled'"),
        (
            "own_block:Scale",
            "torso.block: module 'own_block' defines no torch.nn.Module 'Scale'; did you mean 'Scaled'?",
        ),
        ("own_block:nn.Linear", "torso.block: module 'own_block' defines no torch.nn.Module 'nn.Linear'"),
        ("os:system", "torso.block: module 'os' defines no torch.nn.Module 'system'"),
        (
            "antigravity:Block",
            "torso.block: no module 'antigravity' is imported; give --import antigravity or the path",
        ),
    ],
)
def test_what_is_no_block_is_refused(block: str, message: str, folder: Path) -> None:
    plugins.add(["own_block.py"])
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", *OWN, f"torso.block={block}")
    assert message in str(caught.value)
    assert "antigravity" not in sys.modules
    assert folder.is_dir()


def test_a_class_that_no_config_can_name_is_refused() -> None:
    class Local(nn.Identity):
        pass

    spec = load_config("quickstart")
    torso = {"kind": "custom", "block": Local, "width": 8}
    with pytest.raises(ValueError, match=r"a config cannot name .*Local.*; give a class at the top level of a module"):
        type(spec).model_validate({**spec.model_dump(), "actor_torso": torso})


class Linear(nn.Module):
    """A block that fails in the way that `how` says."""

    def __init__(self, spec: CustomTorsoSpec, how: str = "") -> None:
        super().__init__()
        self.how = how
        self.linear = nn.Linear(spec if how == "width" else spec.width, spec.width)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm1d(spec.width)
        self.drop = nn.Dropout()

    def forward(self, state: torch.Tensor) -> Any:
        if self.how == "bug":
            raise ZeroDivisionError("no\nnumber")
        new = self.drop(self.norm(self.linear(state)))
        return {"": new, "wide": torch.cat([new, new], -1), "pair": (new, new), "rows": new.mean(0)}[self.how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "width",
            r"raised TypeError: .*; it is called with the torso's spec alone, which has the width as spec\.width$",
        ),
        ("bug", r"raised ZeroDivisionError: no number; it is called with states \[\.\.\., 8\]$"),
        ("wide", r": expected states \[2, 8\] from its forward, got \[2, 16\] of torch.float32$"),
        ("rows", r": expected states \[2, 8\] from its forward, got \[8\] of torch.float32$"),
        ("pair", r": expected states \[2, 8\] from its forward, got tuple$"),
    ],
)
def test_a_block_that_does_not_work_is_named(how: str, message: str) -> None:
    spec = CustomTorsoSpec(block=partial(Linear, how=how), width=8)
    with pytest.raises(ConfigError, match=rf"^torso\.block: .*Linear.*{message}"):
        spec.make_block()


def test_trying_a_block_leaves_no_trace() -> None:
    spec = CustomTorsoSpec(block=Linear, width=8)
    torch.manual_seed(3)
    block = spec.make_block()
    assert isinstance(block, Linear)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(Linear(spec).linear.weight, block.linear.weight)
    assert torch.equal(torch.get_rng_state(), after)
    assert block.training
    assert block.norm.num_batches_tracked == 0
