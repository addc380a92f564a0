"""What other people's environments hold is restored, or reported."""

from __future__ import annotations

import math
import random
from collections import OrderedDict, defaultdict, namedtuple
from enum import Enum, StrEnum
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.objects import Holder, reported, through_json

Point = namedtuple("Point", ["x", "y"])


class Phase(Enum):
    """The phase of a state machine."""

    swing = 1
    stance = 2


class Word(StrEnum):
    """An enum whose members are strings."""

    yes = "yes"
    no = "no"


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


def test_an_environments_time_is_state() -> None:
    back = through_json(Holder(start_time=1.0, t_start=2.0), Holder(start_time=0.0, t_start=0.0))
    assert (back.start_time, back.t_start) == (1.0, 2.0)
