"""Replay buffers that store each observation once give the samples of a plain buffer."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import fast
from deltarl.fast.off_policy.replay import sample
from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer, shared

ACTION = spaces.Box(-1, 1, (2,), np.float32)


def box(*shape: int, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(0, 1, shape, dtype)


def plain(slots: int, n_envs: int = 1, **options: Any) -> ReplayBuffer:
    return ReplayBuffer(slots * n_envs, box(3), ACTION, "cpu", n_envs=n_envs, **options)


class Pair:
    """A plain and a sharing buffer with the same transitions, from environments that end at random."""

    def __init__(self, slots: int, n_envs: int = 1, seed: int = 0, ends: float = 0.2, **options: Any) -> None:
        self.plain, self.shared = plain(slots, n_envs, **options), shared(plain(slots, n_envs, **options))
        assert isinstance(self.shared, SharedReplayBuffer)
        self.random, self.ends, self.n_envs = np.random.default_rng(seed), ends, n_envs
        self.reset()

    def reset(self) -> None:
        """Reset the environments in the middle of their episodes, as a second call of `learn` does."""
        self.observation = self.random.normal(size=(self.n_envs, 3))

    def step(self, steps: int = 1) -> Pair:
        for _ in range(steps):
            following = self.random.normal(size=(self.n_envs, 3))
            ended = self.random.random(self.n_envs) < self.ends
            infos = [{"TimeLimit.truncated": bool(end and self.random.random() < 0.5)} for end in ended]
            given = self.random.normal(size=(self.n_envs, 2)), self.random.normal(size=self.n_envs), ended, infos
            for buffer in (self.plain, self.shared):
                buffer.add(self.observation, following, *given)
            first = self.random.normal(size=(self.n_envs, 3))
            self.observation = np.where(ended[:, None], first, following)
        return self

    def check(self) -> None:
        """Assert that stored transitions, and both ways of sampling them, equal the plain buffer's to the last bit."""
        assert bits(self.shared.next_observations) == bits(self.plain.next_observations)
        for way in (lambda buffer: buffer.sample(16), lambda buffer: sample(buffer, 16, None)):
            assert_same(*(drawn(buffer, way) for buffer in (self.plain, self.shared)))
        assert_rows_are_whole(self.shared)


def drawn(buffer: ReplayBuffer, way: Any) -> tuple[Any, Any]:
    np.random.seed(0)
    return way(buffer), np.random.get_state()[2]


