"""The measurements: whole training steps, updates relative to their matrix products, environments, first steps."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mujoco  # type: ignore[import-untyped]
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from deltarl.bench.cases import ALGORITHMS, NETWORKS, OPTIONS, TASK, Case, build
from deltarl.bench.clock import Products, Ratio, cores, in_turns, seconds, threads

PACKAGES = ("deltarl", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "mujoco", "numpy", "sbx-rl", "jax")
Say = Callable[[str], None]


def measure(cases: list[Case], *, device: str, count: int, rounds: int, at_least: float, say: Say) -> dict[str, Any]:
    """Time the cases, one algorithm at a time, with its networks and implementations interleaved in this process.

    Args:
        cases: the cases to time.
        device: PyTorch's device.
        count: PyTorch threads, and cores the process is pinned to.
        rounds: timings of each.
        at_least: seconds of one timing.
        say: called with progress messages.

    Returns:
        JSON data: where it was measured, and a list of rows for each table.
    """
    tables = ("steps", "updates", "envs", "starts", "threads")
    report: dict[str, Any] = {"machine": machine(device, count), **{name: [] for name in tables}}
    report["rounds"], report["seconds"] = rounds, at_least
    every = cores()
    with threads(count):
        _warm_up(device)
        for algorithm in dict.fromkeys(case.algorithm for case in cases):
            own = [case for case in cases if case.algorithm == algorithm]
            say(f"{algorithm}: starting")
            models: dict[tuple[str, str], BaseAlgorithm] = {}
            for case in own:
                for way in case.ways:
                    models[case.network, way] = build(case, way, device)
            report["starts"] += _starts(algorithm, models)
            say(f"{algorithm}: whole training steps")
            report["steps"] += _steps(algorithm, models, rounds, at_least)
            if device == "cpu" and len(every) > 1:
                say(f"{algorithm}: numbers of threads")
                report["threads"] += _threads(algorithm, models, every, rounds, at_least)
            # Before the updates, which train on the same experience repeatedly and leave useless policies.
            say(f"{algorithm}: environments")
            report["envs"] += _envs(algorithm, models, rounds, at_least)
            say(f"{algorithm}: updates and their products alone")
            report["updates"] += _updates(algorithm, models, rounds, at_least)
            for model in models.values():
                assert model.env is not None
                model.env.close()
    _break_even(report)
    return report


def _warm_up(device: str) -> None:
    """Run the one-time initialisations of a process, so that no timed first step includes them."""
    for way in ("sb3", "deltarl"):
        model = build(Case("ppo", "delta"), way, device)
        model.n_epochs = 1  # type: ignore[attr-defined]  # further epochs would initialise nothing more
        _learn(model, 1)
        model.env.close()  # type: ignore[union-attr]


def machine(device: str, count: int) -> dict[str, Any]:
    """Versions, processor and threads."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {"versions": versions, "processor": _processor(), "device": device, "gpu": gpu, "threads": count}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


def _unit(model: BaseAlgorithm) -> int:
    """Environment steps between two updates."""
    return model.n_steps * model.n_envs if isinstance(model, OnPolicyAlgorithm) else 1


def _learn(model: BaseAlgorithm, units: int) -> None:
    model.learn(units * _unit(model), reset_num_timesteps=False)


def _starts(algorithm: str, models: dict[tuple[str, str], BaseAlgorithm]) -> list[dict[str, Any]]:
    """Seconds of the first training step, including one-time initialisation and compilation."""
    return [
        {"algorithm": algorithm, "network": network, "way": way, "first": seconds(partial(_learn, model, 1))}
        for (network, way), model in models.items()
    ]


def _steps(
    algorithm: str, models: dict[tuple[str, str], BaseAlgorithm], rounds: int, at_least: float
) -> list[dict[str, Any]]:
    calls = {f"{network}|{way}": partial(_learn, model) for (network, way), model in models.items()}
    found, _ = in_turns(calls, rounds, at_least)
    rows = []
    for (network, way), model in models.items():
        each = [value / _unit(model) for value in found[f"{network}|{way}"]]
        rows.append({"algorithm": algorithm, "network": network, "way": way, "seconds": each})
    return rows


def _threads(
    algorithm: str, models: dict[tuple[str, str], BaseAlgorithm], every: set[int], rounds: int, at_least: float
) -> list[dict[str, Any]]:
    """Whole training steps of deltarl on one thread, two, four, ... and one per core."""
    counts = sorted({2**power for power in range(len(every).bit_length()) if 2**power < len(every)} | {len(every)})

    def learn(model: BaseAlgorithm, count: int, units: int) -> None:
        with threads(count, every):
            _learn(model, units)

    own = {network: model for (network, way), model in models.items() if way == "deltarl"}
    calls = {f"{network}|{count}": partial(learn, model, count) for network, model in own.items() for count in counts}
    found, _ = in_turns(calls, rounds, at_least)
    rows = []
    for name, each in found.items():
        network, count = name.split("|")
        steps = [value / _unit(own[network]) for value in each]
        rows.append({"algorithm": algorithm, "network": network, "threads": int(count), "seconds": steps})
    return rows


