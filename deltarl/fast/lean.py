"""Chooses between a lean training step and Stable-Baselines3's own, also during rollouts."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from deltarl.fast.libraries import overrides
from deltarl.fast.override import Override
from deltarl.fast.seal import AROUND, Seal, is_unchanged
from deltarl.fast.trust import called_by_learn, is_trusted, is_trusted_callback, schedules_of

# If only the libraries' code runs, only another thread could change anything.
ALONE_LOOKS_EVERY = 100


@dataclass
class Plan:
    """Which training step an algorithm takes, and the state that this was decided from.

    Attributes:
        seal: the state of the algorithm at that moment.
        update: None for Stable-Baselines3's own step.
        has_modes: whether any module may behave differently in training and evaluation mode.
        reason: why the step is Stable-Baselines3's own; None for a lean one.
        watched: whether code that is given the algorithm, such as a callback, runs within rollouts.
        alone: whether only the libraries' code runs within `learn`.
        passed: how often this plan has been used since the seal was last compared.
    """

    seal: Seal
    update: Any
    has_modes: bool
    reason: str | None
    watched: bool = True
    alone: bool = False
    passed: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """None: a copy of an algorithm makes its own plan."""


class Lean(ABC):
    """An algorithm that takes lean steps where they compute the same, and Stable-Baselines3's steps otherwise."""

    # Rebuilt from the algorithm's networks when needed.
    __transient__: ClassVar[frozenset[str]] = frozenset({"_lean"})
    update_class: ClassVar[Any]
    _lean: Plan | None = None

    def lean_update(self) -> Any:
        """The update of the algorithm as it is now, or None if Stable-Baselines3's own step is needed.

        It is rebuilt by each `learn`, and when anything that it depends on has been replaced.
        """
        return self.lean_plan().update

    def lean_plan(self) -> Plan:
        """The current plan, rebuilt if anything that it depends on has changed."""
        plan = self._lean
        if plan is not None and plan.alone and plan.passed < ALONE_LOOKS_EVERY:
            plan.passed += 1
            return plan
        if plan is None or not plan.seal.holds():
            seal = Seal(self)
            replaced = "code of the libraries has been replaced"
            reason = next(self.obstacles(), None) if seal.is_theirs() else replaced
            update = self.update_class(self) if reason is None else None
            has_modes = update is None or not update.features.flat or any(layer.has_modes for layer in update.networks)
            # Code that has changed something may do so again, so the new plan is watched and not alone.
            plan = self._lean = Plan(seal, update, has_modes, reason)
        plan.passed = 0
        return plan

    def _plan_after_schedules(self) -> Plan:
        """The plan, checked again if a schedule of the user has been called since."""
        assert self._lean is not None
        return self._lean if all(map(is_trusted, schedules_of(self))) else self.lean_plan()

    def _plan_within_a_rollout(self) -> Plan:
        """The plan, checked again if code that has access to the algorithm runs at each step."""
        return self.lean_plan() if self._lean is None or self._lean.watched else self._lean

    def obstacles(self) -> Iterator[str]:
        """The reasons why a lean update would not compute the same for the algorithm as it is now."""
        if overrides(type(self), AROUND):
            yield f"{type(self).__name__} overrides methods of the algorithm"
        if self.use_sde:  # type: ignore[attr-defined]
            yield "exploration depends on the state (use_sde)"
        if not is_unchanged(self.policy):  # type: ignore[attr-defined]
            yield "the policy has methods, hooks, parameters or random layers that its class does not define"
        if torch.is_anomaly_enabled():
            yield "PyTorch checks its own backward passes for NaN (detect_anomaly)"

    def learn(self, *args: Any, **options: Any) -> Any:
        try:
            return super().learn(*args, **options)  # type: ignore[misc]
        finally:
            self._lean = None  # outside `learn`, anything may be changed

    def _setup_learn(self, *args: Any, **options: Any) -> Any:
        self._lean = None
        total, callback = super()._setup_learn(*args, **options)  # type: ignore[misc]
        plan = self.lean_plan()
        plan.watched = not is_trusted_callback(callback)
        plan.alone = not plan.watched and all(map(is_trusted, [*plan.seal.objects, *called_by_learn(self)]))
        return total, callback

    def has_modes(self) -> bool:
        """Whether any module of the current update may behave differently in training and evaluation mode."""
        return self.lean_plan().has_modes

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """During rollouts, override the policy's per-step methods on this instance only."""
        policy, plan = self.policy, self._plan_within_a_rollout()  # type: ignore[attr-defined]
        placed: list[Override] = []
        if not plan.has_modes and not policy.training:
            placed.append(Override(policy, "set_training_mode", self._stay))
        if plan.update is not None and isinstance(policy, ActorCriticPolicy):
            placed.append(Override(policy, "forward", self._act))
        try:
            yield
        finally:
            for override in placed:
                override.end()

    def _act(self, observations: Any, deterministic: bool = False) -> Any:
        update = self._plan_within_a_rollout().update
        policy = self.policy  # type: ignore[attr-defined]
        act = type(policy).forward.__get__(policy) if update is None else update.policy.act
        return act(observations, deterministic)

    def _stay(self, mode: bool) -> None:
        if self._plan_within_a_rollout().has_modes:
            policy = self.policy  # type: ignore[attr-defined]
            type(policy).set_training_mode(policy, mode)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **options: Any) -> Any:
        with self.collecting():
            return super().collect_rollouts(env, callback, *args, **options)  # type: ignore[misc]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_lean"]  # type: ignore[misc]


def training_step(model: BaseAlgorithm) -> dict[str, str]:
    """Which training step an algorithm takes now, named as in `agent.implementation`.

    Returns:
        `{"implementation": "deltarl"}` for a lean one, `{"implementation": "sb3", "reason": ...}` otherwise.
    """
    stock = f"{type(model).__name__} is not one of deltarl.fast"
    reason = model.lean_plan().reason if isinstance(model, Lean) else stock
    return {"implementation": "deltarl"} if reason is None else {"implementation": "sb3", "reason": reason}
