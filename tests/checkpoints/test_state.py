"""Captured state is restored bit for bit, with the same sharing of memory."""

from __future__ import annotations

import json
import math
import random
from collections import OrderedDict, defaultdict, deque, namedtuple
from enum import Enum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import BasePolicy

import deltarl.blocks
import deltarl.specs
import deltarl.torso
from deltarl.checkpoints.state import MisfitError, capture, restore
from deltarl.checkpoints.state.kinds import name_of_class
from deltarl.torsos import DeltaTorsoSpec, ResidualTorsoSpec, Torso

MOVED = [(deltarl.torso, "Torso")]
MOVED += [(deltarl.specs, name) for name in deltarl.specs.__all__]
MOVED += [(deltarl.blocks, name) for name in deltarl.blocks.__all__ if name != "ACTIVATIONS"]
SMALL: dict[str, Any] = {"width": 8, "depth": 1}

Point = namedtuple("Point", ["x", "y"])


class Holder:
    """Any object with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def through_json(root: Any, into: Any) -> Any:
    """Fill `into` from a capture of `root` that was written as JSON."""
    snapshot = capture(root)
    assert snapshot.unsupported == {}
    snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
    filled, missing = restore(into, snapshot)
    assert missing == []
    return filled


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


def test_random_generators_go_on_where_they_were() -> None:
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


# What other people's environments hold.


class Phase(Enum):
    """The phase of a state machine."""

    swing = 1
    stance = 2


class Word(StrEnum):
    """An enum whose members are strings."""

    yes = "yes"
    no = "no"


def reported(root: Any, into: Any) -> tuple[Any, list[str]]:
    """Like `through_json`, but also returns what could not be stored or restored."""
    snapshot = capture(root)
    snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
    filled, missing = restore(into, snapshot)
    return filled, [*snapshot.unsupported, *missing]


@pytest.mark.parametrize(
    "value",
    [Phase.stance, Word.no, [Phase.swing, Phase.stance], {Phase.stance: 2}, b"\x00\xff", range(2, 9, 3)],
    ids=str,
)
def test_members_of_enums_bytes_and_ranges_are_values(value: Any) -> None:
    for fresh in (value, None):
        back = through_json(Holder(value=value), Holder(value=fresh)).value
        assert back == value
        assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        {(0, 1): "a", (2, 3): "b"},
        {np.int64(1): "a", np.int64(2): "b"},
        {"a": {"b": np.zeros(1)}, "a/b": np.ones(1)},
        {1: np.zeros(1), "1": np.ones(1)},
        {frozenset({1}): 2},
    ],
    ids=str,
)
def test_keys_of_any_kind_keep_their_values(value: dict[Any, Any]) -> None:
    key = next(iter(value))
    back = through_json(Holder(current=key, value=value), Holder(current=None, value={}))
    assert repr(back.value) == repr(value)
    assert back.current == key


def test_what_was_one_in_a_fresh_build_can_be_two() -> None:
    home: list[int] = [1]
    child = Holder(n=1)
    fresh = Holder(home=home, goal=home, mine=child, theirs=child)
    captured = Holder(home=[1], goal=[2], mine=Holder(n=1), theirs=Holder(n=2))
    back, lost = reported(captured, fresh)
    assert (back.home, back.goal) == ([1], [2])
    assert back.mine.n == 1
    assert lost == ["/theirs"]  # objects are not created from a file


def test_an_object_of_another_class_is_named_and_left() -> None:
    class Other(Holder):
        pass

    back, lost = reported(Holder(strategy=Other(n=1)), Holder(strategy=Holder(n=0)))
    assert back.strategy.n == 0
    assert lost == ["/strategy"]


def test_what_has_no_place_is_left_as_it_is_and_never_none() -> None:
    late = Holder(n=1)
    captured = Holder(cached=late, again=late, items=[Holder(n=1), Holder(n=2)], m=1)
    back, lost = reported(captured, Holder(items=[Holder(n=0)], m=0))
    assert vars(back).keys() == {"items", "m"}
    assert len(back.items) == 1
    assert back.m == 1
    assert lost == ["/cached", "/items/1", "/again"]


def test_what_cannot_be_stored_may_be_met_twice() -> None:
    generator = iter([1])
    back, lost = reported(Holder(a=generator, b=generator), Holder(a="own", b="own"))
    assert (back.a, back.b) == ("own", "own")
    assert lost == ["/a", "/b"]


def test_types_that_come_late_are_kept_or_named() -> None:
    counts = defaultdict(lambda: 0, a=1)
    captured = Holder(point=Point(1, 2), counts=counts, ordered=OrderedDict(a=1), rng=random.Random(3))
    back, lost = reported(captured, Holder(point=None, counts=None, ordered=None, rng=None))
    assert back.point == Point(1, 2)
    assert isinstance(back.point, Point)
    assert isinstance(back.ordered, OrderedDict)
    assert back.rng.random() == captured.rng.random()
    assert back.counts is None
    assert lost == ["/counts/#factory"]


def test_what_a_callable_holds_is_state() -> None:
    def build(seed: int) -> Holder:
        rng = np.random.default_rng(seed)
        memory = {"n": seed}
        return Holder(draw=rng.normal, near=partial(rng.normal, 1.0), remember=lambda: memory["n"])

    back = through_json(build(1), build(2))
    again = build(1)
    assert back.draw() == again.draw()
    assert back.near() == again.near()
    assert back.remember() == 1


def test_another_callable_is_named() -> None:
    back, lost = reported(
        Holder(act=math.sin, scale=partial(math.pow, 2.0)), Holder(act=math.cos, scale=partial(math.atan2, 3.0))
    )
    assert back.act is math.cos
    assert lost == ["/act", "/scale/#func"]


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2, np.longdouble),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.rec.array([(1, 2.0)]),
        random.SystemRandom(),
        type("Count", (int,), {})(3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_are_named_and_break_nothing(value: Any) -> None:
    back, lost = reported(Holder(value=value, n=1), Holder(value="own", n=0))
    assert (back.value, back.n, lost) == ("own", 1, ["/value"])


def test_attributes_that_were_deleted_stay_deleted() -> None:
    assert vars(through_json(Holder(n=1), Holder(n=0, late=2))) == {"n": 1}


def test_a_time_of_the_environments_own_is_state() -> None:
    back = through_json(Holder(start_time=1.0, t_start=2.0), Holder(start_time=0.0, t_start=0.0))
    assert (back.start_time, back.t_start) == (1.0, 2.0)


def test_an_option_that_a_later_version_has_added_stays_as_it_was_built() -> None:
    spec = DeltaTorsoSpec(depth=2)
    snapshot = capture(Holder(spec=spec))
    del snapshot.tree["object"]["spec"]["object"]["output_scale"]  # as versions without it wrote
    back, missing = restore(Holder(spec=DeltaTorsoSpec(depth=2)), snapshot)
    assert back.spec == spec
    assert missing == []


def test_torsos_of_checkpoints_from_before_their_move_are_restored() -> None:
    """Each name in older checkpoints still refers to the same class."""
    old = {name_of_class(getattr(module, name)): f"{module.__name__}.{name}" for module, name in MOVED}
    for spec in (
        DeltaTorsoSpec(**SMALL, channels=2),
        DeltaTorsoSpec(**SMALL, update="lerp"),
        ResidualTorsoSpec(**SMALL),
    ):
        one, other = (Torso(3, spec) for _ in range(2))
        snapshot = capture(Holder(torso=one))
        text = json.dumps(snapshot.tree)
        for new, before in old.items():
            text = text.replace(f'"{new}"', f'"{before}"')
        assert '"deltarl.torsos.' not in text
        snapshot.tree = json.loads(text)
        _, missing = restore(Holder(torso=other), snapshot)
        assert missing == []
        weights = one.state_dict()
        assert all(torch.equal(weights[name], item) for name, item in other.state_dict().items())


def path_node(path: Path) -> dict[str, Any]:
    return {"value": str(path), "kind": "PosixPath"}


@pytest.mark.parametrize(
    "node",
    [
        lambda path: {"method": "unlink", "owner": path_node(path)},
        lambda path: {"bound": {"method": "unlink", "owner": path_node(path)}, "owner": True},
        lambda _: {"method": "zero_grad", "owner": {"same": "/policy"}},
        lambda path: {"bound": {"method": "load", "owner": {"same": "/kind"}}, "owner": str(path)},
    ],
    ids=["a path's", "of a path's", "a module's", "a class's"],
)
def test_no_file_says_what_an_object_calls(node: Any, tmp_path: Path) -> None:
    (path := tmp_path / "precious").touch()

    def built() -> Holder:
        return Holder(kind=BasePolicy, policy=torch.nn.Linear(1, 1), act=[].copy)

    snapshot = capture(built())
    snapshot.tree["object"]["act"] = node(path)
    back, named = restore(built(), snapshot)
    assert named[0].startswith("/act")
    assert back.act() == []


def test_a_partial_keeps_the_function_that_it_calls(tmp_path: Path) -> None:
    (path := tmp_path / "precious").touch()
    snapshot = capture(Holder(act=partial(max, 1)))
    snapshot.tree["object"]["act"]["partial"] = {"method": "unlink", "owner": path_node(path)}
    back, named = restore(Holder(act=partial(max, 1)), snapshot)
    assert (back.act(2), named) == (2, ["/act/#func"])


def test_no_attribute_of_a_file_stands_before_a_method() -> None:
    snapshot = capture(Holder(space=gym.spaces.Discrete(2)))
    snapshot.tree["object"]["space"]["object"] |= {"sample": 3, "more": 4}
    back, named = restore(Holder(space=gym.spaces.Discrete(2)), snapshot)
    assert "sample" not in vars(back.space)
    assert back.space.more == 4
    assert named == ["/space/sample"]


def test_no_file_fills_the_class_of_a_package() -> None:
    snapshot = capture(Holder(space=gym.spaces.Discrete(2)))
    snapshot.tree["object"]["space"]["held"] = {"bases": [], "members": {"mark": 1}}
    restore(Holder(space=gym.spaces.Discrete(2)), snapshot)
    assert not hasattr(gym.spaces.Discrete, "mark")


def test_a_method_of_the_users_own_that_took_anothers_place_is_restored() -> None:
    class Phases:
        def __init__(self) -> None:
            self.act = self.one

        def one(self) -> int:
            return 1

        def two(self) -> int:
            return 2

    phases = Phases()
    phases.act = phases.two  # type: ignore[method-assign]
    assert through_json(phases, Phases()).act() == 2


def test_options_of_a_simulation_that_are_single_numbers_come_back() -> None:
    def built() -> Any:
        return mujoco.MjModel.from_xml_string("<mujoco/>")

    model = built()
    model.opt.timestep, model.opt.viscosity, model.opt.iterations, model.stat.meaninertia = 0.5, 2.0, 7, 3.0
    model.stat.center[0] = 4.0
    back = through_json(Holder(model=model), Holder(model=built())).model
    assert (back.opt.timestep, back.opt.viscosity, back.opt.iterations) == (0.5, 2.0, 7)
    assert (back.stat.meaninertia, back.stat.center[0]) == (3.0, 4.0)


def test_an_older_snapshot_without_these_options_is_read() -> None:
    snapshot = capture(Holder(model=mujoco.MjModel.from_xml_string("<mujoco/>")))
    names = snapshot.tree["object"]["model"]["mjmodel"]
    names[:] = [name for name in names if not name.startswith("stat.") and name != "opt.timestep"]
    assert restore(Holder(model=mujoco.MjModel.from_xml_string("<mujoco/>")), snapshot)[1] == []


def test_no_file_says_where_in_memory_a_simulation_lies() -> None:
    def built() -> Any:
        return gym.make("Hopper-v5").unwrapped

    snapshot = capture(built())
    for name in ("/model/jnt_qposadr", "/model/geom_contype"):
        snapshot.tensors[name] = torch.full_like(snapshot.tensors[name], 200_000_000)
    back, named = restore(built(), snapshot)
    assert list(back.model.jnt_qposadr) == list(built().model.jnt_qposadr)
    assert list(back.model.geom_contype) == [200_000_000] * back.model.ngeom
    assert named == ["/model/jnt_qposadr"]
