"""Return and success rate of uniformly random actions in each environment of `envs/`.

    python benchmarks/random_scores.py [NAME ...] [--episodes 100] [--write]

Prints the `random_score` line of the environment's file; --write updates the file.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deltarl.envs import FIRST_EVALUATION_SEED, EnvSpec, build_envs
from deltarl.library import find, names, read_yaml


def random_episodes(env: EnvSpec, episodes: int) -> tuple[list[float], list[bool]]:
    """Return and success of each episode; episodes and actions are seeded."""
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1)
    envs.action_space.seed(FIRST_EVALUATION_SEED)
    envs.reset()
    returns: list[float] = []
    successes: list[bool] = []
    while len(returns) < episodes:
        _, _, _, (info,) = envs.step(np.array([envs.action_space.sample()]))
        if "episode" in info:
            returns.append(info["episode"]["r"])
            successes.append(bool(info.get("is_success", False)))
    envs.close()
    return returns, successes


def random_score(name: str, env: EnvSpec, episodes: int) -> dict[str, Any]:
    """The score as a line of the environment's file."""
    returns, successes = random_episodes(env, episodes)
    success = {} if env.success is None else {"success_rate": float(np.mean(successes))}
    return {
        "mean": round(float(np.mean(returns)), 1),
        "std": round(float(np.std(returns)), 1),
        **success,
        "episodes": episodes,
        "source": f"benchmarks/random_scores.py {name}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names("envs"), help="environments, all of them if none is named")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="put the scores into the files")
    arguments = parser.parse_args()
    for name in arguments.names:
        path = find("envs", name, "command line")
        env = EnvSpec.model_validate(read_yaml(path).data)
        score = random_score(name, env, arguments.episodes)
        line = "random_score: " + yaml.safe_dump(score, sort_keys=False, default_flow_style=True, width=1000)
        print(f"{name}: {line}", end="", flush=True)
        if arguments.write:
            write_line(path, line)


def write_line(path: Path, line: str) -> None:
    """Replace the file's `random_score`, or add it at the end."""
    text = path.read_text()
    replaced, count = re.subn(r"^random_score:.*\n", lambda _: line, text, flags=re.MULTILINE)
    path.write_text(replaced if count else text + line)


if __name__ == "__main__":
    main()
