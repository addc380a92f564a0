"""A search for the learning rate and the width of a torso, with trials as tasks of a Ray cluster.

Without a cluster, Ray starts one with this machine's cores. On a cluster, start the script on one of its machines and
give --address auto; all machines need the same folder.

Example: python examples/ray_study.py --trials 20
"""

import argparse
from pathlib import Path

from deltarl.launch.on_ray import Ray
from deltarl.search import load_search, tune

SPACE = """
space:
  agent.learning_rate: {type: float, low: 1.0e-4, high: 3.0e-3, log: true}
  torso.width: [32, 64, 128]
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Search with Optuna on a Ray cluster.")
    parser.add_argument("--trials", type=int, default=20, help="trials of the study")
    parser.add_argument("--steps", type=int, default=100_000, help="training steps of each trial")
    parser.add_argument("--address", default="local", help="of the cluster: local, auto or host:port")
    given = parser.parse_args()

    Path("rate_and_width.yaml").write_text(SPACE)
    search = load_search("quickstart", "rate_and_width.yaml", f"total_timesteps={given.steps}", "n_seeds=1")
    tuned = tune(search, trials=given.trials, launcher=Ray(given.address))
    print(f"best config: {tuned.best}\nplots: {tuned.page}")
