"""Wrappers as data, and observations that are normalised by key."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import wrappers

from deltarl import ConfigError, load_config
from deltarl.checkpoints.state import capture, restore
from deltarl.envs import EnvSpec, build_envs, normalize
from deltarl.training.formats import load_normalizer, save_normalizer
from deltarl.wrappers import REFUSED, WRAPPERS, GymnasiumSpec

# A wrapper of each kind of argument, on Hopper, and whether it holds state.
ON_HOPPER: dict[str, tuple[dict[str, Any], bool]] = {
    "ClipAction": ({}, False),
    "ClipReward": ({"min_reward": 0.0, "max_reward": 0.5}, False),
    "DelayObservation": ({"delay": 2}, True),
    "DtypeObservation": ({"dtype": "float32"}, False),
    "FrameStackObservation": ({"stack_size": 3, "padding_type": "zero"}, True),
    "MaxAndSkipObservation": ({"skip": 2}, True),
    "RepeatAction": ({"num_repeats": 2}, False),
    "RescaleAction": ({"min_action": -2.0, "max_action": [2.0, 2.0, 3.0]}, False),
    "ReshapeObservation": ({"shape": [11, 1]}, False),
    "StickyAction": ({"repeat_action_probability": 0.5, "repeat_action_duration": [2, 3]}, True),
    "TimeAwareObservation": ({"normalize_time": True}, True),
}
OTHERS = {
    "DiscretizeAction",
    "DiscretizeObservation",
    "FilterObservation",
    "FlattenObservation",
    "GrayscaleObservation",
    "RescaleObservation",
    "ResizeObservation",
}


def hopper(name: str) -> EnvSpec:
    return EnvSpec(id="Hopper-v5", wrappers=[{"wrapper": name, **ON_HOPPER[name][0]}])


def test_every_wrapper_of_gymnasium_can_be_used_or_is_refused_with_a_reason() -> None:
    known = {spec.__name__.removesuffix("Spec") for spec in WRAPPERS if issubclass(spec, GymnasiumSpec)}
    assert known == set(ON_HOPPER) | OTHERS
    theirs = {name for name, kind in vars(wrappers).items() if isinstance(kind, type) and issubclass(kind, gym.Wrapper)}
    assert theirs - known == set(REFUSED)


# The wrapper lowers the precision of Hopper's infinite bounds.
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")
@pytest.mark.parametrize("name", ON_HOPPER)
def test_a_wrapper_does_what_gymnasiums_does(name: str) -> None:
    options = {key: tuple(x) if isinstance(x, list) else x for key, x in ON_HOPPER[name][0].items()}
    if name == "RescaleAction":
        options["max_action"] = np.array(options["max_action"])
    wrapped = getattr(wrappers, name)(gym.make("Hopper-v5"), **options)
    first, _ = wrapped.reset(seed=3)
    with closing(build_envs(hopper(name), seed=3, n_envs=1)) as envs:
        assert envs.observation_space == wrapped.observation_space
        assert envs.action_space == wrapped.action_space
        assert np.array_equal(envs.reset()[0], first)
        for _ in range(3):
            action = envs.action_space.sample().clip(-1, 1)
            observation, reward, *_ = wrapped.step(action)
            observations, rewards, *_ = envs.step(action[None])
            assert np.array_equal(observations[0], observation)
            assert rewards[0] == np.float32(reward)


@pytest.mark.parametrize("name", [name for name, (_, holds_state) in ON_HOPPER.items() if holds_state])
def test_the_state_of_a_wrapper_comes_back(name: str) -> None:
    with closing(build_envs(hopper(name), 1, 1)) as one, closing(build_envs(hopper(name), 2, 1)) as other:
        for each in (one, other):
            each.reset()
        for _ in range(5):
            one.step(np.array([one.action_space.sample()]))
        snapshot = capture({"envs": one})
        assert snapshot.unsupported == {}
        snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
        assert restore({"envs": other}, snapshot)[1] == []
        for _ in range(20):
            results = [each.step(np.array([each.action_space.sample()])) for each in (one, other)]
            assert np.array_equal(results[0][0], results[1][0])
            assert np.array_equal(results[0][1], results[1][1])


def test_clipped_rewards_leave_the_scores_as_they_are() -> None:
    spec = EnvSpec(id="Hopper-v5", wrappers=[{"wrapper": "ClipReward", "max_reward": 0.0}])
    with closing(build_envs(spec, 0, 1)) as envs:
        envs.reset()
        done = False
        while not done:
            _, [reward], [done], [info] = envs.step(np.zeros((1, 3)))
            assert reward <= 0
        assert info["episode"]["r"] > 0


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    spec = load_config("quickstart", "env.wrappers=[{wrapper: RescaleAction, min_action: -2, max_action: [2, 2, 3]}]")
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    assert load_config(str(path)) == spec


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("{wrapper: clip_reward}", r"wrappers\.0\.wrapper: unknown name 'clip_reward'; did you mean 'ClipReward'\?"),
        ("{wrapper: ClipReward, min_rewad: 1}", r"wrappers\.0\.min_rewad: unknown key; did you mean 'min_reward'\?"),
        ("{wrapper: RepeatAction}", r"wrappers\.0\.num_repeats: missing"),
        ("{wrapper: RepeatAction, num_repeats: two}", r"wrappers\.0\.num_repeats: input should be a valid integer"),
        ("{wrapper: NormalizeReward}", r"wrappers: NormalizeReward: use env\.normalize\.rewards=true, which leaves"),
        ("{wrapper: TransformReward}", "wrappers: TransformReward: its argument is a function; write a wrapper where"),
        ("{wrapper: TimeLimit, max_episode_steps: 5}", r"wrappers: TimeLimit: use env\.kwargs={max_episode_steps: N}"),
    ],
)
def test_a_wrong_wrapper_is_refused_in_one_line(wrapper: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^command line: env\.{message}") as caught:
        load_config("quickstart", f"env.wrappers=[{wrapper}]")
    assert "\n" not in str(caught.value)


# Normalisation by key

ONLY = {"observations": True, "keys": ["observation"]}


def test_only_the_given_entries_are_normalised_and_stored(tmp_path: Path) -> None:
    spec = EnvSpec(id="FetchReach-v4", normalize=ONLY)
    with closing(normalize(build_envs(spec, 0, 1), spec.normalize, 0.99)) as envs:
        seen: Any = envs.reset()
        assert (abs(seen["observation"]) < 0.01).all()  # the first is almost the mean
        for name in ("achieved_goal", "desired_goal"):
            assert np.array_equal(seen[name], envs.get_original_obs()[name])  # type: ignore[attr-defined]
        save_normalizer(envs, tmp_path / "normalizer.npz")  # type: ignore[arg-type]
        with np.load(tmp_path / "normalizer.npz") as stored:
            assert {name.partition("/")[2] for name in stored if name.startswith("obs")} == {
                f"observation/{part}" for part in ("mean", "var", "count")
            }
        with closing(normalize(build_envs(spec, 1, 1), spec.normalize, 0.99)) as others:
            load_normalizer(others, tmp_path / "normalizer.npz")  # type: ignore[arg-type]
            assert np.array_equal(others.normalize_obs(seen)["observation"], envs.normalize_obs(seen)["observation"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("env_id", "keys", "message"),
    [
        ("FetchReach-v4", ["observations"], "observations have no entry 'observations'; did you mean 'observation'"),
        ("Hopper-v5", ["observation"], r"observations are no Dict: Box\(-inf, inf, \(11,\), float64\); set it to null"),
    ],
)
def test_entries_that_do_not_exist_are_refused(env_id: str, keys: list[str], message: str) -> None:
    spec = EnvSpec(id=env_id, normalize={**ONLY, "keys": keys})
    with (
        closing(build_envs(spec, 0, 1)) as envs,
        pytest.raises(ConfigError, match=rf"^env\.normalize\.keys: {message}"),
    ):
        normalize(envs, spec.normalize, 0.99)
