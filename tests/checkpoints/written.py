"""A run that writes checkpoints with a small replay buffer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl import disk
from deltarl.checkpoints.checkpoint import newest
from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.state import Snapshot
from deltarl.checkpoints.store import Store

BUFFER_ROWS, SEGMENT_ROWS, INTERVAL = 40, 8, 10


def buffer() -> ReplayBuffer:
    return ReplayBuffer(BUFFER_ROWS, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), device="cpu")


def snapshot(steps: int) -> Snapshot:
    return Snapshot({"steps": steps}, {"weights": torch.full((4,), float(steps))})


class Run:
    """A run that adds a random transition per step and writes a checkpoint every `INTERVAL` steps."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store = folder, Store(folder, keep)
        self.buffer, self.steps = buffer(), 0
        self.random = np.random.default_rng(0)

    def step(self) -> None:
        observation, following = self.random.normal(size=(2, 1, 3))
        self.buffer.add(observation, following, self.random.normal(size=(1, 2)), np.ones(1), np.zeros(1, bool), [{}])
        self.steps += 1

    def on(self, intervals: int = 1) -> Run:
        for _ in range(intervals):
            for _ in range(INTERVAL):
                self.step()
            self.write()
        return self

    def write(self) -> None:
        self.store.write(self.steps, snapshot(self.steps), Transitions(self.buffer), {"records": {}})


def holds(run: Path, steps: int, transitions: ReplayBuffer) -> None:
    """Assert that the newest checkpoint is of `steps`, and restores state and transitions."""
    found = newest(run)
    assert found is not None
    assert found.steps == steps
    assert found.snapshot().tree == {"steps": steps}
    assert torch.equal(found.snapshot().tensors["weights"], torch.full((4,), float(steps)))
    into = buffer()
    into.pos, into.full = transitions.pos, transitions.full
    found.fill(Transitions(into))
    filled = Transitions(transitions).filled
    for name, array in Transitions(transitions).arrays.items():
        assert np.array_equal(Transitions(into).arrays[name][:filled], array[:filled]), name


def as_of(run: Run, steps: int) -> ReplayBuffer:
    again = Run(run.folder)
    for _ in range(steps):
        again.step()
    return again.buffer


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def manifest_of(checkpoint: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((checkpoint / "manifest.json").read_text())
    return manifest


def sign(checkpoint: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with a valid digest, as anyone can."""
    manifest.pop("sha256", None)
    manifest["sha256"] = disk.digest(json.dumps(manifest, sort_keys=True).encode())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
