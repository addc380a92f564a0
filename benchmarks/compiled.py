"""Would `torch.compile` help? SAC's update as it is, and with its critics and its actor's torso compiled.

    python benchmarks/compiled.py [--rounds 9] [--write FILE]

Both take turns in one process, on one thread, with the networks of `deltarl bench sac`. Only the networks are compiled,
not the optimizers' steps or the rest of the update. It needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch._inductor.utils import fresh_cache

from deltarl.bench.cases import NETWORKS, Case, build
from deltarl.bench.clock import in_turns, seconds, threads
from deltarl.bench.measure import machine

ROWS, FIRST = 256, 3  # of a batch; updates until everything is compiled


def compile_update(update: Any) -> None:
    """Compile the parts that take most of the time of SAC's update."""
    for owner, names in (
        (update, ("aim", "value_of")),
        (update.critics, ("fit",)),
        (update.actor.latent, ("forward", "backward")),
    ):
        for name in names:
            setattr(owner, name, torch.compile(getattr(owner, name), dynamic=False))


def measure(network: str, rounds: int) -> dict[str, Any]:
    """Seconds per update both ways, and the seconds of compiling."""
    models: dict[str, Any] = {way: build(Case("sac", network), "deltarl", "cpu") for way in ("eager", "compiled")}
    for model in models.values():
        model.train(FIRST, ROWS)
    before = seconds(partial(models["eager"].train, FIRST, ROWS))
    compile_update(models["compiled"].lean_update())
    warm_up = seconds(partial(models["compiled"].train, FIRST, ROWS)) - before
    found, _ = in_turns({way: partial(model.train, batch_size=ROWS) for way, model in models.items()}, rounds, 0.6)
    return {"network": network, "warm_up": warm_up, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timings of each")
    parser.add_argument("--write", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    # PyTorch warns that it bypasses a cache of constants.
    warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
    results: dict[str, Any] = {"machine": machine("cpu", 1), "rounds": arguments.rounds, "rows": []}
    with threads(1):
        for network in ("mlp", *NETWORKS[2:]):
            with fresh_cache():  # else only what was not compiled before would be timed
                results["rows"].append(measure(network, arguments.rounds))
            print(json.dumps(results["rows"][-1]), flush=True)
    if arguments.write is not None:
        arguments.write.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
