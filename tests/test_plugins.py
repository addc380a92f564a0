"""User-defined environments: modules that register them, and messages if they are missing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from deltarl import ConfigError, load_config, plugins, train
from deltarl.envs import build_envs
from deltarl.own_tasks import misfit
from deltarl.training.folder import UnregisteredError, load_spec
from tests.quick import Deltarl

MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class {name}(gym.Env):
    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2, 2), np.float32)  # a matrix

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {{}}

    def step(self, action):
        assert action.shape == (2, 2)
        return np.zeros(3, np.float32), 0.0, False, False, {{}}


gym.register("{name}-v0", entry_point="{module}:{name}", max_episode_steps=5)
"""
QUICK = ("total_timesteps=32", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "env.n_envs=2")
SMALL = (
    *QUICK,
    "torso.width=8",
    "torso.depth=1",
    "gates.every=16",
    "gates.rows=8",
    "eval.episodes=1",
    "eval.every=null",
    "device=cpu",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with two modules; imports and registrations are undone at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules, registered = set(sys.modules), set(gym.registry)
    for name in ("one", "two"):
        text = MODULE.format(name=f"Own{name.title()}", module=f"own_{name}")
        (tmp_path / f"own_{name}.py").write_text(text)
    yield tmp_path
    os.environ.pop(plugins.VARIABLE, None)
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]
    for env in set(gym.registry) - registered:
        if env.startswith("Own"):
            del gym.registry[env]


@pytest.mark.parametrize("name", ["own_one", "own_one.py", "./own_one.py"])
def test_a_module_is_imported_by_name_or_file_once(name: str, folder: Path) -> None:
    plugins.add([name])
    plugins.add(["own_two", name])
    assert load_config("quickstart", "env.id=OwnOne-v0").env.id == "OwnOne-v0"
    assert {"OwnOne-v0", "OwnTwo-v0"} <= set(gym.registry)
    # Files are named by absolute paths, for processes in other folders.
    assert plugins.named() == [str(folder / "own_one.py") if name.endswith(".py") else name, "own_two"]


def test_a_module_that_was_edited_has_another_digest(folder: Path) -> None:
    plugins.add(["own_one.py"])
    before = plugins.digests()
    assert list(before) == ["own_one.py"]
    (folder / "own_one.py").write_text((folder / "own_one.py").read_text() + "\n")
    assert plugins.digests() != before


