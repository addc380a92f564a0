"""Observations that are drawn."""

from __future__ import annotations

import gc
import json
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from deltarl import ConfigError, load_config, rendering
from deltarl.checkpoints.state import capture, restore
from deltarl.envs import EnvSpec, build_envs, normalize


@pytest.fixture(scope="module")
def backend() -> str:
    if (found := rendering.working_backend()) is None:
        pytest.skip(f"nothing can be drawn here; {rendering.PACKAGES}")
    return found


@pytest.fixture(autouse=True)
def _draws(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", backend)


def pendulum(steps: int = 1000, **options: Any) -> EnvSpec:
    wrapper: Any = {"wrapper": "pixels", "size": 32, **options}
    return EnvSpec(id="InvertedPendulum-v5", kwargs={"max_episode_steps": steps}, wrappers=(wrapper,))


def test_an_observation_is_the_last_frames_of_its_episode_oldest_first() -> None:
    with closing(build_envs(pendulum(steps=4), 3, 1)) as envs:
        assert envs.observation_space.shape == (9, 32, 32)
        observations = envs.reset()

        def drawn() -> Any:
            [frame] = envs.get_images()
            assert frame is not None
            return frame.transpose(2, 0, 1)

        past = [drawn()] * 3
        assert past[0].any()
        for _ in range(10):
            assert observations.dtype == np.uint8
            assert np.array_equal(observations[0], np.concatenate(past[-3:]))
            observations, _, [done], _ = envs.step(np.array([[0.5]]))
            past = [drawn()] * 3 if done else [*past, drawn()]
        assert not np.array_equal(past[-1], past[-2])


def test_the_state_comes_back() -> None:
    with closing(build_envs(pendulum(), 1, 1)) as one, closing(build_envs(pendulum(), 2, 1)) as other:
        for each in (one, other):
            each.reset()
        one.step(np.array([[0.5]]))
        snapshot = capture({"envs": one})
        assert snapshot.unsupported == {}
        snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
        assert restore({"envs": other}, snapshot)[1] == []
        for _ in range(5):
            results = [each.step(np.array([[0.3]]))[0] for each in (one, other)]
            assert np.array_equal(*results)


def test_the_camera_follows_the_body_and_there_are_no_shadows() -> None:
    """As in films, so that a policy sees in one what it sees in training."""
    spec = EnvSpec(id="Hopper-v5", wrappers=[{"wrapper": "pixels", "size": 32, "stack": 1}])  # type: ignore[list-item]
    with closing(build_envs(spec, 0, 1)) as envs:
        before = envs.reset()
        [task] = envs.get_attr("unwrapped")
        assert task.mujoco_renderer.camera_id >= 0
        rendering.without_shadows(task)
        [frame] = envs.get_images()
        assert frame is not None
        assert np.array_equal(before[0], frame.transpose(2, 0, 1))


def test_an_environment_draws_on_after_another_one_was_closed() -> None:
    """As training does after an evaluation."""
    with closing(build_envs(pendulum(), 1, 1)) as alone:
        alone.reset()
        expected = [alone.step(np.array([[0.5]]))[0] for _ in range(4)]
    with closing(build_envs(pendulum(), 1, 1)) as envs:
        envs.reset()
        with closing(build_envs(pendulum(), 2, 1)) as other:
            other.reset()
            seen = [envs.step(np.array([[0.5]]))[0] for _ in range(2)]
        seen += [envs.step(np.array([[0.5]]))[0] for _ in range(2)]
    assert np.array_equal(seen, expected)
    assert all(frames.any() for frames in seen)


def test_environments_one_after_the_other_draw_the_same() -> None:
    firsts = []
    for _ in range(3):
        with closing(build_envs(pendulum(), 1, 1)) as envs:
            firsts.append(envs.reset())
        gc.collect()
    assert firsts[0].any()
    assert np.array_equal(firsts[0], firsts[1])
    assert np.array_equal(firsts[0], firsts[2])


def test_images_are_not_normalised_but_rewards_are() -> None:
    spec = EnvSpec.model_validate({**pendulum().model_dump(), "normalize": {"observations": True, "rewards": True}})
    with closing(normalize(build_envs(spec, 0, 1), spec.normalize, 0.99)) as envs:
        assert envs.observation_space.dtype == np.uint8
        assert envs.reset().dtype == np.uint8
        assert envs.norm_reward  # type: ignore[attr-defined]
        assert not envs.norm_obs  # type: ignore[attr-defined]
    only = spec.normalize.model_copy(update={"rewards": False})
    with closing(build_envs(spec, 0, 1)) as plain:
        assert normalize(plain, only, 0.99) is plain


def test_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^env\.wrappers: pixels draws the observations.*--video FILE"):
        build_envs(pendulum(), 0, 1, render_mode="human")


@pytest.mark.parametrize(
    ("option", "message"),
    [("size: 8", "size: input should be greater than or equal to 16"), ("stack: 0", "stack: input should be greater")],
)
def test_a_wrong_option_is_refused_in_one_line(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^command line: env\.wrappers\.0\.{message}") as caught:
        load_config("quickstart", f"env.wrappers=[{{wrapper: pixels, {option}}}]")
    assert "\n" not in str(caught.value)
