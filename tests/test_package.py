"""The package as a whole: its imports and public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import deltarl

ROOT = Path(__file__).parents[1]
# Windows has neither.
WITHOUT_POSIX = """
import signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del signal.SIGUSR1

import io, json
from pathlib import Path
import deltarl
from rich.console import Console

assert "torch._dynamo" not in sys.modules  # a second and a half of every command

spec = deltarl.load_config(
    "quickstart", "total_timesteps=32", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "env.n_envs=2",
    "torso.width=8", "eval.episodes=1", "eval.every=null", "device=cpu", "name=test", f"out={sys.argv[1]}",
)
[result] = deltarl.train(spec, Console(file=io.StringIO()))
print(result.status, result.peak_memory_mib)
"""


def test_it_trains_without_file_locks_and_says_so(tmp_path: object) -> None:
    command = [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "finished None\n", ended.stderr
    assert ended.stderr.count("no file locks") == 1


def test_what_is_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["title"].partition(":")[0], cited["version"]) == ("deltarl", deltarl.__version__)
    assert f"version = {{{deltarl.__version__}}}" in (ROOT / "README.md").read_text()


def test_public_names_are_sorted_and_there() -> None:
    assert deltarl.__all__ == sorted(deltarl.__all__)
    assert {name for name in deltarl.__all__ if not hasattr(deltarl, name)} == set()
    assert deltarl.GateCallback is deltarl.gates.GateCallback


@pytest.mark.parametrize("room", ["", ".agents", ".comparison", ".launch", ".library", ".torsos", ".training"])
def test_names_that_are_imported_on_access_are_those_that_type_checkers_see(room: str) -> None:
    package = f"deltarl{room}"
    module = import_module(package)
    assert module.__file__ is not None
    seen = [
        inner
        for node in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in node.body
    ]
    assert seen
    homes = {name.name: node.module for node in seen if isinstance(node, ast.ImportFrom) for name in node.names}
    assert homes.keys() <= set(dir(module))
    for name, home in homes.items():
        assert home is not None
        there = import_module(f"{home}.{name}") if home == package else getattr(import_module(home), name)
        assert getattr(module, name) is there
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize(
    "first",
    [
        "import deltarl, sb3_contrib",  # which imports stable_baselines3 while half imported itself
        "from deltarl import DeltaBlock",  # which imports sb3_contrib before modules that the policies need
    ],
)
def test_aliases_are_there_however_the_algorithms_come_to_be_imported(first: str) -> None:
    code = f"""
{first}
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO

assert "DeltaPolicy" in PPO.policy_aliases
assert "DeltaLstmPolicy" in RecurrentPPO.policy_aliases
"""
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


REFUSED = """
import sys
from deltarl.cli import main

heavy = {"torch", "stable_baselines3", "sb3_contrib", "matplotlib", "pandas", "scipy", "tensorboard", "mujoco"}
for arguments in (
    ["--help"], ["train", "--help"], ["train", "--fast"], ["trian", "quickstart"], ["train"], ["schema", "confg"],
    ["train", "quickstart", "--jobs", "0"], ["gates", "nowhere"], ["list", "runs", "--out", "nowhere"],
    ["copy", "quikstart"], ["compare", "quick", "--shard", "3/2"], ["compare", "quik"], ["train", "quikstart"],
    ["train", "quickstart", "gamma"], ["show", "quickstart", "gamma="], ["show", "quikstart"], ["evaluate", "nowhere"],
    ["resume", "nowhere"], ["report", "nowhere"], ["play", "nowhere"], ["plot", "nowhere"], ["list", "runz"],
    ["resume", "."], ["report", "."], ["play", "."], ["gates", "."], ["evaluate", "."], ["validate", "nowhere.yaml"],
    ["train", "quickstart", "torso.widht=3"], ["train", "quickstart", "torso.heads=5"], ["train", "quickstart", "g=1"],
    ["show", "quickstart", "agent.gama=1"], ["train", "quickstart", "torso=dleta"], ["train", "quickstart", "env=hopr"],
    ["compare", "quick", "arms.delta.torso=dleta"], ["compare", "quick", "sedes=[1]"],
):
    sys.argv = ["deltarl", *arguments]
    try:
        main()
    except SystemExit as exit_:
        assert exit_.code == (0 if "--help" in arguments else 2), arguments
    assert not heavy & sys.modules.keys(), arguments
"""


def test_help_and_refusals_import_nothing_that_is_slow(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REFUSED], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stderr.splitlines()) == 34
