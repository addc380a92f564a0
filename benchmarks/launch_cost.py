"""What it costs to launch jobs, in processes of this machine and on a Ray cluster of two nodes with one CPU each.

    .venv/bin/python benchmarks/launch_cost.py [--jobs 12] [--seconds 5] [--rounds 3]

Each job waits for a while and does nothing else, two at a time. What the whole takes beyond jobs / 2 times that while
is the cost of launching: starting Python, importing PyTorch and scheduling. A process of this machine is started for
each job; Ray starts a few workers and uses them again. Both take turns. Writes results/launch_cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from deltarl.launch.launcher import Job, Launcher
from deltarl.launch.local import Processes
from deltarl.launch.on_ray import Ray
from deltarl.training.progress import Report
from deltarl.training.provenance import provenance
from deltarl.training.signals import StopRequest

RESULTS = Path(__file__).resolve().parent.parent / "results" / "launch_cost.json"
AT_ONCE = 2


def wait(seconds: float, report: Report, stop: StopRequest) -> None:
    del report, stop
    time.sleep(seconds)


def cost(launcher: Launcher, count: int, seconds: float) -> float:
    """Seconds per job beyond those that the jobs themselves take."""
    jobs = [Job(f"job {n}", partial(wait, seconds)) for n in range(count)]
    begun = time.monotonic()
    outcomes = launcher.run(jobs, lambda *_: None, StopRequest())
    taken = time.monotonic() - begun
    assert {outcome.kind for outcome in outcomes.values()} == {"result"}
    return (taken - count * seconds / AT_ONCE) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(AT_ONCE):
        nodes.add_node(num_cpus=1)
    launchers: dict[str, Launcher] = {"local": Processes(AT_ONCE), "ray": Ray(nodes.address)}
    costs: dict[str, list[float]] = {name: [] for name in launchers}
    for _ in range(arguments.rounds):
        for name, launcher in launchers.items():
            costs[name].append(cost(launcher, arguments.jobs, arguments.seconds))
            print(f"{name}: {costs[name][-1]:.2f} s a job", flush=True)
    ray.shutdown()
    nodes.shutdown()
    found = {
        **provenance([".venv/bin/python", "benchmarks/launch_cost.py"]),
        "jobs": arguments.jobs,
        "seconds": arguments.seconds,
        "at_once": AT_ONCE,
        "seconds_per_job": costs,
        "median": {name: statistics.median(each) for name, each in costs.items()},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
