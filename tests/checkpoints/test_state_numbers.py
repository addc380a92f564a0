"""Numbers, random generators, arrays and tensors: each kind is restored exactly, or reported."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoints.objects import (
    Kind,
    assert_restored_or_reported,
    becomes,
    does,
    drawn,
    layout,
    let,
    shared,
    shared_tensors,
    tensor_layout,
    value,
)

ARRAYS: dict[str, Callable[[], Any]] = {
    "C order": lambda: np.arange(6.0).reshape(2, 3).copy(),
    "Fortran order": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes in another order": lambda: np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1).copy(order="K"),
    "transposed": lambda: np.arange(6.0).reshape(2, 3).T,
    "strided": lambda: np.arange(10.0)[1::3],
    "reversed": lambda: np.arange(5)[::-1],
    "broadcast": lambda: np.broadcast_to(np.arange(3.0), (2, 3)),
    "one element broadcast": lambda: np.broadcast_to(np.array(1.5), (1,)),
    "one element of any stride": lambda: np.broadcast_to(np.array([[1.5]]), (1, 1)).copy()[::-1, ::-1],
    "read-only": lambda: _read_only(np.arange(3.0)),
    "0-d": lambda: np.array(1.5),
    "empty": lambda: np.zeros((0, 3)),
    "empty row": lambda: np.array([]),
    "empty view": lambda: np.ndarray((0,), buffer=np.zeros(1), strides=(0,)),
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
    "one element expanded": lambda: torch.tensor(1.5, dtype=torch.float64).expand(1),
    "one element of a NumPy array expanded": lambda: torch.from_numpy(np.broadcast_to(np.array(1.5), (1, 1)).copy().T),
    "channels last": lambda: torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "part of a tensor": lambda: torch.arange(10)[2:8:2],
    "0-d tensor": lambda: torch.tensor(1.5),
    "empty tensor": lambda: torch.zeros(0, 3),
    "empty tensor expanded": lambda: torch.zeros(1, dtype=torch.float64)[:0].as_strided((0,), (0,)),
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
    # NumPy's numbers
    "NumPy numbers": value(lambda: [np.float64(0.1), np.float32(0.1), np.int8(3), np.bool_(True), np.complex64(1j)]),
    "NumPy text and dates": value(lambda: [np.str_("a"), np.bytes_(b"a"), np.datetime64("2020-01-01")]),
    "long double": value(lambda: np.longdouble(1), exact=False),
    "dtype": Kind(lambda: np.dtype("f4"), becomes(lambda: np.dtype([("a", "f4")])), late=True),
    "ufunc": Kind(lambda: np.sin, look=lambda f: f.__name__, late=False),
    "another ufunc": Kind(lambda: np.sin, becomes(lambda: np.cos), exact=False),
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


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_restored_or_reported(name: str) -> None:
    assert_restored_or_reported(KINDS[name])


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.late is not None])
def test_a_kind_that_was_made_later_is_restored_or_reported(name: str) -> None:
    assert_restored_or_reported(KINDS[name], late=True)
