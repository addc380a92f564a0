"""The state of classes, modules and environments is restored, or reported."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
import pytest

from deltarl.checkpoints.state import capture, restore
from tests.checkpoints.objects import Holder, Mode, let, one, resumed, two


class Windowed:
    """An object that renders; its window is not state."""

    __transient__ = ("window",)

    def __init__(self, n: int, window: list[int]) -> None:
        self.n, self.window = n, window


class Titled(Windowed):
    """The same with a title, which is not state either."""

    __transient__ = frozenset({"title"})
    title = ""


def test_what_a_class_calls_transient_is_not_stored() -> None:
    trained, fresh = Titled(1, [1]), Titled(0, [])
    trained.title, fresh.title = "trained", "fresh"
    back, named = resumed(trained, fresh)
    assert named == []
    assert (back.n, back.window, back.title) == (1, [], "fresh")


class Counted:
    """Keeps its counter on the class."""

    total = 0
    seen: list[int] = []  # noqa: RUF012
    levels = (Holder(n=1), Holder(n=2))

    def __init__(self) -> None:
        self.level = self.levels[0]

    @staticmethod
    def reward() -> int:
        return 1

    def step(self) -> None:
        type(self).total += 1
        self.seen.append(self.total)


@pytest.fixture
def counted() -> Iterator[Counted]:
    before = {name: getattr(Counted, name) for name in ("total", "levels")}
    yield Counted()
    for name, held in before.items():
        setattr(Counted, name, held)
    Counted.reward = staticmethod(one)  # type: ignore[method-assign]
    Counted.seen.clear()


def test_what_a_class_counts_is_restored(counted: Counted) -> None:
    counted.step()
    snapshot = capture(counted)
    counted.step()
    assert restore(Counted(), snapshot)[1] == []
    assert (Counted.total, Counted.seen) == (1, [1])


def test_what_an_object_has_from_its_class_stays_the_same_object(counted: Counted) -> None:
    counted.level = counted.levels[1]
    back, named = resumed(counted, Counted())
    assert named == []
    assert back.level is Counted.levels[1]
    assert [level.n for level in Counted.levels] == [1, 2]  # type: ignore[attr-defined]


def test_a_function_that_a_class_has_instead_of_its_own_is_named(counted: Counted) -> None:
    before = vars(Counted)["reward"]
    Counted.reward = staticmethod(two)  # type: ignore[method-assign]
    snapshot = capture(Holder(value=counted))
    Counted.reward = before  # type: ignore[method-assign]
    assert restore(Holder(value=Counted()), snapshot)[1] != []


class Remembers:
    """A descriptor that stores the assigned value itself."""

    def __init__(self) -> None:
        self.held = 0

    def __get__(self, owner: object, kind: type | None = None) -> int:
        return self.held

    def __set__(self, owner: object, new: int) -> None:
        self.held = new


class Described:
    """Its attribute is stored in a descriptor of its class."""

    x = Remembers()


def test_what_a_descriptor_holds_is_restored() -> None:
    described = Described()
    described.x = 3
    snapshot = capture(described)
    described.x = 4
    assert restore(Described(), snapshot)[1] == []
    assert Described().x == 3


def test_an_attribute_of_a_member_of_an_enum_is_restored() -> None:
    Mode.run.visits = 1  # type: ignore[attr-defined]
    snapshot = capture(Holder(mode=Mode.run))
    Mode.run.visits = 2  # type: ignore[attr-defined]
    assert restore(Holder(mode=Mode.walk), snapshot)[1] == []
    assert Mode.run.visits == 1  # type: ignore[attr-defined]
    del Mode.run.visits  # type: ignore[attr-defined]


def test_the_arguments_of_an_environments_spec_come_back() -> None:
    env, other = gym.make("CartPole-v1"), gym.make("CartPole-v1")
    assert env.spec is not None
    assert other.spec is not None
    env.spec.kwargs["level"] = 3
    back, named = resumed(env, other)
    assert named == []
    assert back.spec.kwargs["level"] == 3


def test_a_sentinel_that_cannot_be_told_from_another_is_named() -> None:
    sentinel = object()
    back, named = resumed([sentinel], [sentinel])
    assert back == [sentinel]
    assert named != []


LEVELS = {"easy": Holder(n=1), "hard": Holder(n=2)}
UNSET = object()
GRID = np.zeros(3)


class Levelled:
    """Refers to objects of its module."""

    def __init__(self) -> None:
        self.level, self.grid, self.row, self.last = LEVELS["easy"], GRID, GRID[1:], UNSET


def test_what_a_module_holds_stays_the_modules() -> None:
    trained = Levelled()
    trained.level = LEVELS["hard"]
    back, named = resumed(trained, Levelled())
    assert named == []
    assert back.level is LEVELS["hard"]
    assert back.grid is GRID
    assert back.row.base.base is GRID or back.row.base is GRID
    assert back.last is UNSET
    assert [vars(level) for level in LEVELS.values()] == [{"n": 1}, {"n": 2}]


def test_an_object_that_replaced_one_of_a_module_is_named() -> None:
    trained = Levelled()
    trained.level = Holder(n=7)
    _, named = resumed(trained, Levelled())
    assert named == ["/value/level"]
    assert vars(LEVELS["easy"]) == {"n": 1}


def test_no_more_is_named_than_anybody_reads() -> None:
    snapshot = capture([iter([]) for _ in range(1000)])
    assert len(snapshot.unsupported) == 100


class Maker(type):
    """A metaclass with a counter."""

    made = 0


class Odd(metaclass=Maker):
    """Keeps counters on the class, under names that look like Python's or PyTorch's."""

    __level__ = 0
    _parameters = {"mass": 1}  # noqa: RUF012
    mode = Mode.walk

    def look(self) -> tuple[Any, ...]:
        return Maker.made, self.__level__, dict(self._parameters), self.mode

    def count(self, n: int, mode: Mode) -> None:
        Maker.made = type(self).__level__ = self._parameters["mass"] = n
        type(self).mode = mode


def test_what_a_class_holds_is_restored_whatever_its_name() -> None:
    odd = Odd()
    odd.count(5, Mode.run)
    snapshot = capture(Holder(odd=odd))
    trained = odd.look()
    odd.count(0, Mode.walk)
    assert restore(Holder(odd=odd), snapshot)[1] == []
    assert odd.look() == trained


def test_a_private_attribute_of_a_member_of_an_enum_is_restored() -> None:
    Mode.run._visits = 1  # type: ignore[attr-defined]
    snapshot = capture(Holder(mode=Mode.run))
    Mode.run._visits = 2  # type: ignore[attr-defined]
    assert restore(Holder(mode=Mode.run), snapshot)[1] == []
    assert Mode.run._visits == 1  # type: ignore[attr-defined]
    del Mode.run._visits  # type: ignore[attr-defined]


def test_a_users_module_may_begin_with_mujoco() -> None:
    class Phase(Holder):
        __module__ = "mujoco_tasks"

    back, named = resumed(Phase(n=3), Phase(n=0))
    assert (back.n, named) == (3, [])


class Log(logging.Logger):
    """A logger that counts."""

    n = 0


@pytest.mark.parametrize(
    "make",
    [
        mujoco.MjOption,
        mujoco.MjvPerturb,
        lambda: types.ModuleType("own"),
        lambda: np.frompyfunc(abs, 1, 1),
        lambda: let(bytearray(8), lambda memory: [memory, np.frombuffer(memory, np.uint8)]),
    ],
    ids=["MjOption", "MjvPerturb", "module", "ufunc", "memory of a bytearray"],
)
def test_what_was_taken_for_something_else_is_named(make: Callable[[], Any]) -> None:
    assert resumed(make(), make())[1] != []


def test_a_logger_of_a_user_defined_class_is_state() -> None:
    trained = Log("own")
    trained.n = 3
    back, named = resumed(trained, Log("own"))
    assert (back.n, named) == (3, [])


@pytest.mark.parametrize("make", [np.int64, Fraction, complex, lambda n: frozenset([n])])
def test_the_order_of_a_set_of_numbers_is_restored(make: Callable[[int], Any]) -> None:
    items = [make(n) for n in (24, 8, 0, 16)]
    back, named = resumed(set(items), set())
    assert (list(back), named) == (list(set(items)), [])


def test_a_number_of_any_length_is_restored() -> None:
    assert resumed(-(7**9000), 0) == (-(7**9000), [])
