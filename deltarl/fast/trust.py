"""Tells whether only the libraries' code runs within `learn`.

This decides how often a plan is compared with the algorithm: a user's code may change anything whenever it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.utils import FloatSchedule

from deltarl.fast.libraries import LIBRARIES
from deltarl.task_packages import PACKAGES

_TRUSTED = {*LIBRARIES, "gymnasium", *PACKAGES}


def is_trusted(called: Any) -> bool:
    """Whether an object or function comes from a library that does not interfere with lean steps."""
    written_in = called if isinstance(called, FunctionType | MethodType) else type(called)
    return str(written_in.__module__).partition(".")[0] in _TRUSTED


def is_trusted_callback(callback: Any) -> bool:
    """Whether a callback, and every callback that it calls, is from Stable-Baselines3 or deltarl."""
    if not isinstance(callback, BaseCallback):
        return callback is None
    own = vars(callback)
    called = [*own.get("callbacks", []), own.get("callback"), own.get("callback_on_new_best")]
    return type(callback).__module__.partition(".")[0] in LIBRARIES and all(map(is_trusted_callback, called))


def called_by_learn(model: Any) -> Iterator[Any]:
    """What `learn` calls in this process besides the algorithm: environments, noise, schedules and logger outputs."""
    env = model.env
    yield from _wrappers(env, "venv")
    while not hasattr(env, "envs") and hasattr(env, "venv"):
        env = env.venv
    for each in getattr(env, "envs", []):
        yield from _wrappers(each, "env")
    yield from (value for value in vars(model).values() if isinstance(value, ActionNoise))
    yield from schedules_of(model)
    yield from model.logger.output_formats


def schedules_of(model: Any) -> Iterator[Any]:
    """The schedules and other callables that an algorithm holds."""
    held = [value for value in vars(model).values() if not isinstance(value, type)]
    yield from (value for value in held if callable(value))
    yield from (value.value_schedule for value in held if isinstance(value, FloatSchedule))


def _wrappers(env: Any, inner: str) -> Iterator[Any]:
    while env is not None:
        yield env
        env = vars(env).get(inner)
