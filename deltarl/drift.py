"""Tasks that change during training: actuators and friction of the simulation, by training steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from deltarl.errors import ConfigError, Spec, complaint

Factors = tuple[Annotated[float, Field(gt=0, le=1_000)], ...]


class DriftSpec(Spec):
    """Actuators and friction that change at given training steps; for MuJoCo tasks."""

    wrapper: Literal["drift"]
    at: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Training steps, over all environments together, at which a phase ends."
    )
    strength: Factors = Field((), description="Factor on the force of every actuator in each phase; empty means 1.")
    friction: Factors = Field((), description="Factor on the friction of every geom in each phase; empty means 1.")

    @model_validator(mode="after")
    def _there_is_a_factor_for_each_phase(self) -> DriftSpec:
        if any(later <= earlier for earlier, later in pairwise(self.at)):
            raise complaint(f"expected steps in increasing order; got {list(self.at)}", key="at")
        phases = len(self.at) + 1
        for name in ("strength", "friction"):
            factors = getattr(self, name)
            if factors and len(factors) != phases:
                raise complaint(
                    f"expected {phases} factors, one per phase; got {len(factors)}: {list(factors)}",
                    key=name,
                )
        if not self.strength and not self.friction:
            raise complaint("nothing changes; give strength, friction or both")
        return self

    def phase(self, steps: int) -> int:
        """The phase, from 0, of the next step after `steps` training steps."""
        return sum(steps >= end for end in self.at)

    def held(self, steps: int | None) -> DriftSpec:
        """The task fixed in its phase after `steps` training steps; None means the last phase."""
        phase = len(self.at) if steps is None else self.phase(steps)
        chosen = {
            name: factors[phase : phase + 1] for name in ("strength", "friction") if (factors := getattr(self, name))
        }
        return self.model_copy(update={"at": (), **chosen})

    def wrap(self, env: gym.Env[Any, Any], n_envs: int) -> gym.Env[Any, Any]:
        """Wrap one of `n_envs` environments that are stepped together and share a clock."""
        return Drift(env, self, n_envs)


class Drift(gym.Wrapper[Any, Any, Any, Any]):
    """Scales the actuators and the friction of a MuJoCo model according to the current phase.

    The clock counts the steps of this environment times the number of environments that are stepped together. A phase
    begins with its first step, possibly in the middle of an episode.

    Raises:
        ConfigError: if the environment has no MuJoCo model with actuators.
    """

    def __init__(self, env: gym.Env[Any, Any], spec: DriftSpec, n_envs: int) -> None:
        super().__init__(env)
        model: Any = getattr(env.unwrapped, "model", None)
        if not getattr(model, "nu", 0):
            name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
            raise ConfigError(f"env.wrappers: drift changes the actuators of MuJoCo's tasks, and {name} has none")
        self._drift, self._n_envs = spec, n_envs
        self._own_steps = 0
        self._phase = 0
        self._gears, self._frictions = model.actuator_gear.copy(), model.geom_friction.copy()
        self._apply()

    @property
    def phase(self) -> int:
        """The phase of the last step, from 0."""
        return self._phase

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        phase = self._drift.phase(self._own_steps * self._n_envs)
        if phase != self._phase:
            self._phase = phase
            self._apply()
        self._own_steps += 1
        return super().step(action)

    def _apply(self) -> None:
        model: Any = getattr(self.env.unwrapped, "model")  # noqa: B009  (no attribute of every environment)
        for values, start, factors in (
            (model.actuator_gear, self._gears, self._drift.strength),
            (model.geom_friction, self._frictions, self._drift.friction),
        ):
            if factors:
                np.multiply(start, factors[self._phase], out=values)