def bits(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype, np.asarray(array).tobytes()


def assert_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert one[1] == other[1]  # the same number of random numbers
    for theirs, own in zip(one[0], other[0], strict=True):
        assert (theirs is None and own is None) or bits(theirs) == bits(own)


def assert_rows_are_whole(buffer: SharedReplayBuffer) -> None:
    """Assert that each row is used once at most: by the newest transition or by one slot."""
    own = buffer.place[buffer.place >= buffer.n_envs].tolist()
    assert sorted(own + buffer.free) == list(range(buffer.n_envs, len(buffer.apart)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    slots=st.integers(1, 12),
    n_envs=st.integers(1, 3),
    ends=st.sampled_from([0, 0.1, 0.5, 1]),
    calls=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_samples_are_the_plain_buffers(slots: int, n_envs: int, ends: float, calls: list[int], seed: int) -> None:
    """The buffer wraps around several times; environments end separately, and `learn` is called several times."""
    both = Pair(slots, n_envs, seed, ends)
    for steps in calls:
        for _ in range(steps):
            both.step().check()
        both.reset()


def test_an_emptied_buffer_starts_over() -> None:
    both = Pair(5, 2).step(8)
    for buffer in (both.plain, both.shared):
        buffer.reset()
    both.step(3)
    assert both.shared.size() == 3
    assert_same(*(drawn(buffer, lambda each: each.sample(16)) for buffer in (both.plain, both.shared)))
    both.step(9).check()


def test_timeouts_are_not_looked_at_where_that_is_not_asked_for() -> None:
    both = Pair(9, handle_timeout_termination=False).step(20)
    assert not both.shared.timeouts.any()
    both.check()


def test_an_observation_is_stored_once_but_where_an_episode_ends() -> None:
    buffer = Pair(8, ends=0).step(6).shared
    np.testing.assert_array_equal(buffer.place[:, 0], [-1, -1, -1, -1, -1, 0, -1, -1])
    assert len(buffer.apart) == 1
    both = Pair(8, ends=0).step(3)
    both.reset()
    both.step(2)
    np.testing.assert_array_equal(both.shared.place[:5, 0], [-1, -1, 1, -1, 0])
    both = Pair(8, n_envs=2, ends=0).step(2)
    both.observation[1] = 0.5  # only that environment
    both.step(2)
    np.testing.assert_array_equal(both.shared.place[:4], [[-1, -1], [-1, 2], [-1, -1], [0, 1]])


def test_rows_of_overwritten_slots_are_used_again() -> None:
    """Their number is at most that of the episode ends in the buffer at one time, rounded up to a power of two."""
    buffer = Pair(10, ends=0.2).step(2_000).shared
    assert len(buffer.apart) <= 16
    always = Pair(10, 3, ends=1).step(100).shared
    assert len(always.apart) == (10 + 1) * 3


def test_what_is_not_a_number_follows_itself() -> None:
    """Positive and negative zero are equal, but not identical."""
    buffer = shared(plain(4))
    rest = np.zeros((1, 2)), np.zeros(1), np.zeros(1), [{}]
    buffer.add(np.zeros((1, 3)), np.array([[np.nan, 0.0, 1.0]]), *rest)
    buffer.add(np.array([[np.nan, 0.0, 1.0]]), np.array([[0.0, 0.0, 1.0]]), *rest)
    buffer.add(np.array([[-0.0, 0.0, 1.0]]), np.zeros((1, 3)), *rest)
    np.testing.assert_array_equal(buffer.place[:, 0], [-1, 1, 0, -1])
    assert np.isnan(buffer.next_observations[0, 0, 0])
    assert not np.signbit(buffer.next_observations[1, 0, 0])


def test_a_normalized_sample_is_the_plain_buffers() -> None:
    """An algorithm may be given a normalized environment later."""
    normalizer = VecNormalize(make_vec_env("Reacher-v5"))
    normalizer.obs_rms.mean = np.arange(3.0)
    normalizer.obs_rms.var = np.arange(1.0, 4.0)
    normalizer.ret_rms.var = np.array(4.0)
    both = Pair(9).step(20)
    for way in (lambda buffer: buffer.sample(16, normalizer), lambda buffer: sample(buffer, 16, normalizer)):
        assert_same(*(drawn(buffer, way) for buffer in (both.plain, both.shared)))


def test_next_observations_are_a_copy_that_cannot_be_written_to() -> None:
    """A change to the copy would be lost."""
    buffer = Pair(5).step(3).shared
    with pytest.raises(ValueError, match="read-only"):
        buffer.next_observations[0] = 0


def test_a_copy_continues_by_itself() -> None:
    both = Pair(9, 2).step(13)
    both.shared, kept = copy.deepcopy(both.shared), both.shared
    before = bits(kept.next_observations)
    both.step(7).check()
    assert type(both.shared) is SharedReplayBuffer
    assert bits(kept.next_observations) == before


def test_a_pickle_is_a_plain_buffer() -> None:
    """It can be loaded and continued without this library."""
    both = Pair(9, 2).step(13)
    content = pickle.dumps(both.shared)
    assert b"deltarl" not in content
    opened = pickle.loads(content)
    assert type(opened) is ReplayBuffer
    assert vars(opened).keys() == vars(both.plain).keys()
    both.plain, original = opened, both.plain
    both.step(5).check()
    assert opened.pos == (original.pos + 5) % 9


def test_other_buffers_stay_as_they_are() -> None:
    image = ReplayBuffer(4, spaces.Box(0, 255, (3, 8, 8), np.uint8), ACTION, "cpu")
    half = ReplayBuffer(4, box(3, dtype=np.float16), ACTION, "cpu")
    double = ReplayBuffer(4, box(3, dtype=np.float64), ACTION, "cpu")
    once = plain(4, optimize_memory_usage=True, handle_timeout_termination=False)
    used = Pair(4).step().plain
    steps = NStepReplayBuffer(4, box(3), ACTION, "cpu")
    goals = spaces.Dict({key: box(3) for key in ("observation", "achieved_goal", "desired_goal")})
    hindsight = HerReplayBuffer(100, goals, ACTION, make_vec_env("InvertedPendulum-v5"), "cpu")
    for buffer in (image, half, double, once, used, steps, hindsight, None):
        assert shared(buffer) is buffer


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, SharedReplayBuffer),
        ({"n_steps": 3}, NStepReplayBuffer),
        ({"replay_buffer_kwargs": {"handle_timeout_termination": False}, "optimize_memory_usage": True}, ReplayBuffer),
    ],
)
def test_algorithms_share_where_it_is_possible(given: dict[str, Any], kind: type) -> None:
    assert type(sac(**given).replay_buffer) is kind
    assert type(sac(env=VecNormalize(make_vec_env("Reacher-v5"))).replay_buffer) is ReplayBuffer


