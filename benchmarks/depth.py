"""Effects of depth on torsos at initialisation: states, gradients, rank and linearity.

    .venv/bin/python benchmarks/depth.py [--depths 2 8 16 32] [--seeds 0 1 2]

Measures every kind, every update and the options that matter for depth, at width 64 on standard normal features. Writes
`results/depth.json` and docs/figures/depth.png. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from deltarl.gates.statistics import effective_rank
from deltarl.torsos import KINDS, TORSO_KINDS, DeltaTorsoSpec, StackSpec, Torso, parse_torso
from deltarl.training.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
WIDTH, FEATURES, ROWS = 64, 17, 1024  # HalfCheetah observes 17 numbers
# Small heads and a small start (docs/mechanism.md).
SMALL = {"kind": "delta", "head_width": 16, "value_start": 0.25, "beta_init": 0.5}
# The earlier default, which erases little.
ONE_HEAD = {"heads": 1, "value_start": 1.0, "beta_init": 1.0}
ARMS: dict[str, dict[str, Any]] = {
    "delta, one head": {"kind": "delta", **ONE_HEAD},
    **{kind: {"kind": kind} for kind in TORSO_KINDS if issubclass(KINDS[kind], StackSpec) and kind != "delta"},
    **{
        update: {"kind": "delta", "update": update, **ONE_HEAD}
        for update in get_args(DeltaTorsoSpec.model_fields["update"].annotation)
        if update != "delta"
    },
    "delta, small heads and start": SMALL,
    "delta, sphere": {"kind": "delta", **ONE_HEAD, "sphere": True},
    "delta, 2 products": {"kind": "delta", **ONE_HEAD, "products": 2},
    "delta, residual_scale 0.1": {"kind": "delta", **ONE_HEAD, "residual_scale": 0.1},
    "residual, init_scale 0.25": {"kind": "residual", "init_scale": 0.25},
    "residual, residual_scale 0.1": {"kind": "residual", "residual_scale": 0.1},
    "residual, post": {"kind": "residual", "norm_position": "post"},
    "residual, sandwich": {"kind": "residual", "norm_position": "sandwich"},
    "residual, no norm": {"kind": "residual", "norm": "none"},
    "residual, no norm, residual_scale 0.1": {"kind": "residual", "norm": "none", "residual_scale": 0.1},
    "residual, 4 sublayers": {"kind": "residual", "sublayers": 4, "activation": "silu", "hidden": WIDTH},
    "hyper, doubly stochastic": {"kind": "hyper", "mixing": "doubly_stochastic"},
}
DRAWN = (
    "delta, one head",
    "delta, small heads and start",
    "residual",
    "residual, residual_scale 0.1",
    "residual, post",
    "plain",
    "simbav2",
    "bronet",
)


def linear_share(inputs: Tensor, outputs: Tensor) -> float:
    """Share of the outputs' variance that the best affine map of the inputs explains, in [0, 1]."""
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    residual = outputs - inputs @ torch.linalg.lstsq(inputs, outputs).solution
    return 1 - float(residual.square().sum() / (outputs - outputs.mean(0)).square().sum())


def measured(spec: StackSpec, seed: int) -> dict[str, Any]:
    """Measure one torso at initialisation, with a random head and random targets."""
    torch.manual_seed(seed)
    torso = Torso(FEATURES, spec)
    inputs, head, targets = torch.randn(ROWS, FEATURES), torch.randn(WIDTH) / WIDTH**0.5, torch.randn(ROWS)
    with watched(torso) as norms:
        features = torso(inputs)
    by_block = gradient_by_block(torso, (features @ head - targets).square().mean())
    return {
        "state": norms,
        "gradient": by_block,
        "effective_rank": effective_rank(features.detach()),
        "linear_share": linear_share(inputs, features.detach()),
    }


@contextmanager
def watched(torso: Torso) -> Iterator[list[float]]:
    """Collect the length of the state before the first block and after each block."""
    norms: list[float] = []
    spec = torso.spec
    hooks = [
        block.register_forward_pre_hook(lambda _, arguments: norms.append(_norm(arguments[0], spec)))
        for block in torso.blocks
    ]
    hooks.append(torso.blocks[-1].register_forward_hook(lambda _, __, after: norms.append(_norm(after, spec))))
    yield norms
    for hook in hooks:
        hook.remove()


def gradient_by_block(torso: Torso, loss: Tensor) -> list[float]:
    """Norm of the loss's gradient with respect to the parameters of each block."""
    blocks = [list(block.parameters()) for block in torso.blocks]
    gradients = iter(torch.autograd.grad(loss, [parameter for block in blocks for parameter in block]))
    return [float(sum(next(gradients).square().sum() for _ in block) ** 0.5) for block in blocks]


def rounded(found: Any) -> Any:
    """Numbers to four digits, at any depth of a record."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items()}
    return [rounded(value) for value in found] if isinstance(found, list) else float(f"{found:.4g}")


def _norm(state: Tensor, spec: StackSpec) -> float:
    """Mean length of a state, per channel."""
    return float(state.detach().flatten(1).norm(dim=-1).mean()) / math.sqrt(spec.state_channels)


def spec_of(arm: Mapping[str, Any], depth: int) -> StackSpec:
    spec = parse_torso({"width": WIDTH, "depth": depth, **arm}, "torso")
    assert isinstance(spec, StackSpec)
    return spec


def mean_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, to four digits; geometric means for lists, which hold norms."""
    means: dict[str, Any] = {}
    for name, value in found[0].items():
        each = np.array([one[name] for one in found])
        mean = np.exp(np.log(each).mean(0)) if isinstance(value, list) else each.mean(0)
        means[name] = [float(f"{x:.4g}") for x in mean] if isinstance(value, list) else float(f"{mean:.4g}")
    return means


def draw(cells: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the states and gradients of torsos of one depth block by block."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415  (only where something is drawn)

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for arm, found in cells.items():
        axes[0].plot(range(len(found["state"])), found["state"], label=arm)
        axes[1].plot(range(1, len(found["gradient"]) + 1), found["gradient"], label=arm)
    for axis, title in zip(
        axes, ("length of the state before and behind each block", "gradient norm of each block"), strict=True
    ):
        axis.set(title=title, xlabel="block", yscale="log")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8, 16, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "depth.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "depth.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells: dict[str, dict[str, Any]] = {}
    for name, arm in ARMS.items():
        cells[name] = {
            str(depth): mean_of([measured(spec_of(arm, depth), seed) for seed in arguments.seeds])
            for depth in arguments.depths
        }
        print(name, flush=True)
    conditions = provenance([".venv/bin/python", "benchmarks/depth.py"])
    report = {**conditions, "width": WIDTH, "seeds": arguments.seeds, "arms": ARMS, "cells": cells}
    arguments.results.write_text(json.dumps(report, indent=1) + "\n")
    draw({arm: cells[arm][str(max(arguments.depths))] for arm in DRAWN}, arguments.figure)


if __name__ == "__main__":
    main()
