"""Interleaved timing, so that other load on the machine affects everything equally."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_PRODUCTS = {*(getattr(_aten, name).default for name in ("mm", "mv", "bmm", "addmm", "addmv", "baddbmm", "addmm_"))}


@dataclass(frozen=True)
class Ratio:
    """A ratio of times over the rounds: its median, and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, one: Sequence[float], other: Sequence[float]) -> Ratio:
        low, middle, high = np.percentile(np.asarray(one) / np.asarray(other), [25, 50, 75])
        return cls(float(middle), float(low), float(high))

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Ratio:
        """From the numbers of a table's row."""
        return cls(row["median"], row["low"], row["high"])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(call: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call, including work it started on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cpu_seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of this process during one call: other work on the machine is not counted."""
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(
    calls: Mapping[str, Callable[[int], Any]],
    rounds: int,
    at_least: float,
    clock: Callable[[Callable[[], Any]], float] = seconds,
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds per unit of each call, timed once per round in a rotating order.

    Args:
        calls: by name; called with the number of units to do.
        rounds: timings of each.
        at_least: seconds that one timing should take; a first one determines the number of units. 0: one unit.
        clock: times one call.

    Returns:
        The seconds, and the numbers of units.
    """
    units: dict[str, int] = {}
    for name, call in calls.items():
        call(1)  # warm up
        units[name] = max(1, round(at_least / max(clock(lambda call=call: call(2)) / 2, 1e-6)))  # type: ignore[misc]
    found: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(clock(lambda name=name: calls[name](units[name])) / units[name])  # type: ignore[misc]
    return found, units


@contextmanager
def threads(count: int, among: set[int] | None = None) -> Iterator[None]:
    """Set PyTorch's threads and, if the system allows it, pin as many cores, which limits other libraries too.

    Args:
        count: number of threads.
        among: the cores to choose from; default: those of the process.
    """
    before, held = torch.get_num_threads(), cores()
    torch.set_num_threads(count)
    if held:
        os.sched_setaffinity(0, set(sorted(among or held)[:count]))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if held:
            os.sched_setaffinity(0, held)


def cores() -> set[int]:
    """The cores that the process may run on; empty if unknown."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def _random(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random numbers with the given memory layout; an expanded tensor has fewer than its elements."""
    held = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return torch.randn(held, dtype=dtype, device=device).as_strided(shape, stride)


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the matrix products of the code under it, to time them alone: a lower bound on its time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noted: list[tuple[Any, list[tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            tensors = [each for each in args if isinstance(each, Tensor)]
            self._noted.append((func, [(t.shape, t.stride(), t.dtype, t.device) for t in tensors]))
        return func(*args, **(kwargs or {}))

    def __len__(self) -> int:
        return len(self._noted)

    def alone(self) -> Callable[[], None]:
        """The same products of random numbers with the same memory layout."""
        # One set of operands per shape; separate ones for every product would not fit into the caches.
        made: dict[Any, list[Tensor]] = {}
        calls = []
        for func, layouts in self._noted:
            key = (func, tuple(layouts))
            if key not in made:
                made[key] = [_random(*layout) for layout in layouts]
            calls.append((func, made[key]))

        def run() -> None:
            for func, operands in calls:
                func(*operands)

        return run
