"""Cost of checkpoints compared with Stable-Baselines3's `save` and `save_replay_buffer`, with a full replay buffer.

    python benchmarks/checkpoint_cost.py [--transitions 1000000] [--later 10000] [--repeats 5] [--write FILE]

SAC on Humanoid-v5: transitions of random actions are repeated until the buffer is full. Then, in one process: the first
checkpoint and SB3's save; and, repeatedly and some steps later, a later checkpoint and SB3's save. A checkpoint counts
as written once it is on the disk (fsync). SB3 returns when the system has accepted the bytes, so its save is also timed
until they are on the disk. Needs memory for the buffer and twice that on the disk: 6 and 12 GB.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from deltarl import disk, load_config
from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.store import Store
from deltarl.recording import make_logger
from deltarl.training.boundary import Boundary, Origin
from deltarl.training.build import built
from deltarl.training.signals import StopRequest

MIB = 2**20
PAGE = 4096


class PeakMemory:
    """Samples this process's resident memory; `growth` is the highest sample minus the first, in MiB."""

    def __enter__(self) -> PeakMemory:
        self._first = self._peak = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.growth = (self._peak - self._first) / MIB

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self._peak = max(self._peak, self._now())

    @staticmethod
    def _now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measured(save: Callable[[], None], folder: Path) -> dict[str, float]:
    """Measure a save: seconds until it returns and until it is on the disk, new bytes in `folder`, growth of memory."""
    before = _sizes(folder)
    with PeakMemory() as memory:
        start = time.perf_counter()
        save()
        seconds = time.perf_counter() - start
    for path in folder.rglob("*"):
        disk.sync(path)
    on_disk = time.perf_counter() - start
    written = sum(size for file, size in _sizes(folder).items() if file not in before)
    return {
        "seconds": round(seconds, 3),
        "seconds_on_disk": round(on_disk, 3),
        "mib": round(written / MIB, 1),
        "memory_mib": round(memory.growth, 1),
    }


def _sizes(folder: Path) -> dict[tuple[int, int], int]:
    """Sizes by inode and time of writing: linked files keep both, and the inodes of removed files are reused."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {(file.st_ino, file.st_mtime_ns): file.st_size for file in files}


def fill(model: OffPolicyAlgorithm) -> None:
    """Repeat the transitions in the buffer until it is full."""
    buffer = model.replay_buffer
    assert buffer is not None
    there = buffer.pos
    for array in Transitions(buffer).arrays.values():
        for start in range(there, len(array), there):
            array[start : start + there] = array[: len(array[start : start + there])]
    buffer.full = True


def measure(transitions: int, later: int, repeats: int, folder: Path) -> dict[str, Any]:
    """All rows of the comparison."""
    spec = load_config(
        "quickstart",
        "agent=sac",
        "env=humanoid",
        "env.n_envs=1",
        f"agent.buffer_size={transitions}",
        f"agent.learning_starts={transitions}",  # only the saves are timed, nothing is trained
        f"total_timesteps={later}",
        "device=cpu",
    )
    ours, sb3 = folder / "ours", folder / "sb3"
    ours.mkdir()
    sb3.mkdir()
    rows: list[dict[str, Any]] = []
    with built(spec, seed=0) as (model, _):
        assert isinstance(model, OffPolicyAlgorithm)
        model.set_logger(make_logger(ours))
        boundary = Boundary(model, ours, Store(ours, keep=2), every=None, origin=Origin(), stop=StopRequest())
        model.learn(later)
        fill(model)

        def save_sb3() -> None:
            shutil.rmtree(sb3)
            sb3.mkdir()
            model.save(sb3 / "model.zip")
            model.save_replay_buffer(sb3 / "replay.pkl")

        for repeat in range(repeats + 1):
            if repeat:
                model.learn(later, reset_num_timesteps=False)
            first = "first" if repeat == 0 else "later"
            rows.append({"save": "deltarl", "when": first, **measured(boundary.write_checkpoint, ours)})
            rows.append({"save": "sb3", "when": first, **measured(save_sb3, sb3)})
            print(json.dumps(rows[-2]), json.dumps(rows[-1]), sep="\n", flush=True)
        model.logger.close()
        row = Transitions(model.replay_buffer)  # type: ignore[arg-type]
        buffer = sum(array.nbytes for array in row.arrays.values()) / MIB
    return {
        "command": f"benchmarks/checkpoint_cost.py --transitions {transitions} --later {later} --repeats {repeats}",
        "machine": platform.platform(),
        "torch": torch.__version__,
        "buffer_mib": round(buffer, 1),
        "rows": rows,
        "later_times_cheaper_than_sb3": {clock: ratios(rows, clock) for clock in ("seconds", "seconds_on_disk")},
    }


def ratios(rows: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    """The ratio of SB3's time to deltarl's for each later save, and the median."""
    ours, sb3 = ([r[clock] for r in rows if (r["save"], r["when"]) == (save, "later")] for save in ("deltarl", "sb3"))
    each = [round(b / a, 1) for a, b in zip(ours, sb3, strict=True)]
    return {"median": float(np.median(each)), "each": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--later", type=int, default=10_000, help="steps between two saves")
    parser.add_argument("--repeats", type=int, default=5, help="later saves")
    parser.add_argument("--write", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(arguments.transitions, arguments.later, arguments.repeats, Path(folder))
    print(json.dumps(results, indent=2))
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
