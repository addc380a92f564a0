"""Hand-written gradients compared with autograd's: forward and backward of a torso, in turns in one process.

    .venv/bin/python benchmarks/by_hand.py [--seconds 60]

At the sizes of PPO (width 64, batches of 64) and SAC (width 256, batches of 256), with `deltarl.fast`'s layers on both
sides: those written by hand, and one that records the whole torso with autograd. Times are CPU seconds; the order
rotates. Writes `results/by_hand.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import block_cost
import torch

from deltarl.fast.layers import Layer, Recorded
from deltarl.fast.networks import network_of
from deltarl.torsos import StackSpec, Torso, parse_torso
from deltarl.training.provenance import provenance

RESULTS = Path(__file__).resolve().parent.parent / "results" / "by_hand.json"
ARMS: dict[str, dict[str, Any]] = {
    "residual": {"kind": "residual"},
    "delta": {"kind": "delta"},
    "delta, sphere": {"kind": "delta", "sphere": True},
    "delta, residual_scale": {"kind": "delta", "residual_scale": 0.1},
    "orthogonal": {"kind": "delta", "update": "orthogonal"},
    "residual_erase": {"kind": "delta", "update": "residual_erase"},
    "residual, residual_scale": {"kind": "residual", "residual_scale": 0.1},
    "residual, post": {"kind": "residual", "norm_position": "post"},
    "bronet": {"kind": "bronet"},
}
SIZES = {"ppo": (64, 64), "sac": (256, 256)}  # width and batch


def make_step(network: Layer, features: torch.Tensor, width: int) -> Callable[[], None]:
    gradient = torch.randn(len(features), width)

    @torch.no_grad()
    def step() -> None:
        _, saved = network.forward(features)
        network.backward(saved, gradient)

    return step


def measured(width: int, batch: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of the hand-written gradients, and the ratio of autograd's to them, for each arm."""
    torch.manual_seed(0)
    features = torch.randn(batch, block_cost.IN_FEATURES)
    steps = {}
    for name, arm in ARMS.items():
        spec = parse_torso({"width": width, **arm}, "torso")
        assert isinstance(spec, StackSpec)
        torso = Torso(block_cost.IN_FEATURES, spec)
        by_hand = network_of(torso)
        assert not by_hand.has_modes
        steps[f"{name}, by hand"] = make_step(by_hand, features, width)
        steps[f"{name}, recorded"] = make_step(Recorded(torso), features, width)
    samples, _ = block_cost.interleave(steps, seconds, None, block_cost.CLOCKS["cpu"])
    return {
        name: {
            "milliseconds": round(1e3 * statistics.median(samples[f"{name}, by hand"]), 4),
            "autograd_over_by_hand": asdict(
                block_cost.paired_ratio(samples[f"{name}, recorded"], samples[f"{name}, by hand"])
            ),
        }
        for name in ARMS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long each size is sampled")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {**provenance([".venv/bin/python", "benchmarks/by_hand.py"]), "sizes": {}}
    for algorithm, (width, batch) in SIZES.items():
        arms = measured(width, batch, arguments.seconds)
        report["sizes"][algorithm] = {"width": width, "batch": batch, "depth": 2, "arms": arms}
        print(algorithm, json.dumps(arms, indent=1), flush=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
