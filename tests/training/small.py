"""Small runs that tests interrupt and resume."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from deltarl import RunSpec, load_config

SETTINGS = (
    "torso.width=8",
    "torso.depth=1",
    "agent.n_steps=16",
    "agent.batch_size=32",
    "env.n_envs=2",
    "total_timesteps=128",
    "checkpoint.every=32",
    "eval.every=48",
    "eval.episodes=2",
    "device=cpu",
    "name=run",
)
SAC = (
    "agent=sac",
    *(setting for setting in SETTINGS if "n_steps" not in setting),
    "agent.learning_starts=16",
    "agent.buffer_size=500",
)


def spec_of(out: Path, *more: str, base: tuple[str, ...] = SETTINGS) -> RunSpec:
    return load_config("quickstart", *base, f"out={out}", *more)


def quiet() -> Console:
    return Console(file=io.StringIO())


def rows(folder: Path, name: str = "metrics.jsonl") -> list[Any]:
    lines = (folder / name).read_text().splitlines()
    return [json.loads(line) for line in lines] if name.endswith("jsonl") else lines


def longer(total: int) -> Any:
    return lambda config: load_config(str(config), f"total_timesteps={total}")
