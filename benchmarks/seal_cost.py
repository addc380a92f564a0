"""Cost of checking that nothing of Stable-Baselines3 was changed: training steps with and without the checks.

    .venv/bin/python benchmarks/seal_cost.py [--rounds 30] [--write results/seal_cost.json]

SAC with one gradient step per call, the hardest case, and PPO, both at Stable-Baselines3's default sizes on
HalfCheetah-v5, take turns in one process. Times are CPU times, so other work on the machine is not counted. The number
of checks depends on whose code runs within `learn`: only the libraries', a user's environment, or a user's callback,
which has access to the algorithm.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from deltarl import fast
from deltarl.bench.clock import cpu_seconds, in_turns
from deltarl.training.provenance import provenance

CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "SAC, mlp": ("SAC", "MlpPolicy", {"learning_starts": 100, "buffer_size": 10_000}, 100),
    "SAC, delta": ("SAC", "DeltaPolicy", {"learning_starts": 100, "buffer_size": 10_000}, 25),
    "PPO, mlp": ("PPO", "MlpPolicy", {}, 2048),
}
WAYS = ("libraries", "environment", "callback")


class OfAUser(gym.Wrapper[Any, Any, Any, Any]):
    """Does nothing, but is not from one of the libraries."""


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Milliseconds per environment step including updates, and the share of the checks, by whose code runs.

    The share is 1 - without / with, from the same round: the median and the quartiles.
    """
    name, policy, options, steps = CASES[case]

    seal: Any = fast.seal.Seal
    holds = seal.holds

    def learner(way: str) -> Callable[[bool, int], None]:
        env = gym.make("HalfCheetah-v5")
        model: Any = getattr(fast, name)(
            policy, OfAUser(env) if way == "environment" else env, seed=0, device="cpu", **options
        )
        callback = (lambda *_: True) if way == "callback" else None

        def learn(looks: bool, times: int) -> None:
            seal.holds = holds if looks else lambda _: True
            for _ in range(times):
                model.learn(steps, callback=callback, reset_num_timesteps=False)
            seal.holds = holds

        return learn

    learners = {way: learner(way) for way in WAYS}
    calls = {f"{way}, {looks}": partial(learn, looks) for way, learn in learners.items() for looks in (False, True)}
    spent, _ = in_turns(calls, rounds, 0, cpu_seconds)
    shares = {
        way: [1 - off / on for off, on in zip(spent[f"{way}, False"], spent[f"{way}, True"], strict=True)]
        for way in WAYS
    }
    return {
        "step_ms": round(1e3 * statistics.median(spent["libraries, True"]) / steps, 4),
        "share": {way: [round(each, 4) for each in statistics.quantiles(values)] for way, values in shares.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    command = ["benchmarks/seal_cost.py", "--rounds", str(given.rounds)]
    found = {"rounds": given.rounds, "provenance": provenance(command)}
    found["cases"] = {case: measure(case, given.rounds) for case in CASES}
    text = json.dumps(found, indent=1)
    print(text)
    if given.write:
        given.write.write_text(text + "\n")


if __name__ == "__main__":
    main()
