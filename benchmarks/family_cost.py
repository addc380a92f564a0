"""Cost of every update and kind of block compared with the residual one at one shape, measured as in `block_cost.py`.

    .venv/bin/python benchmarks/family_cost.py [--seconds 60]

Times forward plus backward of all torsos in turns in one process, in an order that rotates, and writes
`family_cost.json`; `make docs` writes it to README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from typing import Any, get_args

import block_cost
import torch

from deltarl.torsos import KINDS, TORSO_KINDS, DeltaTorsoSpec, StackSpec, Torso, parse_torso
from deltarl.training.provenance import provenance

SHAPE = block_cost.Shape(block_cost.BOUND_WIDTH, block_cost.BOUND_DEPTHS[0], block_cost.BOUND_BATCH, 1024)
ARMS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in TORSO_KINDS if issubclass(KINDS[kind], StackSpec)},
    **{
        update: {"kind": "delta", "update": update}
        for update in get_args(DeltaTorsoSpec.model_fields["update"].annotation)
        if update != "delta"
    },
    "delta, one head": {"kind": "delta", "heads": 1},
    "delta, 2 channels": {"kind": "delta", "channels": 2},
    "delta, 2 products": {"kind": "delta", "products": 2},
    "delta, 2 products, hidden 683": {"kind": "delta", "products": 2, "hidden": 683},
    "delta, sphere": {"kind": "delta", "sphere": True},
    "delta, generator": {"kind": "delta", "direction": "generator"},
    "residual, residual_scale": {"kind": "residual", "residual_scale": 0.1},
    "residual, drop_path": {"kind": "residual", "drop_path": 0.1},
    "residual, sandwich": {"kind": "residual", "norm_position": "sandwich"},
    "hyper, dynamic": {"kind": "hyper", "connections": "dynamic"},
    "hyper, doubly stochastic": {"kind": "hyper", "mixing": "doubly_stochastic"},
}


def torso_of(arm: dict[str, Any]) -> Torso:
    sizes = {"width": SHAPE.width, "depth": SHAPE.depth, "hidden": SHAPE.hidden}
    spec = parse_torso({**sizes, **arm}, "torso")
    assert isinstance(spec, StackSpec)
    return Torso(block_cost.IN_FEATURES, spec)


def measured(seconds: float) -> dict[str, Any]:
    """Measure parameters, milliseconds and paired ratios of each arm."""
    torch.manual_seed(0)
    torsos = {name: torso_of(arm) for name, arm in ARMS.items()}
    features = torch.randn(SHAPE.batch, block_cost.IN_FEATURES)
    steps = {name: block_cost.make_step(torso, torso, features) for name, torso in torsos.items()}
    samples, _ = block_cost.interleave(steps, seconds, None, block_cost.CLOCKS["cpu"])
    arms = {
        name: {
            "parameters": sum(parameter.numel() for parameter in torso.parameters()),
            "milliseconds": round(1e3 * statistics.median(samples[name]), 4),
            "ratio": asdict(block_cost.paired_ratio(samples[name], samples["residual"])),
        }
        for name, torso in torsos.items()
    }
    return {"shape": asdict(SHAPE), "repeats": len(samples["residual"]), "arms": arms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long all arms together are sampled")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    conditions = provenance([".venv/bin/python", "benchmarks/family_cost.py", *sys.argv[1:]])
    report = {**conditions, **measured(arguments.seconds)}
    (block_cost.HERE / "family_cost.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
