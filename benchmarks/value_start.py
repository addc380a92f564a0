"""Effect of the start of a Delta block's value: at the norm of the sublayer's output (the default), or near 0.

    .venv/bin/python benchmarks/value_start.py [--seeds 0 1 2] [--runs runs/value_start]

Measures torsos at initialisation (how much of their features a linear map of the observation explains, and how far a
block moves the state), then trains the quickstart with values that start near 0, PyTorch's own start of a Linear. The
unchanged quickstart is in `results/learning`. Writes `results/value_start.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from deltarl import load_config, train
from deltarl.torsos import DeltaTorsoSpec, ResidualTorsoSpec, Torso
from deltarl.training.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
OBSERVATIONS, ROWS, INITIALISATIONS = 11, 4096, 20  # Hopper observes 11 numbers


@contextmanager
def value_near_zero() -> Iterator[None]:
    """Delta blocks whose value's Linear keeps PyTorch's initialisation, with zero bias."""
    with patch("deltarl.blocks.sublayer_norm", return_value=0.0):
        yield


def linear_share(observations: Tensor, features: Tensor) -> float:
    """Share of the features' variance that the best affine map of the observations explains, in [0, 1]."""
    inputs = torch.cat([observations, torch.ones(len(observations), 1)], dim=1)
    residual = features - inputs @ torch.linalg.lstsq(inputs, features).solution
    return 1 - float(residual.square().sum() / (features - features.mean(0)).square().sum())


@torch.no_grad()
def at_initialisation(spec: DeltaTorsoSpec | ResidualTorsoSpec) -> dict[str, list[float]]:
    """The linear share, and the mean |X' - X| / |X| of the first block, for each initialisation."""
    shares, moves = [], []
    for seed in range(INITIALISATIONS):
        torch.manual_seed(seed)
        torso, observations = Torso(OBSERVATIONS, spec), torch.randn(ROWS, OBSERVATIONS)
        state = torso.stem(observations)
        moved = (torso.blocks[0](state) - state).norm(dim=-1) / state.norm(dim=-1)
        shares.append(linear_share(observations, torso(observations)))
        moves.append(float(moved.mean()))
    return {"linear_share": shares, "update_ratio": moves}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/value_start"))
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "value_start.json")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    run = load_config("quickstart", f"seeds={arguments.seeds or [0]}", f"out={arguments.runs}", "device=cpu")
    assert isinstance(run.actor_torso, DeltaTorsoSpec)
    residual = ResidualTorsoSpec(width=run.actor_torso.width)
    starts = {"delta": at_initialisation(run.actor_torso), "residual": at_initialisation(residual)}
    with value_near_zero():
        starts["delta, value near 0"] = at_initialisation(run.actor_torso)
        results = train(run) if arguments.seeds else []
    for name, measured in starts.items():
        print(name, {key: round(float(np.mean(values)), 3) for key, values in measured.items()})

    kept = [{key: value for key, value in asdict(result).items() if key != "folder"} for result in results]
    report = {
        **provenance([".venv/bin/python", "benchmarks/value_start.py"]),
        "initialisation": starts,
        "quickstart with values that start near 0": kept,
    }
    arguments.results.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
