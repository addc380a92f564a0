"""Captured state is restored bit for bit, with the same sharing of memory."""

from __future__ import annotations

import math
import random
from collections import OrderedDict, deque, namedtuple
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from deltarl.checkpoints.state import MisfitError, capture, restore
from tests.checkpoints.objects import Holder, reported, through_json

Point = namedtuple("Point", ["x", "y"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        10**40,
        0.1,
        -0.0,
        math.inf,
        "text",
        np.float32(0.1),
        np.int64(3),
        (1, "a"),
        [1, [2.5, None]],
        {"a": 1, 2: "b"},
        {1, 2},
        frozenset({"a"}),
        [0.1 * n for n in range(100)],
        list(range(100)),
        [10**40] * 100,
        OrderedDict(a=1),
    ],
    ids=repr,
)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    back = through_json(Holder(value=value), Holder(value=type(value)() if isinstance(value, dict | frozenset) else 0))
    assert repr(back.value) == repr(value)
    assert type(back.value) is type(value)


def test_nan_is_a_value() -> None:
    assert math.isnan(through_json(Holder(value=math.nan), Holder()).value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "uint32", "bool"])
def test_arrays_keep_their_type_and_shape(dtype: str) -> None:
    for array in (np.arange(6).reshape(2, 3).astype(dtype), np.zeros((0, 4), dtype), np.array(1).astype(dtype)):
        back = through_json(Holder(array=array), Holder(array=None)).array
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)


def test_a_snapshot_is_a_copy() -> None:
    holder = Holder(array=np.zeros(3), tensor=torch.zeros(3))
    snapshot = capture(holder)
    holder.array += 1
    holder.tensor += 1
    restore(holder, snapshot)
    assert not holder.array.any()
    assert not holder.tensor.any()


def test_named_tuples_and_deques_keep_their_kind() -> None:
    back = through_json(
        Holder(point=Point(1.0, [2]), last=deque([1, 2], maxlen=3)), Holder(point=Point(0, []), last=deque(maxlen=3))
    )
    assert back.point == Point(1.0, [2])
    assert isinstance(back.point, Point)
    assert back.last == deque([1, 2])
    assert back.last.maxlen == 3


def test_what_is_one_object_stays_one_and_what_is_two_becomes_two() -> None:
    shared = np.zeros(2)
    one = Holder(first=shared, second=shared)
    back = through_json(one, Holder(first=np.ones(2), second=np.ones(2)))
    assert back.first is back.second
    fresh = np.ones(2)
    back = through_json(Holder(first=np.zeros(2), second=np.zeros(2)), Holder(first=fresh, second=fresh))
    assert back.first is not back.second


def test_cycles_are_no_matter() -> None:
    def ring() -> Holder:
        holder = Holder(n=0)
        holder.child = Holder(parent=holder, items=[holder])
        return holder

    root = ring()
    root.n = 7
    back = through_json(root, ring())
    assert back.n == 7
    assert back.child.parent is back
    assert back.child.items[0] is back


def test_random_generators_continue_where_they_were() -> None:
    holder = Holder(numpy=np.random.default_rng(1), python=random.Random(1), space=gym.spaces.Box(-1, 1, (2,), seed=1))
    holder.numpy.normal(size=3)
    other = Holder(numpy=np.random.default_rng(2), python=random.Random(2), space=gym.spaces.Box(-1, 1, (2,)))
    back = through_json(holder, other)
    assert back.numpy.normal() == holder.numpy.normal()
    assert back.python.random() == holder.python.random()
    assert np.array_equal(back.space.sample(), holder.space.sample())


