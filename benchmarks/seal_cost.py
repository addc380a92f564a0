"""What it costs to look, once a `train`, whether all is still Stable-Baselines3's own: `train` with and without.

    python benchmarks/seal_cost.py [--rounds 30] [--write FILE]

SAC with one gradient step a call, the hardest case, and PPO with a whole rollout, both at Stable-Baselines3's default
sizes on HalfCheetah-v5: in turns in one process, by the time that the process itself had, so that other work on the
machine does not enter.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from deltarl import fast

CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "SAC, mlp": ("SAC", "MlpPolicy", {"learning_starts": 100, "buffer_size": 10_000}, 50),
    "SAC, delta": ("SAC", "DeltaPolicy", {"learning_starts": 100, "buffer_size": 10_000}, 10),
    "PPO, mlp": ("PPO", "MlpPolicy", {}, 1),
}


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of a call of `train`, medians and quartiles of the rounds, and of the look alone."""
    name, policy, options, calls = CASES[case]
    model: Any = getattr(fast, name)(policy, "HalfCheetah-v5", seed=0, device="cpu", **options)
    model.learn(model.n_steps if name == "PPO" else 300)
    arguments = () if name == "PPO" else (1, 256)
    found: dict[bool, list[float]] = {True: [], False: []}
    for index in range(2 * rounds + 2):
        looks = index % 2 == 0
        seal = model._plan().seal
        if not looks:
            seal.holds = lambda: True
        start = time.process_time()
        for _ in range(calls):
            model.train(*arguments)
        spent = time.process_time() - start
        vars(seal).pop("holds", None)
        assert model._plan().update is not None
        if index >= 2:
            found[looks].append(1e3 * spent / calls)
    seal, start = model._plan().seal, time.process_time()
    for _ in range(1000):
        seal.holds()
    look = time.process_time() - start  # seconds of a thousand
    without = statistics.median(found[False])
    return {
        "with_ms": [round(each, 4) for each in statistics.quantiles(found[True])],
        "without_ms": [round(each, 4) for each in statistics.quantiles(found[False])],
        "look_ms": round(look, 4),
        "share": round(look / without, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {"cpu": platform.processor(), "torch": torch.__version__, "rounds": given.rounds}
    found["cases"] = {case: measure(case, given.rounds) for case in CASES}
    text = json.dumps(found, indent=2)
    print(text)
    if given.write:
        given.write.write_text(text + "\n")


if __name__ == "__main__":
    main()
