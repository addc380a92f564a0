"""DeepMind Control: episodes, frames, exact states, and what is said where it is not installed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnv

from deltarl import ConfigError, load_config, rendering, train
from deltarl.checkpoints.state import capture, restore
from deltarl.cli import main
from deltarl.envs import EnvSpec, build_envs
from deltarl.library import names
from deltarl.training.folder import UnregisteredError, load_spec, write_config
from deltarl.training.provenance import surroundings
from tests.shipped import marks_of

pytest.importorskip("shimmy", reason="needs pip install 'deltarl[dmc]'")
pytest.importorskip("dm_control", reason="needs pip install 'deltarl[dmc]'")

ONE = "dmc_cheetah_run"
EACH = [pytest.param(name, marks=marks_of(name)) for name in names("envs") if name.startswith("dmc_")]


def spec_of(name: str, **changes: Any) -> EnvSpec:
    return load_config("quickstart", f"env={name}").env.model_copy(update=changes)


def stepped(envs: VecEnv, steps: int) -> list[Any]:
    """Everything but the infos of that many random steps."""
    return [envs.step(np.array([envs.action_space.sample()]))[:3] for _ in range(steps)]


def test_an_episode_ends_after_1000_steps_by_truncation() -> None:
    with closing(build_envs(spec_of(ONE), seed=3, n_envs=1)) as envs:
        envs.reset()
        assert not any(done[0] for *_, done in stepped(envs, 999))
        *_, [done], [info] = envs.step(np.array([envs.action_space.sample()]))
        assert (done, info["TimeLimit.truncated"], info["episode"]["l"]) == (True, True, 1000)


def test_a_state_continues_to_the_last_bit_in_another_simulation() -> None:
    """In the middle of an episode, and into the next one."""
    with closing(build_envs(spec_of(ONE), 1, 1)) as one, closing(build_envs(spec_of(ONE), 2, 1)) as other:
        for each in (one, other):
            each.reset()
        stepped(one, 37)
        snapshot = capture({"envs": one})
        assert snapshot.unsupported == {}
        snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
        _, lost = restore({"envs": other}, snapshot)
        assert lost == []
        for first, second in zip(stepped(one, 1000), stepped(other, 1000), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def drawing() -> Iterator[None]:
    backend = rendering.working_backend()
    if backend is None:
        pytest.skip("no rendering backend works")
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = backend
    yield
    if before is None:
        del os.environ["MUJOCO_GL"]


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("name", EACH)
def test_a_frame_shows_the_task(name: str) -> None:
    kwargs = {"width": 96, "height": 64, **spec_of(name).kwargs}
    with closing(build_envs(spec_of(name, kwargs=kwargs), 1, 1, render_mode="rgb_array")) as envs:
        envs.reset()
        stepped(envs, 1)
        [first] = envs.get_images()
        stepped(envs, 30)
        [second] = envs.get_images()
        assert first is not None
        assert first.shape == (64, 96, 3)
        assert first.std() > 5
        assert not np.array_equal(first, second)


def test_a_second_has_as_many_steps_as_the_task_says() -> None:
    with closing(build_envs(spec_of(ONE), 1, 1)) as envs:
        assert envs.get_attr("metadata")[0]["render_fps"] == 100


@pytest.mark.usefixtures("drawing")
def test_the_camera_can_be_chosen() -> None:
    frames = []
    for camera in (0, 1):
        env = spec_of(ONE, kwargs={"camera_id": camera, "width": 64, "height": 64})
        with closing(build_envs(env, 1, 1, render_mode="rgb_array")) as envs:
            envs.reset()
            frames.append(envs.get_images()[0])
    assert not np.array_equal(*frames)


def test_a_checkpoint_records_the_versions_that_the_task_depends_on() -> None:
    versions = surroundings("dm_control/cheetah-run-v0")["packages"]
    assert versions.keys() - surroundings("Hopper-v5")["packages"].keys() == {"dm-control", "shimmy"}


def test_a_task_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no environment 'dm_control/cheeta-run-v0'; did you mean 'dm_control/chee"):
        load_config("quickstart", "env.id=dm_control/cheeta-run-v0")


def test_observations_with_numbers_that_no_policy_takes_have_to_be_flattened(tmp_path: Path) -> None:
    spec = load_config("quickstart", "env.id=dm_control/walker-walk-v0", f"out={tmp_path}")
    with pytest.raises(ConfigError, match=r"observation's 'height' is a number .*wrapper: flatten_observation"):
        train(spec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["shimmy", "dm_control"])
def test_the_extra_is_named_where_it_is_missing(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(load_config("quickstart", f"env={ONE}"), 0, tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    for env_id in [each for each in gym.registry if each.startswith("dm_control/")]:
        monkeypatch.delitem(gym.registry, env_id)
    monkeypatch.setattr(sys, "argv", ["deltarl", "show", "quickstart", f"env={ONE}"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert "'dm_control/cheetah-run-v0' needs DeepMind Control (" in said
    assert "pip install 'deltarl[dmc]'" in said
    assert "Traceback" not in said
    with pytest.raises(UnregisteredError, match=f"^{tmp_path}: 'dm_control/cheetah-run-v0' needs DeepMind Control"):
        load_spec(tmp_path)  # a run is not called damaged
