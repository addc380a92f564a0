"""Do lean training steps learn as well as Stable-Baselines3's? The experiment defined in docs/fast.md.

    python benchmarks/lean_doubt.py

PPO on Hopper as in `deltarl compare lean`, with 100,000 steps, seeds 100 to 159 and three arms: lean steps,
Stable-Baselines3's steps, and Stable-Baselines3's steps after every parameter was multiplied once by 1 + 6e-8 z at the
start, with z standard normal. The outcome is a final return above 1,250. Fisher's exact test of lean steps against
Stable-Baselines3's decides at the level 0.05. Nothing is reported before all runs have finished.

Each run adds a line with the commit and the versions to runs/lean_doubt.jsonl; run the command again to continue. All
runs must come from the same commit, without changed files. `--report` prints the result.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import fisher_exact

from deltarl import RunSpec, load_config
from deltarl.training.build import built
from deltarl.training.evaluation import evaluate_policy
from deltarl.training.provenance import provenance

RUNS = Path(__file__).resolve().parent.parent / "runs" / "lean_doubt.jsonl"
SEEDS = range(100, 160)
STEPS = 100_000
ABOVE = 1_250.0
DISTURBANCE = 6e-8  # half the gap between 1 and the next single-precision number
ARMS = {"lean": "deltarl", "sb3": "sb3", "sb3_disturbed": "sb3"}
Row = dict[str, Any]


def spec_of(arm: str, steps: int = STEPS) -> RunSpec:
    """The run of an arm of `configs/compare/lean.yaml`."""
    return load_config(
        "quickstart",
        "torso.kind=delta",
        "torso.width=64",
        "torso.depth=1",
        "torso.heads=1",
        "torso.value_start=1.0",
        "torso.beta_init=1.0",
        "device=cpu",
        f"agent.implementation={ARMS[arm]}",
        f"total_timesteps={steps}",
    )


def disturb(policy: torch.nn.Module, seed: int) -> None:
    """Move every parameter by about its last bit, without drawing from PyTorch's default generator."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1 + DISTURBANCE * torch.randn(parameter.shape, generator=generator))


def train(arm: str, seed: int, steps: int = STEPS, episodes: int | None = None) -> float:
    """Mean return of the final policy, deterministic, on evaluation seeds."""
    spec = spec_of(arm, steps)
    torch.set_num_threads(1)
    with built(spec, seed) as (model, normalizer):
        if arm == "sb3_disturbed":
            disturb(model.policy, seed)
        model.learn(steps)
        found = evaluate_policy(model, spec.env, normalizer, episodes or spec.eval.episodes)
    return found.return_mean


def todo(rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """The runs still to do, with all arms of a seed before the next seed."""
    done = {(row["seed"], row["arm"]) for row in rows}
    for seed in SEEDS:
        for arm in ARMS:
            if (seed, arm) not in done:
                yield seed, arm


def verdict(rows: Sequence[Row]) -> str:
    """Summarise all runs.

    Raises:
        SystemExit: while any run is missing, so that nobody looks early.
    """
    if missing := len(list(todo(rows))):
        raise SystemExit(f"{missing} of {len(SEEDS) * len(ARMS)} runs have not finished; nothing is said before")
    returns = {arm: [row["return"] for row in rows if row["arm"] == arm] for arm in ARMS}
    hits = {arm: int(np.sum(np.array(found) > ABOVE)) for arm, found in returns.items()}
    lines = [f"{arm}: {hits[arm]} of {len(SEEDS)} above {ABOVE:,.0f}" for arm in ARMS]
    for ours, theirs, what in (("lean", "sb3", "decides"), ("sb3_disturbed", "sb3", "describes")):
        table = np.array([[hits[arm], len(SEEDS) - hits[arm]] for arm in (ours, theirs)])
        lines.append(f"{ours} and {theirs}: Fisher's exact test, p {fisher_exact(table).pvalue:.3f} ({what})")
    return "\n".join(lines)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_commit(rows: Sequence[Row], commit: str | None) -> None:
    """Refuse to mix runs of several commits, or with uncommitted changes.

    Raises:
        SystemExit: naming the commits.
    """
    if commit is None or "dirty" in commit:
        raise SystemExit(f"the runs are of one clean commit; this is {commit or 'none'}")
    if other := sorted({row["commit"] for row in rows} - {commit}):
        raise SystemExit(f"the runs so far are of commit {', '.join(other)}, and this is {commit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="say what came out; only once all runs have finished")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where a line for each run is kept")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="every N-th seed, from the I-th on")
    arguments = parser.parse_args()
    rows = read(arguments.runs)
    if arguments.report:
        print(verdict(rows))
        return
    facts = provenance(["benchmarks/lean_doubt.py"])
    commit = facts.get("git")
    check_commit(rows, commit)
    index, count = map(int, arguments.share.split("/"))
    for seed, arm in todo(rows):
        if (seed - SEEDS[0]) % count != index - 1:
            continue
        row = {
            "seed": seed,
            "arm": arm,
            "return": train(arm, seed),
            "commit": commit,
            "packages": facts["packages"],
        }
        arguments.runs.parent.mkdir(parents=True, exist_ok=True)
        with arguments.runs.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"seed {seed}, {arm}: finished", flush=True)


if __name__ == "__main__":
    main()
