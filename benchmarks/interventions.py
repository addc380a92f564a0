"""Returns that trained policies lose without their erasure, and with other changes to their Delta blocks.

    .venv/bin/deltarl train quickstart name=one_head "seeds=[0,1,2]" \\
        torso.heads=1 torso.value_start=1 torso.beta_init=1
    .venv/bin/python benchmarks/interventions.py "one head=runs/one_head" \\
        --write results/interventions.json

Each policy plays the same evaluation episodes unchanged and with each change of `deltarl gates RUN --set`. Results
already in the file are kept, so that runs can be added.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import deltarl
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.gates import intervene
from deltarl.gates.episode import play_episode

CHANGES: dict[str, dict[str, Any]] = {
    "erase=off": {"erase": "off"},
    "value=mean": {"value": "mean"},
    "beta=mean": {"beta": "mean"},
    "erase=off value=mean beta=mean": {"erase": "off", "value": "mean", "beta": "mean"},
    "beta=0": {"beta": 0},
}


def effects(folder: Path, episodes: int) -> dict[str, Any]:
    """Returns of one run's policy by episode, and the mean erase shares of its blocks in the first episode."""
    run = deltarl.load_run(folder)
    seen = play_episode(run.policy, run.spec.env, run.normalizer, FIRST_EVALUATION_SEED)
    [acting] = [name for name in seen.erase_share if name in {"policy", "actor"}]
    found: dict[str, Any] = {
        "erase_share": [round(float(share), 4) for share in seen.erase_share[acting].mean(0)],
        "returns": {"untouched": _returns(run, episodes)},
    }
    for name, changes in CHANGES.items():
        with intervene(run.policy, changes, measured=seen.networks):
            found["returns"][name] = _returns(run, episodes)
        print(folder, name, sum(found["returns"][name]) / episodes, flush=True)
    return found


def _returns(run: Any, episodes: int) -> list[float]:
    return [round(each, 2) for each in deltarl.evaluate(run, episodes).returns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="a block, and the folder of its seeds")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--write", type=Path, required=True, help="a JSON file for the results")
    arguments = parser.parse_args()
    found = json.loads(arguments.write.read_text()) if arguments.write.exists() else {}
    for given in arguments.runs:
        name, _, folder = given.partition("=")
        for result in sorted(Path(folder).glob("seed-*/result.json")):
            own = found.setdefault(name, {})
            own[result.parent.name] = effects(result.parent, arguments.episodes)
            arguments.write.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
