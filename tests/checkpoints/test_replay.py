"""Segments of replay buffers that store each observation once: only changed ones are written, and all are restored."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.state import capture, restore
from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer, shared

SLOTS, SEGMENT_ROWS = 12, 2


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    row = sum(array[0].nbytes for array in Transitions(buffer()).arrays.values())
    monkeypatch.setattr("deltarl.checkpoints.replay.SEGMENT_BYTES", SEGMENT_ROWS * row)


def plain(n_envs: int = 1, dtype: Any = np.float32) -> ReplayBuffer:
    actions = spaces.Box(-1, 1, (1,), np.float32)
    return ReplayBuffer(SLOTS * n_envs, spaces.Box(-1, 1, (2,), dtype), actions, "cpu", n_envs=n_envs)


def buffer(n_envs: int = 1) -> SharedReplayBuffer:
    made = shared(plain(n_envs))
    assert isinstance(made, SharedReplayBuffer)
    return made


class Steps:
    """Transitions of environments whose episodes end at every second step."""

    def __init__(self, n_envs: int = 1) -> None:
        self.random, self.n_envs = np.random.default_rng(0), n_envs
        self.observation = self.random.normal(size=(n_envs, 2))

    def add_to(self, *buffers: ReplayBuffer, steps: int = 1) -> None:
        n = self.n_envs
        for _ in range(steps):
            following, ended = self.random.normal(size=(n, 2)), self.random.random(n) < 0.5
            for each in buffers:
                each.add(self.observation, following, np.zeros((n, 1)), np.ones(n), ended, [{}] * n)
            self.observation = np.where(ended[:, None], self.random.normal(size=(n, 2)), following)


def segments(of: ReplayBuffer) -> dict[int, bytes]:
    transitions = Transitions(of)
    return {index: transitions.read(index) for index in range(transitions.segments)}


@pytest.mark.parametrize("added", [1, 2, 3, 11, 12, 13])
def test_the_segments_that_differ_are_known(added: int) -> None:
    """They include the segment of the slot before, whose next observation becomes known only afterwards."""
    stored, steps = buffer(), Steps()
    for _ in range(20):
        before = segments(stored)
        steps.add_to(stored, steps=added)
        after = segments(stored)
        differ = {index for index in before if before[index] != after[index]}
        assert differ <= Transitions(stored).changed(added)
        assert after.keys() - before.keys() <= Transitions(stored).changed(added)
    # But not all of them.
    assert len(Transitions(stored).changed(1)) <= 2


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("taken", [1, 5, 12, 29])
def test_what_was_stored_is_restored_and_continued(taken: int, n_envs: int) -> None:
    """This includes arrays that have grown in the meantime, and their free rows."""
    stored, steps, restored = buffer(n_envs), Steps(n_envs), buffer(n_envs)
    steps.add_to(stored, steps=taken)
    snapshot = copy.deepcopy(capture(stored, Transitions(stored).arrays))
    assert not snapshot.unsupported
    into = Transitions(restored)
    for index, content in segments(stored).items():
        into.fill(index, content)
    _, missing = restore(restored, snapshot, into.arrays)
    assert missing == []
    for _ in range(20):
        steps.add_to(stored, restored)
        for name in ("place", "apart", "next_observations"):
            np.testing.assert_array_equal(getattr(restored, name), getattr(stored, name))
        assert restored.free == stored.free
        assert segments(restored) == segments(stored)


def test_as_many_rows_apart_as_slots_are_no_slots() -> None:
    """The number of rows may differ at the next checkpoint."""
    stored, layout = buffer(), Transitions(buffer()).layout
    stored.apart = np.zeros((SLOTS, 2), np.float32)
    assert Transitions(stored).layout == layout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transitions_that_were_stored_otherwise_stay_so(dtype: Any) -> None:
    """Runs of older versions have a plain buffer."""
    stored, steps = plain(dtype=dtype), Steps()
    steps.add_to(stored, steps=5)
    transitions = Transitions(buffer())
    transitions.adopt(Transitions(stored).layout)
    assert type(transitions.buffer) is ReplayBuffer
    assert transitions.layout == Transitions(stored).layout
    assert vars(transitions.buffer).keys() == vars(stored).keys()
    for index, content in segments(stored).items():
        transitions.fill(index, content)
    for name in ("observations", "next_observations"):
        np.testing.assert_array_equal(getattr(transitions.buffer, name), getattr(stored, name))


def test_transitions_that_were_stored_once_stay_so() -> None:
    transitions = Transitions(kept := buffer())
    transitions.adopt(Transitions(buffer()).layout)
    assert transitions.buffer is kept
