"""Return of uniformly random actions in each environment of `envs/`.

    python benchmarks/random_scores.py [NAME ...] [--episodes 100]

Prints the lines that stand as `random_score` in the environment's file.
"""

from __future__ import annotations

import argparse

import numpy as np
import yaml

from deltarl.envs import EnvSpec, build_envs
from deltarl.library import find, names, read_yaml
from deltarl.training.spec import FIRST_EVALUATION_SEED


def random_returns(env: EnvSpec, episodes: int) -> list[float]:
    """One return an episode; episodes and actions are seeded."""
    envs = build_envs(env, FIRST_EVALUATION_SEED, n_envs=1)
    envs.reset()
    returns: list[float] = []
    while len(returns) < episodes:
        _, _, _, infos = envs.step(np.array([envs.action_space.sample()]))
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    envs.close()
    return returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names("envs"), help="environments, all of them if none is named")
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    for name in arguments.names:
        env = EnvSpec.model_validate(read_yaml(find("envs", name, "command line")).data)
        returns = random_returns(env, arguments.episodes)
        score = {
            "mean": round(float(np.mean(returns)), 1),
            "std": round(float(np.std(returns)), 1),
            "episodes": arguments.episodes,
            "source": f"benchmarks/random_scores.py {name}",
        }
        print(f"# {name}\n{yaml.safe_dump({'random_score': score}, sort_keys=False)}")


if __name__ == "__main__":
    main()
