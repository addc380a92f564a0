"""Latency of one action: exported policies compared with Stable-Baselines3's `predict`.

    .venv/bin/python benchmarks/onnx_latency.py [--rounds 60] [--write results/onnx_latency.json]

One raw observation in, one action out, on one thread, all ways in turns in one process. Policies are of the default
sizes, untrained: the numbers in them make no difference. PPO has the normaliser in front, as in training; `predict` is
timed with it. Times are CPU times, so other work on the machine is not counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import deltarl.policies  # noqa: F401 - the aliases
from deltarl.bench.clock import Ratio, cpu_seconds, in_turns, threads
from deltarl.export.formats import encode, opened
from deltarl.export.policy import policy_module
from deltarl.training.provenance import provenance

CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "PPO, MLP": (PPO, "MlpPolicy", {}),
    "PPO, Delta": (PPO, "DeltaPolicy", {}),
    "SAC, Delta": (SAC, "DeltaPolicy", {"buffer_size": 1}),
}
AT_LEAST = 0.02  # seconds of one timing


def repeat(act: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        act()


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Microseconds of an action by way, medians, and how many times faster than `predict` each way is."""
    algorithm, alias, options = CASES[case]
    envs: Any = DummyVecEnv([lambda: gym.make("Hopper-v5")])
    normalizer = VecNormalize(envs, training=False) if algorithm is PPO else None
    model = algorithm(alias, normalizer or envs, device="cpu", seed=0, **options)
    module = policy_module(model)
    [each] = module.inputs
    observation = np.random.default_rng(0).standard_normal(each.sized(1)).astype(each.dtype)
    scripted, runtime = (opened(encode(module, kind, {}), kind, module, Path(kind)) for kind in ("torchscript", "onnx"))

    def predict() -> None:
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        model.policy.predict(seen, deterministic=True)

    def in_pytorch() -> None:
        with torch.inference_mode():
            module(torch.from_numpy(observation)).numpy()

    ways = {
        "predict": predict,
        "module": in_pytorch,
        "torchscript": lambda: scripted.run({each.name: observation}),
        "onnx": lambda: runtime.run({each.name: observation}),
    }
    calls = {name: partial(repeat, act) for name, act in ways.items()}
    spent, _ = in_turns(calls, rounds, AT_LEAST, cpu_seconds)
    return {
        name: {
            "microseconds": round(1e6 * float(np.median(spent[name])), 2),
            "times_faster": vars(Ratio.of(spent["predict"], spent[name])),
        }
        for name in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    command = ["benchmarks/onnx_latency.py", "--rounds", str(given.rounds)]
    with threads(1):
        found = {"rounds": given.rounds, "provenance": provenance(command)}
        found["cases"] = {case: measure(case, given.rounds) for case in CASES}
    text = json.dumps(found, indent=1)
    print(text)
    if given.write:
        given.write.write_text(text + "\n")


if __name__ == "__main__":
    main()
