"""Kinds of Python's objects: each is restored exactly, or reported."""

from __future__ import annotations

import array
import collections
import contextvars
import datetime
import functools
import io
import itertools
import math
import pathlib
import queue
import random
import re
import threading
import types
import uuid
import weakref
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.checkpoints.objects import (
    Bag,
    Bits,
    Frozen,
    FrozenSlots,
    Holder,
    Kind,
    Level,
    Line,
    Machine,
    Mode,
    Names,
    Pair,
    Row,
    Slotted,
    SlottedChild,
    assert_restored_or_reported,
    attributed,
    becomes,
    counter,
    does,
    let,
    one,
    own,
    pop_and_add,
    popped,
    remembering,
    same_nan,
    two,
    value,
)

KINDS: dict[str, Kind] = {
    # numbers and text
    "int": value(lambda: 10**40),
    "float": value(lambda: -0.0),
    "infinity": value(lambda: [math.inf, -math.inf]),
    "NaN that is one object": value(
        lambda: let(math.nan, lambda nan: {"nan": nan, "again": nan, nan: 1}), look=same_nan
    ),
    "NaN of another sign": value(lambda: -math.nan, look=lambda nan: math.copysign(1, nan)),
    "long list with NaN": value(lambda: [0.5] * 80 + [math.nan]),
    "complex number": value(lambda: complex(0.1, -0.0)),
    "bool": value(lambda: [True, 1, 1.0]),
    "text": value(lambda: "a\ud800\n"),
    "bytes": value(lambda: b"\x00\xff"),
    "bytearray": Kind(lambda: bytearray(b"a"), does(lambda b: b.extend(b"bc")), late=True),
    "memoryview": value(lambda: memoryview(b"abc"), exact=False),
    "Decimal": value(lambda: Decimal("1.10")),
    "Fraction": value(lambda: Fraction(1, 3)),
    "int of a class of its own": value(lambda: Level(3), exact=False),
    "ellipsis": value(lambda: ...),
    "range and slice": value(lambda: [range(1, 9, 2), slice(None, 3)]),
    "dates": value(lambda: [datetime.datetime(2020, 1, 2, 3), datetime.date(2020, 1, 2), datetime.timedelta(3, 4, 5)]),
    "date with a zone": value(lambda: datetime.datetime(2020, 1, 2, tzinfo=_Zone()), exact=False),
    "path": Kind(lambda: pathlib.Path("/a"), becomes(lambda: pathlib.Path("/b")), late=True),
    "UUID": value(lambda: uuid.UUID(int=7)),
    "pattern": value(lambda: re.compile("a+", re.IGNORECASE)),
    "pattern of bytes": value(lambda: re.compile(b"a+"), exact=False),
    # containers
    "list": Kind(lambda: [1], does(lambda x: x.extend([2, [3]])), late=True),
    "tuple": value(lambda: (1, (2.0, "a"))),
    "dict in its order": Kind(lambda: {"a": 1, "b": 2}, does(lambda d: d.update(a=d.pop("a"))), late=True),
    "dict with keys of all kinds": value(lambda: {1: 0, (1, 2): 1, None: 2, 0.5: 3, b"": 4, "1": 5}),
    "Counter": Kind(collections.Counter, does(lambda c: c.update([3, 3, 1])), late=True),
    "OrderedDict": Kind(
        lambda: collections.OrderedDict(a=1, b=2),
        does(lambda d: d.move_to_end("a")),
        lambda d: (repr(d), d.popitem(), d.popitem()),
        late=True,
    ),
    "defaultdict": Kind(
        lambda: collections.defaultdict(list), does(lambda d: d[1].append(2)), lambda d: (d[7], repr(d)), late=True
    ),
    "defaultdict with another factory": Kind(
        lambda: collections.defaultdict(list), does(lambda d: setattr(d, "default_factory", int)), late=True
    ),
    "defaultdict with a function": Kind(
        lambda: collections.defaultdict(one), does(lambda d: d[1]), lambda d: (d[3], dict(d)), late=False
    ),
    "ChainMap": Kind(lambda: collections.ChainMap({}, {"a": 1}), does(lambda m: m.update(b=2))),
    "UserDict": Kind(collections.UserDict, does(lambda m: m.update(b=2))),
    "dict of a class of its own": Kind(
        Bag, does(lambda b: b.update(a=1), lambda b: setattr(b, "seen", 3)), lambda b: (dict(b), b.seen), late=False
    ),
    "list of a class of its own": Kind(Row, does(lambda r: r.append(1)), lambda r: (type(r), list(r)), late=False),
    "set of a class of its own": Kind(Names, does(lambda s: s.add(1)), lambda s: (type(s), list(s)), late=False),
    "deque of a class of its own": Kind(
        lambda: Line(maxlen=2), does(lambda d: d.extend([1, 2, 3])), lambda d: (type(d), list(d), d.maxlen), late=False
    ),
    "deque": Kind(lambda: collections.deque(maxlen=2), does(lambda d: d.extend([1, 2, 3])), late=True),
    "deque of another length": Kind(
        lambda: collections.deque(maxlen=2), becomes(lambda: collections.deque([1, 2, 3], 5)), late=True
    ),
    "named tuple": Kind(lambda: Pair(0, 0), becomes(lambda: Pair(1, [2])), late=True),
    "set": Kind(set, does(lambda s: s.update(range(50, 0, -7))), popped, late=True),
    "set of text": value(lambda: {"a", "b"}, look=sorted),
    "frozenset": value(lambda: frozenset({1, (2, 3)})),
    "set where pop has begun": Kind(lambda: {0, 1, 2, 3}, does(pop_and_add), popped, exact=False),
    "set with another order than its items'": Kind(
        set, does(lambda s: s.update([8, 0]), lambda s: s.remove(8)), popped, exact=False
    ),
    "array.array": value(lambda: array.array("d", [1.0]), exact=False),
    "mapping proxy": value(lambda: types.MappingProxyType({"a": 1}), exact=False),
    "namespace": Kind(lambda: types.SimpleNamespace(a=1), does(lambda n: vars(n).update(a=2, b=3)), late=False),
    # objects
    "object with slots": Kind(
        Slotted,
        does(lambda s: setattr(s, "n", 3), lambda s: s._hidden.append(1)),
        lambda s: (s.n, s._hidden),
        late=False,
    ),
    "object with slots and attributes": Kind(
        SlottedChild, does(lambda s: setattr(s, "n", 3), lambda s: setattr(s, "more", 4)), lambda s: (s.n, s.more)
    ),
    "object that lost a slot": Kind(Slotted, does(lambda s: delattr(s, "n")), lambda s: hasattr(s, "n")),
    "attributes in another order": Kind(
        lambda: Holder(a=1, b=2), does(lambda h: vars(h).update(a=vars(h).pop("a"))), lambda h: list(vars(h))
    ),
    "frozen dataclass": Kind(lambda: Frozen(1), becomes(lambda: Frozen(2, (3,))), late=False),
    "frozen dataclass with slots": Kind(lambda: FrozenSlots(1), becomes(lambda: FrozenSlots(2)), late=False),
    "bare object": value(object, exact=False),
    "member of an enum": Kind(lambda: Mode.walk, becomes(lambda: Mode.run), late=True),
    "flags": Kind(lambda: Bits.a, becomes(lambda: Bits.a | Bits.b), late=True),
    "exception": value(lambda: ValueError("a"), exact=False),
    "cycle": Kind(
        own,
        does(lambda h: setattr(h, "n", 1)),
        lambda h: (h.own is h, h.n),
    ),
    "list that holds itself": Kind(list, does(lambda x: x.append(x)), lambda x: (len(x), x[0] is x), late=True),
    "weak reference": Kind(
        lambda: let(Holder(n=0), lambda h: [h, weakref.ref(h)]), look=lambda pair: pair[1]() is pair[0], late=False
    ),
    "space": Kind(
        lambda: gym.spaces.Box(-1, 1, (2,), seed=1),
        does(lambda s: s.sample()),
        lambda s: s.sample().tolist(),
        late=False,
    ),
    "space with other bounds": Kind(
        lambda: gym.spaces.Box(-1, 1, (2,), seed=1), does(lambda s: s.high.fill(5)), lambda s: s.sample().tolist()
    ),
    "nested spaces": Kind(
        lambda: gym.spaces.Dict(a=gym.spaces.Discrete(9), b=gym.spaces.Tuple([gym.spaces.MultiBinary(9)]), seed=1),
        does(lambda s: s.sample()),
        lambda s: str(s.sample()),
    ),
    # functions
    "function": Kind(lambda: one, look=lambda f: f()),
    "another function": Kind(lambda: one, becomes(lambda: two), exact=False),
    "lambda": Kind(lambda: [lambda: 1, lambda: 2][0], becomes(lambda: [lambda: 1, lambda: 2][1]), exact=False),
    "closure": Kind(counter, does(lambda f: f()), lambda f: f(), late=False),
    "default that is filled": Kind(remembering, does(lambda f: f(1)), lambda f: f(2), late=False),
    "attribute of a function": Kind(attributed, does(lambda f: f()), lambda f: f(), late=False),
    "bound method": Kind(Machine, does(lambda m: setattr(m, "act", m.move), lambda m: m.act()), lambda m: m.act()),
    "class method": Kind(lambda: Machine.count, look=lambda f: f()),
    "method of a container": Kind(lambda: [].append, does(lambda f: f(1)), lambda f: f.__self__, late=True),
    "method of a generator": Kind(
        lambda: np.random.default_rng(1).normal, does(lambda f: f()), lambda f: f(), late=True
    ),
    "partial": Kind(
        lambda: functools.partial(math.pow, 2.0),
        becomes(lambda: functools.partial(math.pow, 3.0)),
        lambda f: f(2),
        late=False,
    ),
    "partial with keywords": Kind(
        lambda: functools.partial(dict, a=[1]), does(lambda f: f.keywords["a"].append(2)), lambda f: f()
    ),
    "function of NumPy's": Kind(lambda: np.mean, look=lambda f: f([1, 3])),
    "cache": Kind(
        lambda: functools.lru_cache(lambda n: [n]), does(lambda f: f(1).append(2)), lambda f: f(1), exact=False
    ),
    "class": Kind(lambda: Machine, look=lambda kind: kind),
    "another class": Kind(lambda: Machine, becomes(lambda: Slotted), exact=False),
    "module": Kind(lambda: math),
    "another module": Kind(lambda: math, becomes(lambda: random), exact=False),
    # state inside C objects
    "iterator": Kind(lambda: iter([1, 2, 3]), does(next), next, exact=False),
    "itertools.count": Kind(itertools.count, does(next), next, exact=False),
    "itertools.cycle": Kind(lambda: itertools.cycle("ab"), does(next), next, exact=False),
    "generator function": Kind(lambda: (n for n in range(9)), does(next), next, exact=False),
    "zip": Kind(lambda: zip([1, 2], [3, 4], strict=True), does(next), next, exact=False),
    "open text": Kind(lambda: io.StringIO("abc"), does(lambda f: f.read(1)), lambda f: f.read(), exact=False),
    "lock": value(threading.Lock, exact=False),
    "event": value(threading.Event, exact=False),
    "queue": Kind(queue.Queue, does(lambda q: q.put(1)), exact=False),
    "local to a thread": value(threading.local, exact=False),
    "context variable": value(lambda: contextvars.ContextVar("a"), exact=False),
}


class _Zone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> datetime.timedelta:
        return datetime.timedelta(hours=1)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_restored_or_reported(name: str) -> None:
    assert_restored_or_reported(KINDS[name])


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.late is not None])
def test_a_kind_that_was_made_later_is_restored_or_reported(name: str) -> None:
    assert_restored_or_reported(KINDS[name], late=True)
