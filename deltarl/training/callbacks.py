"""Callbacks of the user's own, given to `train` or `resume`."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback

from deltarl.checkpoints.state import capture
from deltarl.errors import ConfigError

# What `learn` of Stable-Baselines3 accepts.
Callbacks = Callable[..., Any] | BaseCallback | Sequence[Callable[..., Any] | BaseCallback] | None


class UserCallbacks(CallbackList):
    """Calls the user's callbacks, and remembers which of them ended the run.

    Attributes:
        stopped_by: the name of the first callback that returned False, or None as a function without `return` does;
            None if all have returned True.
    """

    def __init__(self, callbacks: Sequence[BaseCallback]) -> None:
        super().__init__(list(callbacks))
        self.stopped_by: str | None = None

    def _on_step(self) -> bool:
        for callback in self.callbacks:
            wanted: bool | None = callback.on_step()
            if not wanted and self.stopped_by is None:
                hint = " (it returned None; give True to continue)" if wanted is None else ""
                self.stopped_by = f"{name_of(callback)}{hint}"
        return self.stopped_by is None


def as_callbacks(given: Callbacks) -> tuple[BaseCallback, ...]:
    """The callbacks as objects; a function of `locals` and `globals` is wrapped as Stable-Baselines3 does.

    Raises:
        ConfigError: if something else was given.
    """
    listed: Iterable[Any] = () if given is None else given if isinstance(given, list | tuple) else (given,)
    return tuple(_as_callback(each) for each in listed)


def _as_callback(given: Any) -> BaseCallback:
    if isinstance(given, BaseCallback):
        return given
    if isinstance(given, type):
        raise ConfigError(f"callbacks: {given.__name__} is a class; give an instance: {given.__name__}()")
    if not callable(given):
        raise ConfigError(
            f"callbacks: expected a Stable-Baselines3 callback, a function, or a list of them; got {given!r}"
        )
    return ConvertCallback(given)


def name_of(callback: BaseCallback) -> str:
    """The name of a callback's class, or of the function in it, with its module."""
    named: Any = callback.callback if isinstance(callback, ConvertCallback) else type(callback)
    while isinstance(named, functools.partial):
        named = named.func
    named = named if hasattr(named, "__qualname__") else type(named)
    return f"{named.__module__}.{named.__qualname__}"


def copies(callbacks: Sequence[BaseCallback], number: int) -> list[tuple[BaseCallback, ...]]:
    """The callbacks for each of several seeds: the objects themselves for a single one, else copies.

    Raises:
        ConfigError: if one cannot be pickled, which the processes of seeds side by side require.
    """
    if number == 1:
        return [tuple(callbacks)]
    for callback in callbacks:
        try:
            pickle.dumps(callback)
        except Exception as error:
            raise ConfigError(
                f"callbacks: {name_of(callback)} cannot be copied for {number} seeds ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); define it at the top level of a module, or train one seed per call"
            ) from error
    stored = pickle.dumps(tuple(callbacks))
    return [pickle.loads(stored) for _ in range(number)]


def unsupported(callbacks: Sequence[BaseCallback]) -> dict[str, str]:
    """The attributes of callbacks that a checkpoint cannot store, with their kinds, by callback and attribute."""
    found: dict[str, str] = {}
    for callback in callbacks:
        try:
            missing = capture({"callback": callback}).unsupported
        except RecursionError:
            missing = {"/callback": "nested too deeply"}
        found |= {path.replace("/callback", name_of(callback), 1): kind for path, kind in missing.items()}
    return found
