"""Stops a run at the first NaN or infinity, before it reaches anything learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from deltarl.errors import NonFiniteError


class FiniteEnvs(VecEnvWrapper):
    """Checks every observation and reward before normalisation.

    Args:
        venv: the environments.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.steps = 0

    def reset(self) -> VecEnvObs:
        """Reset, and check the observations.

        Raises:
            NonFiniteError: if an observation is not finite.
        """
        observations = self.venv.reset()
        self._look("observation", observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and check observations and rewards.

        Raises:
            NonFiniteError: if an observation (including an episode's last) or a reward is not finite.
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        self.steps += self.num_envs
        self._look("observation", observations)
        self._look("reward", rewards)
        for index in np.flatnonzero(dones):
            if (last := infos[index].get("terminal_observation")) is not None:
                self._look("last observation", last, only=int(index))
        return observations, rewards, dones, infos

    def _look(self, what: str, values: Any, only: int | None = None) -> None:
        if isinstance(values, Mapping):
            for key, value in values.items():
                self._look(f"{what} '{key}'", value, only)
            return
        values = np.asarray(values)
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        value = values[place]
        environment, rest = (only, place) if only is not None else (place[0], place[1:])
        entry = f"[{', '.join(map(str, rest))}]" if rest else ""
        raise NonFiniteError(f"step {self.steps:,}: {what}{entry} of environment {environment} is {value}")


def check_losses(step: int, logged: Mapping[str, Any]) -> None:
    """Check the losses that an algorithm logged in its last update.

    Raises:
        NonFiniteError: if one is not finite.
    """
    for key, value in logged.items():
        # Other values may legitimately be NaN, such as the explained variance of constant returns.
        if ("loss" in key or "objective" in key) and not math.isfinite(value):
            raise NonFiniteError(f"step {step:,}: {key} is {value}")


def check_tensors(step: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Check tensors that are to be stored in a checkpoint.

    Raises:
        NonFiniteError: if a number is not finite.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NonFiniteError(f"step {step:,}: {name} holds {_first_of(tensor)}")


@contextmanager
def distributions_named(model: BaseAlgorithm) -> Iterator[None]:
    """Convert PyTorch's error for a distribution with NaN, the result of an overflowed policy.

    Raises:
        NonFiniteError: instead of PyTorch's error.
    """
    try:
        yield
    except ValueError as error:
        if "found invalid values" not in str(error):
            raise
        which = str(error).split(" (", 1)[0].removeprefix("Expected ")
        raise NonFiniteError(
            f"step {model.num_timesteps:,}: {which} of the policy's actions is not finite; its networks have overflowed"
        ) from error


def _first_of(tensor: torch.Tensor) -> float:
    return float(tensor[~torch.isfinite(tensor)].flatten()[0])
