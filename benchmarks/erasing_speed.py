"""Cost of whole training steps with a block that erases, compared with a residual block, at the sizes of `bench`.

    .venv/bin/python benchmarks/erasing_speed.py [--rounds 20] --write results/erasing_speed.json

One thread and one process, in turns of a fraction of a second. Times are CPU seconds: other work on the machine is not
counted, but shares the caches.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from deltarl.bench.cases import ALGORITHMS, ENVS, ON_POLICY_OPTIONS, OPTIONS, TASK, WIDTHS
from deltarl.bench.clock import Ratio
from deltarl.bench.measure import _unit, machine
from deltarl.fast.vec_env import DummyVecEnv

SMALL = {"kind": "delta", "value_start": 0.25, "beta_init": 0.5}
TORSOS: dict[str, dict[str, Any]] = {
    "residual": {"kind": "residual"},
    "1 head": {"kind": "delta", "heads": 1, "value_start": 1.0, "beta_init": 1.0},
    "4 heads, start 0.25": {**SMALL, "heads": 4},
    "heads of 16 features, start 0.25": {**SMALL, "head_width": 16},
}
STEPS = {"ppo": 2_048, "sac": 8}  # per turn


def build(algorithm: str, torso: dict[str, Any]) -> Any:
    """Build the algorithm with lean steps, and take its first random steps."""
    spec = ALGORITHMS[algorithm]
    env = make_vec_env(TASK, ENVS[algorithm], seed=0, vec_env_cls=DummyVecEnv)
    policy_kwargs = {"torso": {"width": WIDTHS.get(algorithm, 256), **torso}}
    options = ON_POLICY_OPTIONS.get(algorithm, OPTIONS)
    model = spec.lean("DeltaPolicy", env, seed=0, device="cpu", policy_kwargs=policy_kwargs, **options)
    model.set_logger(Logger(None, []))
    if isinstance(model, OffPolicyAlgorithm):
        model.learn(OPTIONS["learning_starts"])
    return model


def turns(models: dict[str, Any], steps: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds per step of each, once per round in an order that rotates."""
    found: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            model = models[name]
            learn = partial(model.learn, max(steps, _unit(model)), reset_num_timesteps=False)
            begun = time.process_time()
            learn()
            if turn >= 0:  # the first is a warm-up
                found[name].append((time.process_time() - begun) / steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--algorithms", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--write", type=Path, help="a JSON file for the results; algorithms that are in it stay")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    written = arguments.write is not None and arguments.write.exists()
    report: dict[str, Any] = json.loads(arguments.write.read_text()) if written else {"cases": {}}
    report["machine"] = machine("cpu", 1)
    for algorithm in arguments.algorithms:
        models = {name: build(algorithm, torso) for name, torso in TORSOS.items()}
        assert all(model.lean_update() is not None for model in models.values())
        found = turns(models, STEPS[algorithm], arguments.rounds)
        report["cases"][algorithm] = {
            name: {"ms": 1e3 * sorted(each)[len(each) // 2], "to_residual": asdict(Ratio.of(each, found["residual"]))}
            for name, each in found.items()
        }
        print(algorithm, json.dumps(report["cases"][algorithm], indent=1), flush=True)
        if arguments.write is not None:
            arguments.write.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
