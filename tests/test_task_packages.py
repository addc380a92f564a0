"""DeepMind Control and Meta-World: episodes, frames, exact states, and what is said where they are not installed."""

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

CHEETAH, REACH, DOOR = "dmc_cheetah_run", "metaworld_reach", "metaworld_door_open"


def marked(name: str, *values: Any, slow: bool = True) -> Any:
    return pytest.param(name, *values, marks=marks_of(name, slow=slow))


EACH = [marked(name) for name in names("envs") if name.startswith(("dmc_", "metaworld_"))]
CHEETAH_AND_REACH = pytest.mark.parametrize("name", [marked(CHEETAH), marked(REACH)])
CHEETAH_ONLY = pytest.mark.parametrize("name", [marked(CHEETAH)])
REACH_ONLY = pytest.mark.parametrize("name", [marked(REACH)])


def spec_of(name: str, **changes: Any) -> EnvSpec:
    return load_config("quickstart", f"env={name}").env.model_copy(update=changes)


def stepped(envs: VecEnv, steps: int) -> list[Any]:
    """Everything but the infos of that many random steps."""
    return [envs.step(np.array([envs.action_space.sample()]))[:3] for _ in range(steps)]


@pytest.mark.parametrize(("name", "length"), [marked(CHEETAH, 1000), marked(REACH, 500)])
def test_an_episode_ends_by_truncation(name: str, length: int) -> None:
    with closing(build_envs(spec_of(name), seed=3, n_envs=1)) as envs:
        envs.reset()
        assert not any(done[0] for *_, done in stepped(envs, length - 1))
        *_, [done], [info] = envs.step(np.array([envs.action_space.sample()]))
        assert (done, info["TimeLimit.truncated"], info["episode"]["l"]) == (True, True, length)


@CHEETAH_AND_REACH
def test_a_state_continues_to_the_last_bit_in_another_simulation(name: str) -> None:
    """In the middle of an episode, and into the next one."""
    with closing(build_envs(spec_of(name), 1, 1)) as one, closing(build_envs(spec_of(name), 2, 1)) as other:
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


@pytest.mark.parametrize(("name", "rate"), [marked(CHEETAH, 100), marked(REACH, 80)])
def test_a_second_has_as_many_steps_as_the_task_says(name: str, rate: int) -> None:
    with closing(build_envs(spec_of(name), 1, 1)) as envs:
        assert envs.get_attr("metadata")[0]["render_fps"] == rate


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize(
    ("name", "cameras"),
    [
        marked(CHEETAH, [{"camera_id": 0}, {"camera_id": 1}]),
        marked(REACH, [{"camera_name": "corner"}, {"camera_name": "topview"}]),
    ],
)
def test_the_camera_can_be_chosen(name: str, cameras: list[dict[str, Any]]) -> None:
    frames = []
    for camera in cameras:
        env = spec_of(name, kwargs={**camera, "width": 64, "height": 64})
        with closing(build_envs(env, 1, 1, render_mode="rgb_array")) as envs:
            envs.reset()
            frames.append(envs.get_images()[0])
    assert not np.array_equal(*frames)


@pytest.mark.usefixtures("drawing")
@REACH_ONLY
@pytest.mark.parametrize("camera", ["corner", "corner2", "corner4"])
def test_the_table_is_below(name: str, camera: str) -> None:
    """Above it is an even background; not turned, two of these cameras show that below."""
    env = spec_of(name, kwargs={"camera_name": camera, "width": 64, "height": 64})
    with closing(build_envs(env, 1, 1, render_mode="rgb_array")) as envs:
        envs.reset()
        [frame] = envs.get_images()
    assert frame is not None
    assert frame[:6].std() < frame[-6:].std()


@pytest.mark.parametrize(
    ("name", "packages"), [marked(CHEETAH, {"dm-control", "shimmy"}), marked(REACH, {"metaworld"})]
)
def test_a_checkpoint_records_the_versions_that_the_task_depends_on(name: str, packages: set[str]) -> None:
    versions = surroundings(spec_of(name).id)["packages"]
    assert versions.keys() - surroundings("Hopper-v5")["packages"].keys() == packages


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        marked(CHEETAH, "dm_control/cheeta-run-v0", "no environment .*; did you mean 'dm_control/cheetah-run-v0'"),
        marked(REACH, "Meta-World/reac-v3", "no environment .*; did you mean 'Meta-World/reach-v3'"),
        marked(
            REACH, "Meta-World/MT1", "'Meta-World/MT1' stands for several tasks; give one .*'?Meta-World/assembly-v3"
        ),
    ],
)
def test_an_id_that_is_no_task_is_refused(name: str, wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("quickstart", f"env={name}", f"env.id={wrong}")


@pytest.mark.parametrize(
    ("name", "missing", "title", "extra"),
    [
        marked(CHEETAH, "shimmy", "DeepMind Control", "dmc"),
        marked(CHEETAH, "dm_control", "DeepMind Control", "dmc"),
        marked(REACH, "metaworld", "Meta-World", "metaworld"),
    ],
)
def test_the_extra_is_named_where_it_is_missing(  # noqa: PLR0917
    name: str,
    missing: str,
    title: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env_id = spec_of(name).id
    write_config(load_config("quickstart", f"env={name}"), 0, tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    for each in [each for each in gym.registry if each.startswith(env_id.partition("/")[0])]:
        monkeypatch.delitem(gym.registry, each)
    monkeypatch.setattr(sys, "argv", ["deltarl", "show", "quickstart", f"env={name}"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"'{env_id}' needs {title} (" in said
    assert f"pip install 'deltarl[{extra}]'" in said
    assert "Traceback" not in said
    with pytest.raises(UnregisteredError, match=f"^{tmp_path}: '{env_id}' needs {title}"):
        load_spec(tmp_path)  # a run is not called damaged


@CHEETAH_ONLY
def test_observations_with_numbers_that_no_policy_takes_have_to_be_flattened(name: str, tmp_path: Path) -> None:
    spec = load_config("quickstart", f"env={name}", "env.id=dm_control/walker-walk-v0", "env.wrappers=[]")
    with pytest.raises(ConfigError, match=r"observation's 'height' is a number .*wrapper: flatten_observation"):
        train(spec.model_copy(update={"out": tmp_path}))
    assert list(tmp_path.iterdir()) == []


@REACH_ONLY
def test_the_seed_decides_the_goals_and_each_episode_has_its_own(name: str) -> None:
    goals = []
    for seed in (5, 5, 6):
        with closing(build_envs(spec_of(name), seed, 1)) as envs:
            first = envs.reset()[0, 36:]
            stepped(envs, 500)
            goals.append((first, envs.reset()[0, 36:]))
    np.testing.assert_array_equal(goals[0], goals[1])
    assert not np.array_equal(*goals[0])
    assert not np.array_equal(goals[0][0], goals[2][0])


@pytest.mark.parametrize("name", [marked(REACH), marked(DOOR)])
def test_observations_are_in_their_space_also_the_first(name: str) -> None:
    """A goal is only in the space of tasks that show it."""
    env = gym.make(spec_of(name).id)
    with closing(env):
        for seed in range(5):
            observation, _ = env.reset(seed=seed)
            assert env.observation_space.contains(observation)
            assert env.observation_space.contains(env.step(env.action_space.sample())[0])