def test_the_variable_alone_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join(["own_one", str(folder / "own_two.py")]))
    spec = load_config("quickstart", "env.id=OwnTwo-v0").env
    del sys.modules["own_two"], gym.registry["OwnTwo-v0"]  # as in a process that receives only the spec
    build_envs(spec, seed=0, n_envs=1).close()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere.py", None, "nowhere.py: no such file"),
        ("own_missing", None, "own_missing: ModuleNotFoundError: No module named 'own_missing'; the path of a file"),
        ("own_broken.py", "1 / 0", "own_broken.py: ZeroDivisionError: division by zero"),
        ("own_script.py", "raise SystemExit(3)", "own_script.py: SystemExit: 3"),
        ("json.py", "", f"another module is called 'json' ({json.__file__}); rename the file"),
        (f"a{os.pathsep}b.py", None, "must not contain"),
    ],
)
def test_import_errors_are_one_line(name: str, text: str | None, message: str, folder: Path) -> None:
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        plugins.add([name])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_says_which_module_its_environment_needs(
    folder: Path, deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, then evaluate without and with the module; the environment's constructor has no `render_mode`."""

    def run(*arguments: str) -> tuple[int, str]:
        status, out, error = deltarl(*arguments)
        return status, out + error

    status, said = run("train", "quickstart", "--import", "own_one.py", "env.id=OwnOne-v0", *SMALL, "name=own")
    assert status == 0, said
    assert json.loads(Path("runs/own/seed-0/provenance.json").read_text())["imports"] == [str(folder / "own_one.py")]

    del sys.modules["own_one"], gym.registry["OwnOne-v0"]
    monkeypatch.delenv(plugins.VARIABLE)
    with pytest.raises(UnregisteredError):
        load_spec(Path("runs/own/seed-0"))
    advice = (
        f"no environment 'OwnOne-v0' is registered; it was trained with --import {folder}/own_one.py; give this again"
    )
    for verb in ("evaluate", "resume", "gates"):
        status, said = run(verb, "runs/own/seed-0")
        assert (status, "damaged" in said) == (2, False)
        assert advice in said
    status, said = run("list", "runs")
    assert "unregistered" in said
    assert advice in said

    status, said = run("gates", "runs/own/seed-0", "--episode", "--import", "own_one.py")
    assert status == 0, said


def test_a_video_of_an_environment_without_frames_is_refused_before_anything_is_written(folder: Path) -> None:
    plugins.add(["own_one"])
    spec = load_config("quickstart", "env.id=OwnOne-v0", *SMALL, "eval.video=true")
    with pytest.raises(ConfigError, match="OwnOne-v0 cannot be rendered: rgb_array is not among its render_modes"):
        train(spec)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("render", ["return None", "raise ImportError('no renderer')"])
def test_so_is_one_of_what_cannot_draw_here(render: str, folder: Path) -> None:
    (folder / "own_blind.py").write_text(
        MODULE.format(name="OwnBlind", module="own_blind").replace(
            "    def step",
            f"    metadata = {{'render_modes': ['rgb_array']}}\n\n    def render(self):\n        {render}"
            "\n\n    def __init__(self, render_mode=None):\n        self.render_mode = render_mode\n\n    def step",
        )
    )
    plugins.add(["own_blind"])
    spec = load_config("quickstart", "env.id=OwnBlind-v0", *SMALL, "eval.video=true")
    with pytest.raises(ConfigError, match="OwnBlind-v0 cannot be rendered: "):
        train(spec)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("registers", ["'OwnOne-v0'", "'Hopper-v5'"])
def test_an_id_that_is_taken_is_refused(registers: str, folder: Path) -> None:
    plugins.add(["own_one"])
    text = (folder / "own_two.py").read_text().replace('"OwnTwo-v0"', registers)
    (folder / "own_two.py").write_text(text)
    taken = dict(gym.registry)
    home = "own_one" if "Own" in registers else "gymnasium.envs.mujoco.hopper_v5"
    for _ in range(2):  # it does not count as imported
        with pytest.raises(ConfigError) as caught:
            plugins.add(["own_two.py"])
        assert str(caught.value).endswith(
            f"own_two.py: registers {registers}, which {home} has registered before; choose another id"
        )
    assert gym.registry == taken


def test_a_missing_environment_is_refused_with_what_the_modules_register(folder: Path) -> None:
    (folder / "own_none.py").write_text("x = 1\n")
    plugins.add(["own_one", "own_none.py"])
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", "env.id=Qqqqq-v0")
    assert str(caught.value).endswith(
        "no environment 'Qqqqq-v0'; own_one registers OwnOne-v0, own_none.py registers no environment of its own"
    )
    load_config("quickstart")  # a module may hold no environment


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"(3,)": "(0,)"}, r"its observation_space is empty: Box\(\[\], \[\], \(0,\), float32\)"),
        (
            {"def reset": "def __init__(self):\n        self.observation_space = spaces.Box(-1, 1, (next(SIZES),))\n\n"
            "    def reset", "import gym": "import itertools\nSIZES = itertools.count(3)\nimport gym"},
            r"its observation_space changes between constructions: Box\(-1.0, 1.0, \(5,\), float32\), then Box",
        ),
        (
            {"return np.zeros(3, np.float32), {}": "self.n = getattr(self, 'n', 2) + 1\n"
            "        return np.zeros(self.n, np.float32), {}"},
            r"reset 2 returns an observation of shape \(4,\), its observation_space has \(3,\)",
        ),
    ],
)  # fmt: skip
def test_spaces_that_are_empty_or_change_are_refused_before_anything_is_written(
    changes: dict[str, str], message: str, folder: Path
) -> None:
    text = (folder / "own_one.py").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "own_one.py").write_text(text)
    plugins.add(["own_one"])
    with pytest.raises(ConfigError, match=f"^env: OwnOne-v0: {message}"):
        train(load_config("quickstart", "env.id=OwnOne-v0", *SMALL))
    assert not (folder / "runs").exists()


def test_a_dict_that_does_not_fit_its_space_names_the_entry() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Dict({"c": spaces.Discrete(3)})})
    assert misfit({"a": np.zeros(2), "b": {"c": 1}}, space) == ""
    assert misfit({"a": np.zeros(3), "b": {"c": 1}}, space).startswith("an observation['a'] of shape (3,), its")
    assert misfit({"a": np.zeros(2)}, space) == "an observation with ['a'], its observation_space has ['a', 'b']"


@pytest.mark.parametrize("method", ["reset", "step"])
def test_an_environment_that_ends_the_process_is_no_success(method: str, folder: Path, deltarl: Deltarl) -> None:
    head = {"reset": "super().reset(seed=seed)", "step": "assert action.shape == (2, 2)"}[method]
    text = MODULE.format(name="OwnEnd", module="own_end").replace(head, "raise SystemExit(0)")
    (folder / "own_end.py").write_text(text)
    arguments = ("train", "quickstart", "--import", "own_end.py", "env.id=OwnEnd-v0", *SMALL)
    status, _, said = deltarl(*arguments)
    assert status == 1
    assert "deltarl: error: your own code ended the process: SystemExit(0)" in said


def test_typos_are_answered_with_the_nearest_name(folder: Path) -> None:
    assert folder.is_dir()
    with pytest.raises(
        ConfigError, match="'own_one:OwnOne-v0' names a module to import; give --import own_one, and 'Own"
    ):
        load_config("quickstart", "env.id=own_one:OwnOne-v0")
    with pytest.raises(
        ConfigError, match="no environment 'Qqqqq-v0'; to use one of your own, give the module that registers it: --i"
    ):
        load_config("quickstart", "env.id=Qqqqq-v0")
