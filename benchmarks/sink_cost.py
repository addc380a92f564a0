"""Cost of a run's sinks at the default cadences: CPU seconds in each, beside those of the whole training.

    python benchmarks/sink_cost.py [--steps 50000 4000] [--write FILE]

Trains PPO on Hopper (the quickstart) and SAC on HalfCheetah once each, on one thread, with all sinks side by side: W&B
offline, MLflow with its own database. A tracker has a thread of its own, which runs while PyTorch computes where there
is another core. Its CPU seconds are counted as if there were none. What connecting takes, mostly imports and the new
database, is counted apart, because it does not grow with the run. Not counted are the thread in which TensorBoard
writes its files, and W&B's service, which is another process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from deltarl import load_config, train
from deltarl.recording import SINKS
from deltarl.recording.background import Background

CASES = {
    "PPO on Hopper-v5": ("quickstart",),
    "SAC on HalfCheetah-v5": ("half_cheetah_sac", "agent.learning_starts=1000"),
}
METHODS = ("write", "scalars", "histogram", "figure", "video", "text", "hparams", "charts", "summary", "flush")


class Seconds:
    """CPU seconds of the sinks, by name.

    Attributes:
        training: in the thread that trains.
        aside: in the trackers' threads, once they are connected.
        start: in the trackers' threads, until then.
    """

    def __init__(self) -> None:
        self.training: dict[str, float] = defaultdict(float)
        self.aside: dict[str, float] = defaultdict(float)
        self.start: dict[str, float] = defaultdict(float)
        self._inside = threading.local()

    def of_calls(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(sink: Any, *args: Any, **options: Any) -> Any:
            if getattr(self._inside, "sink", False):  # `write` calls `scalars`
                return call(sink, *args, **options)
            self._inside.sink, begun = True, time.thread_time()
            try:
                return call(sink, *args, **options)
            finally:
                self._inside.sink = False
                self.training[sink.name] += time.thread_time() - begun

        return timed

    def of_thread(self, run: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(sink: Any) -> None:
            connect = sink._connect

            def connected(run_id: str) -> Any:
                tracker = connect(run_id)
                self.start[sink.name] += time.thread_time()
                return tracker

            sink._connect = connected
            run(sink)
            self.aside[sink.name] += time.thread_time() - self.start[sink.name]

        return timed


def measure(config: str, overrides: tuple[str, ...], steps: int, folder: str) -> dict[str, Any]:
    """CPU seconds of a training, and of each sink in it."""
    spec = load_config(
        config,
        *overrides,
        f"total_timesteps={steps}",
        "eval.episodes=1",
        "device=cpu",
        f"out={folder}",
        "logging=[tensorboard,csv,wandb,mlflow]",
    )
    seconds = Seconds()
    changed: list[tuple[Any, str, Any]] = []
    for kind in (*SINKS, Background):
        for name in (name for name in METHODS if name in vars(kind)):
            changed.append((kind, name, vars(kind)[name]))
            setattr(kind, name, seconds.of_calls(vars(kind)[name]))
    changed.append((Background, "_run", Background._run))
    Background._run = seconds.of_thread(Background._run)  # type: ignore[assignment, method-assign]
    begun = time.process_time()
    try:
        [result] = train(spec, Console(file=io.StringIO()))
    finally:
        for kind, name, method in changed:
            setattr(kind, name, method)
    whole = time.process_time() - begun
    apart = sum(seconds.start.values())
    sinks = {
        name: {
            "training_seconds": round(seconds.training[name], 3),
            "thread_seconds": round(seconds.aside[name], 3),
            "start_seconds": round(seconds.start[name], 2),
            "share": round((seconds.training[name] + seconds.aside[name]) / (whole - apart), 5),
        }
        for name in ("tensorboard", "csv", "json", "wandb", "mlflow")
    }
    return {"steps": result.steps, "seconds": round(whole - apart, 2), "sinks": sinks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=2, default=[50_000, 4_000], help="of PPO and of SAC")
    parser.add_argument("--write", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "offline"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    results: dict[str, Any] = {"machine": platform.platform(), "torch": torch.__version__, "threads": 1, "cases": {}}
    for (name, (config, *overrides)), steps in zip(CASES.items(), arguments.steps, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            results["cases"][name] = measure(config, tuple(overrides), steps, folder)
        print(name, json.dumps(results["cases"][name]), flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
