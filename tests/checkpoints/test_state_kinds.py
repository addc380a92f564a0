"""Kinds of objects of Python, NumPy and PyTorch: each is restored exactly, or reported."""

from __future__ import annotations

import array
import collections
import contextvars
import dataclasses
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
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.checkpoints.objects import (
    Bag,
    Bits,
    Frozen,
    FrozenSlots,
    Holder,
    Level,
    Line,
    Machine,
    Mode,
    Names,
    Pair,
    Row,
    Slotted,
    SlottedChild,
    attributed,
    becomes,
    counter,
    does,
    drawn,
    layout,
    let,
    one,
    own,
    pop_and_add,
    popped,
    remembering,
    resumed,
    same_nan,
    shared,
    shared_tensors,
    tensor_layout,
    two,
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of object.

    Attributes:
        make: builds the object, as an environment's constructor does.
        change: changes it, as training does.
        look: returns everything observable about it.
        exact: whether it is restored, rather than reported.
        late: the same for an object that did not exist in the new environment.
    """

    make: Callable[[], Any]
    change: Callable[[Any], Any] = lambda value: value
    look: Callable[[Any], Any] = repr
    exact: bool = True
    late: bool | None = None


def value(make: Callable[[], Any], **options: Any) -> Kind:
    """A value that replaces another and need not exist beforehand."""
    return Kind(lambda: None, becomes(make), late=options.get("exact", True), **options)


ARRAYS: dict[str, Callable[[], Any]] = {
    "C order": lambda: np.arange(6.0).reshape(2, 3).copy(),
    "Fortran order": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes in another order": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1).copy(order="K"),
    "transposed": lambda: np.arange(6.0).reshape(2, 3).T,
    "strided": lambda: np.arange(10.0)[1::3],
    "reversed": lambda: np.arange(5)[::-1],
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (2, 3)),
    "read-only": lambda: _read_only(np.arange(3.0)),
    "0-d": lambda: np.array(1.5),
    "empty": lambda: np.zeros((0, 3)),
    "one row of many": lambda: np.arange(6.0).reshape(2, 3)[1],
    "single row": lambda: np.array(1.5)[None],
    "complex": lambda: np.array([1 + 2j, -0.0j]),
    "other byte order": lambda: np.array([1.0, 2.0], ">f8"),
    "half": lambda: np.array([1.5], np.float16),
    "dates": lambda: np.array(["2020-01-01", "NaT"], "datetime64[D]"),
    "durations": lambda: np.array([3, 4], "timedelta64[ms]"),
    "text": lambda: np.array(["ab", "c"]),
    "bytes": lambda: np.array([b"ab", b"c"]),
    "structured": lambda: np.array([(1, 2.5), (3, 4.5)], [("n", "<i4"), ("x", "<f8")]),
    "a field of a structured one": lambda: np.array([(1, 2.5), (3, 4.5)], [("n", "<i4"), ("x", "<f8")])["x"],
    "seen as another type": lambda: np.arange(4.0).view(np.uint8)[3:7],
    "of a tensor": lambda: torch.arange(3.0).numpy(),
    "of bytes": lambda: np.frombuffer(b"abcd", np.uint8),
    "of objects": lambda: np.array([None, "a", [1]], object),
}
TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": lambda: torch.arange(6.0).reshape(2, 3).clone(),
    "transposed tensor": lambda: torch.arange(6.0).reshape(2, 3).T,
    "expanded": lambda: torch.arange(3.0).expand(2, 3),
    "channels last": lambda: torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "part of a tensor": lambda: torch.arange(10)[2:8:2],
    "0-d tensor": lambda: torch.tensor(1.5),
    "empty tensor": lambda: torch.zeros(0, 3),
    "complex tensor": lambda: torch.tensor([1 + 2j]),
    "bfloat16": lambda: torch.tensor([1.5], dtype=torch.bfloat16),
    "bool tensor": lambda: torch.tensor([True, False]),
    "one to be learned": lambda: torch.zeros(2, requires_grad=True),
}
GENERATORS: dict[str, Callable[[], Any]] = {
    kind.__name__: functools.partial(lambda kind: np.random.Generator(kind(3)), kind)
    for kind in (np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64, np.random.MT19937)
}


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


def halves(generator: Any) -> Any:
    """Draw numbers that use half of the bits and leave the other half for the next draw."""
    return [int(generator.integers(2**31, dtype=np.uint32)) for _ in range(3)]


def spawned(generator: Any) -> Any:
    return [child.random() for child in generator.spawn(2)]


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
    # NumPy's numbers
    "NumPy numbers": value(lambda: [np.float64(0.1), np.float32(0.1), np.int8(3), np.bool_(True), np.complex64(1j)]),
    "NumPy text and dates": value(lambda: [np.str_("a"), np.bytes_(b"a"), np.datetime64("2020-01-01")]),
    "long double": value(lambda: np.longdouble(1), exact=False),
    "dtype": Kind(lambda: np.dtype("f4"), becomes(lambda: np.dtype([("a", "f4")])), late=True),
    "ufunc": Kind(lambda: np.sin, look=lambda f: f.__name__, late=False),
    "another ufunc": Kind(lambda: np.sin, becomes(lambda: np.cos), exact=False),
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
    # random generators
    **{f"generator {name}": Kind(make, does(drawn), drawn, late=True) for name, make in GENERATORS.items()},
    **{f"half drawn {name}": Kind(make, does(halves), halves, late=True) for name, make in GENERATORS.items()},
    "generator of another kind": Kind(GENERATORS["PCG64"], becomes(GENERATORS["Philox"]), drawn, late=True),
    "generator that has spawned": Kind(GENERATORS["PCG64"], does(spawned), spawned, late=True),
    "generators of the same bits": Kind(
        lambda: let(np.random.PCG64(1), lambda bits: [np.random.Generator(bits), np.random.Generator(bits)]),
        look=lambda pair: [drawn(each) for each in pair],
        late=True,
    ),
    "seed sequence": Kind(lambda: np.random.SeedSequence(3), does(lambda s: s.spawn(2)), lambda s: s.state, late=True),
    "RandomState": Kind(lambda: np.random.RandomState(3), does(lambda g: g.normal()), lambda g: g.normal(), late=True),
    "RandomState of other bits": Kind(
        lambda: np.random.RandomState(np.random.PCG64(3)), does(lambda g: g.normal()), lambda g: g.normal(), late=True
    ),
    "the generator of all": Kind(lambda: np.random.mtrand._rand, look=lambda g: g is np.random.mtrand._rand, late=True),
    "random.Random": Kind(lambda: random.Random(3), does(lambda g: g.gauss(0, 1)), lambda g: g.gauss(0, 1), late=True),
    "SystemRandom": value(random.SystemRandom, exact=False),
    "torch.Generator": Kind(
        lambda: torch.Generator().manual_seed(3),
        does(lambda g: torch.rand(2, generator=g)),
        lambda g: torch.rand(2, generator=g).tolist(),
        late=True,
    ),
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
    # arrays and tensors
    **{f"array, {name}": Kind(lambda: None, becomes(make), layout, late=True) for name, make in ARRAYS.items()},
    "array that cannot be read elsewhere": value(lambda: np.zeros(2, np.longdouble), exact=False),
    "masked array": value(lambda: np.ma.masked_array([1.0, 2.0], [True, False]), exact=False),
    "record array": value(lambda: np.rec.array([(1, 2.0)]), exact=False),
    "matrix": value(lambda: np.array([[1.0]]).view(type("Odd", (np.ndarray,), {})), exact=False),
    "arrays that share memory": value(lambda: let(np.zeros(3), lambda a: [a, a[:2]]), look=shared),
    "arrays that share memory with an array that nobody holds": value(
        lambda: let(np.zeros(3), lambda a: [a[1:], a[:2]]), look=shared
    ),
    "windows that slide along an array": value(
        lambda: let(np.zeros(3), lambda a: [a, np.lib.stride_tricks.sliding_window_view(a, 2)]), exact=False
    ),
    "array and tensor that share memory": value(lambda: let(torch.zeros(3), lambda t: [t, t.numpy()]), exact=False),
    **{
        f"tensor, {name}": Kind(lambda: None, becomes(make), tensor_layout, late=True) for name, make in TENSORS.items()
    },
    "tensors that share memory": value(lambda: let(torch.zeros(3, 3), lambda t: [t, t[:2], t.T]), look=shared_tensors),
    "tensors that share memory with one that nobody holds": value(
        lambda: let(torch.zeros(3), lambda t: [t[1:], t[:2]]), look=shared_tensors
    ),
    "tensor with an attribute": Kind(lambda: torch.zeros(1), does(lambda t: setattr(t, "note", "a")), tensor_layout),
    "tensor with a graph": value(lambda: torch.zeros(2, requires_grad=True) * 2, exact=False),
    "sparse tensor": value(lambda: torch.eye(2).to_sparse(), exact=False),
    "conjugate tensor": value(lambda: torch.tensor([1j]).conj(), exact=False),
    "attribute of an optimizer": Kind(
        lambda: torch.optim.SGD([torch.zeros(1)], 0.1), does(lambda o: setattr(o, "n", 3)), vars
    ),
    "Parameter": Kind(
        lambda: torch.nn.Linear(2, 2), does(lambda m: m.weight.data.fill_(3)), lambda m: m.weight.tolist(), late=False
    ),
    "buffer": Kind(
        lambda: torch.nn.BatchNorm1d(2), does(lambda m: m(torch.ones(3, 2))), lambda m: m.running_mean.tolist()
    ),
    "hook of a module": Kind(
        lambda: torch.nn.Linear(2, 2), does(lambda m: m.register_forward_hook(lambda *_: torch.ones(1))), exact=False
    ),
    "distribution": Kind(
        lambda: torch.distributions.Normal(0.0, 1.0),
        does(lambda d: setattr(d, "loc", torch.tensor(5.0))),
        lambda d: (float(d.loc), float(d.scale)),
    ),
    "torch's own": value(lambda: [torch.Size([1, 2]), torch.float16, torch.device("cpu")]),
}


class _Zone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> datetime.timedelta:
        return datetime.timedelta(hours=1)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_restored_or_reported(name: str) -> None:
    kind = KINDS[name]
    trained, fresh = kind.change(kind.make()), kind.make()
    back, named = resumed(trained, fresh)
    assert (named == []) == kind.exact, named
    if not named:
        assert type(back) is type(trained)
        assert kind.look(back) == kind.look(trained)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.late is not None])
def test_a_kind_that_was_made_later_is_restored_or_reported(name: str) -> None:
    kind = KINDS[name]
    trained = kind.change(kind.make())
    back, named = resumed(trained, None)
    assert (named == []) == kind.late, named
    if not named:
        assert type(back) is type(trained)
        assert kind.look(back) == kind.look(trained)
