"""The cost of each arm: FLOPs and time of real training steps, interleaved in one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.utils.flop_counter import FlopCounterMode

from deltarl.agents.off_policy import OffPolicySpec
from deltarl.training.build import built
from deltarl.training.spec import RunSpec

ROUNDS = 5
# Steps per round of an algorithm with replay; an on-policy algorithm trains on one rollout.
OFF_POLICY_STEPS = 200
MOST_STEPS_BEFORE = 1_000


@dataclass
class Cost:
    """The measurements of one arm on one task.

    Attributes:
        flops_per_step: FLOPs of inference for one step of one environment: matrix products, as PyTorch counts them.
        flops_per_update: FLOPs of one update as Stable-Baselines3 counts updates: a gradient step of an algorithm with
            replay, an epoch of PPO.
        updates_per_step: network updates per step of one environment.
        seconds_per_1000_steps: time of training, including the environments; one entry per round.
    """

    flops_per_step: float = 0.0
    flops_per_update: float = 0.0
    updates_per_step: float = 0.0
    seconds_per_1000_steps: list[float] = field(default_factory=list)


def measure_costs(arms: Mapping[str, RunSpec], rounds: int = ROUNDS) -> dict[str, Cost]:
    """Train the arms of a task briefly and in turn, so that other load on the machine affects all of them equally.

    A first round counts FLOPs and warms up; the others are timed. Uses seed 0 and the arms' own number of threads.

    Args:
        arms: runs of one task by arm.
        rounds: timed rounds of each arm.
    """
    threads = torch.get_num_threads()
    costs = {arm: Cost() for arm in arms}
    try:
        with ExitStack() as opened:
            models = {}
            for arm, spec in arms.items():
                torch.set_num_threads(spec.threads)
                models[arm] = model = opened.enter_context(built(_without_waiting(spec), 0))[0]
                model.set_logger(Logger(None, []))
                if isinstance(model, OffPolicyAlgorithm):
                    _learn(model, model.learning_starts + 1)
                _count(model, costs[arm])
            for _ in range(rounds):
                for arm, model in models.items():
                    torch.set_num_threads(arms[arm].threads)
                    before, start = model.num_timesteps, time.perf_counter()
                    _learn(model, _steps(model))
                    _synchronize(model)
                    seconds = time.perf_counter() - start
                    costs[arm].seconds_per_1000_steps.append(1_000 * seconds / (model.num_timesteps - before))
    finally:
        torch.set_num_threads(threads)
    return costs


def _count(model: BaseAlgorithm, cost: Cost) -> None:
    """Train one round under PyTorch's FLOP counter."""
    counters = {"collect_rollouts": FlopCounterMode(display=False), "train": FlopCounterMode(display=False)}
    before, updates = model.num_timesteps, _updates(model)
    counted: dict[str, int] = dict.fromkeys(counters, 0)

    def watched(name: str) -> Any:
        method = getattr(model, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with counters[name] as counter:
                result = method(*args, **kwargs)
            counted[name] += counter.get_total_flops()
            return result

        return call

    for name in counters:
        setattr(model, name, watched(name))
    try:
        _learn(model, _steps(model))
    finally:
        for name in counters:
            delattr(model, name)
    steps, done = model.num_timesteps - before, _updates(model) - updates
    cost.flops_per_step = counted["collect_rollouts"] / steps
    cost.flops_per_update = counted["train"] / done if done else 0.0
    cost.updates_per_step = done / steps


def _learn(model: BaseAlgorithm, steps: int) -> None:
    model.learn(steps, reset_num_timesteps=False)


def _steps(model: BaseAlgorithm) -> int:
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_steps * model.n_envs
    return OFF_POLICY_STEPS


def _updates(model: BaseAlgorithm) -> int:
    return int(model._n_updates)


def _synchronize(model: BaseAlgorithm) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _without_waiting(spec: RunSpec) -> RunSpec:
    """The run with few steps before its first update, unless hindsight replay needs whole episodes."""
    if not isinstance(spec.agent, OffPolicySpec) or spec.agent.her is not None:
        return spec
    starts = min(spec.agent.learning_starts, MOST_STEPS_BEFORE)
    return spec.model_copy(update={"agent": spec.agent.model_copy(update={"learning_starts": starts})})
