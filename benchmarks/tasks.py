"""Sizes and speed of every environment of `envs/`.

    python benchmarks/tasks.py [NAME ...]

writes to results/tasks.json: the size of observations and actions, and the steps that one environment takes in a second
of processor time under random actions, resets included. Rounds go through all environments in turn; the median is kept.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from deltarl.bench.measure import machine
from deltarl.envs import EnvSpec, build_envs
from deltarl.library import find, names, read_yaml

RECORD = Path(__file__).resolve().parent.parent / "results" / "tasks.json"


def size(space: spaces.Space[Any]) -> str:
    """A space in a few characters: `17`, `3 x 84 x 84`, `7 choices`, or `10 + goal 3`."""
    if isinstance(space, spaces.Dict):
        rest = [size(inner) for key, inner in space.items() if not key.endswith("_goal")]
        goals = [f"goal {size(inner)}" for key, inner in space.items() if key == "desired_goal"]
        return " + ".join([*rest, *goals])
    if isinstance(space, spaces.Discrete):
        return f"{space.n} choices"
    return " x ".join(map(str, space.shape or ()))


def steps_per_second(envs: VecEnv, seconds: float) -> float:
    """Random steps for at least `seconds` of this process's CPU time."""
    actions = [np.array([envs.action_space.sample()]) for _ in range(256)]
    steps, start = 0, time.process_time()
    while (took := time.process_time() - start) < seconds:
        for action in actions[:32]:
            envs.step(action)
        steps += 32
    return steps / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names("envs"), help="environments, all of them if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each environment and round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes: dict[str, dict[str, Any]] = {}
    speeds: dict[str, list[float]] = {}
    for number in range(arguments.rounds):
        for name in arguments.names:
            spec = EnvSpec.model_validate(read_yaml(find("envs", name, "command line")).data)
            with closing(build_envs(spec, 1, n_envs=1)) as envs:
                envs.reset()
                speeds.setdefault(name, []).append(steps_per_second(envs, arguments.seconds))
                sizes[name] = {"observation": size(envs.observation_space), "action": size(envs.action_space)}
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"tasks": {}}
    record["tasks"] |= {name: {**sizes[name], "steps_per_second": round(median(speeds[name]))} for name in sizes}
    record["tasks"] = dict(sorted(record["tasks"].items()))
    record["measured_on"] = machine("cpu", 1)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