def test_a_network_and_its_optimizer_are_filled_in_place() -> None:
    def trained(seed: int, steps: int) -> Holder:
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1 / seed)
        for _ in range(steps):
            network(torch.randn(8, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return Holder(network=network, optimizer=optimizer, noise=torch.randn(2))

    one, other = trained(1, steps=3), trained(2, steps=0)
    parameters = list(other.network.parameters())
    back = through_json(one, other)
    assert all(kept is now for kept, now in zip(parameters, back.network.parameters(), strict=True))
    torch.manual_seed(5)
    batch = torch.randn(8, 3)
    for each in (one, back):
        each.network(batch).square().mean().backward()
        each.optimizer.step()
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, back.network.state_dict()[name]), name
    assert torch.equal(one.noise, back.noise)


def test_parameters_of_another_shape_are_a_misfit() -> None:
    snapshot = capture(torch.nn.Linear(3, 4))
    with pytest.raises(MisfitError, match=r"_parameters/weight: expected shape \(5, 3\), got \(4, 3\)"):
        restore(torch.nn.Linear(3, 5), snapshot)


@pytest.mark.parametrize(
    "env_id", ["HalfCheetah-v5", "Humanoid-v5", "Ant-v5", "Pusher-v5", "InvertedDoublePendulum-v5"]
)
def test_a_simulation_continues_to_the_last_bit(env_id: str) -> None:
    env, other = gym.make(env_id), gym.make(env_id)
    env.reset(seed=1)
    other.reset(seed=2)
    env.action_space.seed(3)
    for _ in range(30):
        env.step(env.action_space.sample())
    through_json(env, other)
    for _ in range(30):
        action = env.action_space.sample()
        assert np.array_equal(other.action_space.sample(), action)
        one, two = env.step(action), other.step(action)
        assert np.array_equal(one[0], two[0])
        assert one[1:4] == two[1:4]


def test_parameters_that_a_task_changes_in_the_model_come_back() -> None:
    env, other = gym.make("Hopper-v5"), gym.make("Hopper-v5")
    env.reset(seed=1)
    other.reset(seed=1)
    env.unwrapped.model.body_mass[2] = 7.0  # type: ignore[attr-defined]
    env.unwrapped.model.opt.gravity[2] = -5.0  # type: ignore[attr-defined]
    through_json(env, other)
    assert other.unwrapped.model.body_mass[2] == 7.0  # type: ignore[attr-defined]
    assert other.unwrapped.model.opt.gravity[2] == -5.0  # type: ignore[attr-defined]


def test_a_window_on_the_simulation_stays_one() -> None:
    env, other = gym.make("Hopper-v5"), gym.make("Hopper-v5")
    for each in (env, other):
        each.reset(seed=1)
        each.unwrapped.window = each.unwrapped.data.qpos[:2]  # type: ignore[attr-defined]
    env.step(env.action_space.sample())
    through_json(env, other)
    other.unwrapped.data.qpos[0] = 5.0  # type: ignore[attr-defined]
    assert other.unwrapped.window[0] == 5.0  # type: ignore[attr-defined]


def test_two_windows_on_a_simulation_are_told_apart() -> None:
    def built() -> Any:
        env = gym.make("Hopper-v5").unwrapped
        env.reset(seed=1)
        env.first, env.second = env.data.qpos, env.data.qpos[:2]  # type: ignore[attr-defined]
        return env

    env, other = built(), built()
    env.step(np.ones(3))
    through_json(env, other)
    env.second = env.data.qpos[1:3]
    back, lost = reported(env, built())
    assert lost == ["/second"]
    assert np.array_equal(back.data.qpos, env.data.qpos)


def test_another_simulation_is_a_misfit() -> None:
    env, other = gym.make("Hopper-v5"), gym.make("Walker2d-v5")
    snapshot = capture(env.unwrapped.data)  # type: ignore[attr-defined]
    with pytest.raises(MisfitError, match="the simulation has a different model"):
        restore(other.unwrapped.data, snapshot)  # type: ignore[attr-defined]


def test_what_cannot_be_stored_is_named_and_left_as_it_is() -> None:
    iterator = iter([1, 2])
    holder = Holder(source=iterator, n=1)
    snapshot = capture(holder)
    assert snapshot.unsupported == {"/source": "builtins.list_iterator"}
    other = Holder(source="own", n=0)
    restore(other, snapshot)
    assert (other.source, other.n) == ("own", 1)


class Counting(np.random.PCG64):
    """A generator whose state is in C and not visible in its attributes."""

    def __init__(self) -> None:
        super().__init__(0)
        self.n = 1


def test_what_a_class_of_c_may_hide_is_named() -> None:
    snapshot = capture(Holder(source=Counting(), n=1))
    assert snapshot.unsupported == {"/source": f"{__name__}.Counting"}


def test_an_object_that_is_not_there_yet_is_named() -> None:
    snapshot = capture(Holder(late=Holder(n=1), m=2))
    other = Holder(m=0)
    assert restore(other, snapshot) == (other, ["/late"])
    assert other.m == 2


def test_arrays_that_are_stored_elsewhere_are_referred_to() -> None:
    big, fresh = np.ones(1000), np.zeros(1000)
    snapshot = capture(Holder(big=big), {"big": big})
    assert snapshot.tensors == {}
    other = Holder(big=None)
    restore(other, snapshot, {"big": fresh})
    assert other.big is fresh
