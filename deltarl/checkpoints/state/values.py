"""Encodes immutable values as JSON from which they can be rebuilt exactly; other values are not stored."""

from __future__ import annotations

import ctypes
import datetime
import re
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import numpy as np
import torch

from deltarl.checkpoints.state import memory


def torch_dtype(name: str) -> torch.dtype:
    """PyTorch's dtype of this name.

    Raises:
        TypeError: if there is none.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise TypeError(name)
    return found


_KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "complex": (complex, lambda z: [z.real.hex(), z.imag.hex()], lambda parts: complex(*map(float.fromhex, parts))),
    "Decimal": (Decimal, str, Decimal),
    "Fraction": (Fraction, lambda f: [f.numerator, f.denominator], lambda parts: Fraction(*parts)),
    "datetime": (datetime.datetime, lambda d: d.isoformat(), datetime.datetime.fromisoformat),
    "date": (datetime.date, lambda d: d.isoformat(), datetime.date.fromisoformat),
    "time": (datetime.time, lambda t: t.isoformat(), datetime.time.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda d: [d.days, d.seconds, d.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
    "UUID": (UUID, str, UUID),
    "PosixPath": (PosixPath, str, PosixPath),
    "PurePosixPath": (PurePosixPath, str, PurePosixPath),
    "PureWindowsPath": (PureWindowsPath, str, PureWindowsPath),
    # JSON does not preserve bytes and some other types, which are therefore left out.
    "re.Pattern": (re.Pattern, lambda p: [str(p.pattern), p.flags], lambda parts: re.compile(*parts)),
    "ellipsis": (type(...), lambda _: None, lambda _: ...),
    "torch.Size": (torch.Size, list, torch.Size),
    "torch.device": (torch.device, str, torch.device),
    "torch.dtype": (torch.dtype, lambda d: str(d).removeprefix("torch."), torch_dtype),
}
_NAMES = {kind: name for name, (kind, *_) in _KINDS.items()}


def encoded(value: Any) -> dict[str, Any] | None:
    """A value as JSON; None if it cannot be rebuilt exactly."""
    if isinstance(value, np.dtype):
        text = memory.described(value)
        return None if text is None else {"value": text, "kind": "dtype"}
    name = _NAMES.get(type(value))
    if name is None:
        return None
    _, encode, _ = _KINDS[name]
    node = {"value": encode(value), "kind": name}
    # Compared by `repr`, because equal values may differ: a time in Rome may equal one in Oslo.
    return node if repr(decoded(node)) == repr(value) else None


def decoded(node: dict[str, Any]) -> Any:
    """The value that `encoded` turned into JSON.

    Raises:
        KeyError, ValueError, TypeError, ArithmeticError, AttributeError, re.error: if the node is invalid.
    """
    if node["kind"] == "dtype":
        return memory.dtype_of(node["value"])
    _, _, decode = _KINDS[node["kind"]]
    return decode(node["value"])


# Types whose hashes are the same in every process.
_NUMBERS = {int, float, bool, complex, Fraction, Decimal, UUID, datetime.timedelta}


def is_in_order(items: Iterable[Any]) -> bool:
    """Whether a set of these items has the same order in every process; Python hashes text differently in each."""
    return not sys.flags.hash_randomization or all(
        is_in_order(item)
        if type(item) in {tuple, frozenset}
        else type(item) in _NUMBERS or isinstance(item, np.number | np.bool_)
        for item in items
    )


class _Set(ctypes.Structure):
    """The beginning of CPython's own set."""

    _fields_ = (
        ("head", ctypes.c_char * object.__basicsize__),
        ("fill", ctypes.c_ssize_t),
        ("used", ctypes.c_ssize_t),
        ("mask", ctypes.c_ssize_t),
        ("table", ctypes.c_void_p),
        ("hash", ctypes.c_ssize_t),
        ("finger", ctypes.c_ssize_t),
    )


def table_of(items: set[Any] | frozenset[Any]) -> list[int]:
    """What, besides its items, determines the order of a set: used slots, all slots, and where `pop` searches next.

    Python does not expose it; it is read from CPython's memory.
    """
    if sys.implementation.name != "cpython":
        return [sys.getsizeof(items)]
    found = _Set.from_address(id(items))
    return [found.fill, found.mask, found.finger]
