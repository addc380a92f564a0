"""Quick runs of tests."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from rich.console import Console

from deltarl import RunResult, RunSpec, load_config, load_run, train
from tests.quick import QUICK

QUICK_SAC = ("agent=sac", "agent.learning_starts=16", "agent.batch_size=16", "agent.buffer_size=1000")


def quick(out: Path, *more: str, config: str = "quickstart") -> RunSpec:
    given = {text.partition("=")[0] for text in more}
    settings = [
        text
        for text in QUICK
        if text.partition("=")[0] not in given and ("agent=sac" not in more or not text.startswith("agent"))
    ]
    return load_config(config, *more[:1], *settings, *more[1:], f"out={out}", "device=cpu", "name=test")


def run(spec: RunSpec) -> list[RunResult]:
    return train(spec, console=Console(file=io.StringIO()))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_run(folder, device="cpu").policy.state_dict())