def sac(library: Any = fast, env: Any = "Reacher-v5", **options: Any) -> Any:
    sizes = {"buffer_size": 100, "learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [8]}}
    return library.SAC("MlpPolicy", env, seed=0, device="cpu", **{**sizes, **options})


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}


def test_a_quarter_of_the_memory_for_humanoid() -> None:
    """With a million transitions, none of which is written, so no memory is taken."""
    sizes = []
    for algorithm in (sb3.SAC, fast.SAC):
        buffer = algorithm("MlpPolicy", "Humanoid-v5", buffer_size=1_000_000, device="cpu").replay_buffer
        arrays = [value for value in vars(buffer).values() if isinstance(value, np.ndarray)]
        assert sum(len(array) == 1_000_000 for array in arrays) == 6
        sizes.append(sum(array.nbytes for array in arrays))
    assert sizes[1] / sizes[0] < 0.28


def test_training_is_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several environments, ending episodes, two calls of `learn`, and a buffer that wraps around."""
    learned = []
    for share in (lambda buffer: buffer, shared):
        monkeypatch.setattr("deltarl.fast.off_policy.algorithm.shared", share)
        model = sac(env=make_vec_env("InvertedPendulum-v5", 2, seed=0))
        model.learn(150)
        model.learn(151)
        assert model.replay_buffer.full
        learned.append(model)
    one, other = (model.replay_buffer for model in learned)
    assert type(one) is ReplayBuffer
    assert (other.place >= other.n_envs).any()
    assert bits(one.next_observations) == bits(other.next_observations)
    for key, tensor in weights(learned[0]).items():
        assert torch.equal(tensor, weights(learned[1])[key]), key


@pytest.mark.parametrize("ours_first", [True, False])
def test_files_of_buffers_go_both_ways(ours_first: bool, tmp_path: Path) -> None:
    """Training then continues from them."""
    first, second = (fast, sb3) if ours_first else (sb3, fast)
    env = make_vec_env("InvertedPendulum-v5", 2, seed=0)
    model = sac(first, env)
    model.learn(60)
    model.save_replay_buffer(tmp_path / "replay.pkl")
    loaded = sac(second, env)
    loaded.load_replay_buffer(tmp_path / "replay.pkl")
    assert type(loaded.replay_buffer) is ReplayBuffer
    assert loaded.replay_buffer.observations.dtype == (np.float32 if ours_first else np.float64)
    assert bits(loaded.replay_buffer.next_observations) == bits(model.replay_buffer.next_observations)
    before = weights(loaded)
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.replay_buffer.size() == 50
    assert any(not torch.equal(tensor, before[key]) for key, tensor in weights(loaded).items())