def _updates(
    algorithm: str, models: dict[tuple[str, str], BaseAlgorithm], rounds: int, at_least: float
) -> list[dict[str, Any]]:
    """Calls of `train` alone, and their matrix products alone."""
    calls: dict[str, Callable[[int], Any]] = {}
    for (network, way), model in models.items():
        if way == "sbx":
            continue  # compiled as a whole: its products are not visible
        train: Any = model.train  # type: ignore[attr-defined]
        update = partial(train, 1, OPTIONS["batch_size"]) if isinstance(model, OffPolicyAlgorithm) else train
        calls[f"{network}|{way}|update"] = partial(_repeat, update)
        if way == "deltarl":
            update()
            with Products() as products:
                update()
            calls[f"{network}|{way}|floor"] = partial(_repeat, products.alone())
    found, _ = in_turns(calls, rounds, at_least)
    return [
        {"algorithm": algorithm, "network": network, "way": way, "what": what, "seconds": each}
        for name, each in found.items()
        for network, way, what in [name.split("|")]
    ]


def _repeat(call: Callable[..., Any], times: int) -> None:
    for _ in range(times):
        call()


def _envs(
    algorithm: str, models: dict[tuple[str, str], BaseAlgorithm], rounds: int, at_least: float
) -> list[dict[str, Any]]:
    """Rollouts without learning, and the physics alone, in seconds per step of one environment."""
    if "mlp" not in {network for network, _ in models}:
        return []
    calls: dict[str, Callable[[int], Any]] = {"physics": _physics()}
    per: dict[str, int] = {"physics": 1}
    for (network, way), model in models.items():
        if network == "mlp" and way != "sbx":
            model.train = _no_update  # type: ignore[attr-defined]
            calls[way], per[way] = partial(_learn, model), _unit(model)
    found, _ = in_turns(calls, rounds, at_least)
    for model in models.values():
        vars(model).pop("train", None)
    return [
        {"algorithm": algorithm, "way": way, "seconds": [value / per[way] for value in each]}
        for way, each in found.items()
    ]


def _no_update(*_: Any, **__: Any) -> None:
    """Replaces `train`."""


def _physics() -> Callable[[int], None]:
    """Steps of MuJoCo alone, with random controls, in episodes of 1000 steps."""
    env: Any = make_vec_env(TASK, 1, seed=0).envs[0].unwrapped  # type: ignore[attr-defined]
    env.reset(seed=0)
    random = np.random.default_rng(0)
    controls = random.uniform(-1, 1, (1_000, env.model.nu))

    def run(steps: int) -> None:
        for step in range(steps):
            if step % len(controls) == 0:
                mujoco.mj_resetData(env.model, env.data)
            env.data.ctrl[:] = controls[step % len(controls)]
            mujoco.mj_step(env.model, env.data, nstep=env.frame_skip)

    return run


def _break_even(report: dict[str, Any]) -> None:
    """For each case, the step at which deltarl's longer start, if it is longer, has paid off."""
    steps = {_key(row): float(np.median(row["seconds"])) for row in report["steps"]}
    firsts = {_key(row): row["first"] for row in report["starts"]}
    for row in report["starts"]:
        own, theirs = (row["algorithm"], row["network"], "deltarl"), (row["algorithm"], row["network"], "sb3")
        if row["way"] == "deltarl" and theirs in steps:
            saved, later = steps[theirs] - steps[own], firsts[own] - firsts[theirs]
            row["break_even"] = 0.0 if later <= 0 else later / saved if saved > 0 else None


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["algorithm"], row["network"], row["way"]


def ratios(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios in the tables: of times in the same rounds, each with its median and quartiles.

    Above 1, deltarl is faster; for Delta over residual, and for an update over its matrix products, it is slower.
    """
    steps = {_key(row): row["seconds"] for row in report["steps"]}
    found = []

    def add(what: str, algorithm: str, network: str, one: Any, other: Any) -> None:
        if one in steps and other in steps:
            ratio = asdict(Ratio.of(steps[one], steps[other]))
            found.append({"what": what, "algorithm": algorithm, "network": network, **ratio})

    for algorithm in ALGORITHMS:
        for network in NETWORKS:
            own = (algorithm, network, "deltarl")
            theirs = network if network != NETWORKS[-1] else "mlp"
            add("sb3 / deltarl", algorithm, network, (algorithm, theirs, "sb3"), own)
            add("sbx / deltarl", algorithm, network, (algorithm, theirs, "sbx"), own)
        delta, residual = ((algorithm, network, "deltarl") for network in ("delta", "residual"))
        add("delta / residual", algorithm, "delta", delta, residual)
    return found
