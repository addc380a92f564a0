"""Deep torsos after training: states, gradients, rank and linearity after 20,480 steps of PPO on Hopper.

    nice .venv/bin/python benchmarks/depth_trained.py [--depths 2 8 16 32] [--seeds 0 1]

Question: do the states or gradients of a deep stack explode or vanish in training, where they do not at the start
(`benchmarks/depth.py`)? The bounds below were set before any run. They hold for the value network, whose targets move,
and for the policy's network alike:

- the state explodes if its length after the last block is over 30 times that before the first, and vanishes below 1/30;
- the gradient vanishes if the first block's is under a tenth of the last block's, and explodes if over ten times it;
- the features collapse if their effective rank is under a quarter of that of the untrained torso on the same inputs.

Each network is measured on the observations of the last rollout, with the gradients of PPO's value loss and of its
policy gradient on that rollout, before training (the same weights at the start) and after it. Finished cells stay in
`results/depth_trained.json`, so a stopped benchmark continues where it was. The figure shows the deepest torsos.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import depth as at_start
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from deltarl import fast, load_config
from deltarl.envs import build_training_envs
from deltarl.gates.statistics import effective_rank
from deltarl.torsos import Torso
from deltarl.training.provenance import provenance

ROOT = at_start.ROOT
STEPS = 20_480
PPO: dict[str, Any] = {"n_steps": 256, "batch_size": 128, "n_epochs": 5}
# Every kind and update, and the options that are meant for depth.
ARMS = (
    "delta, one head",
    "residual",
    "delta, small heads and start",
    "plain",
    "hyper",
    "simbav2",
    "bronet",
    "write_only",
    "additive",
    "lerp",
    "residual_erase",
    "orthogonal",
    "delta, sphere",
    "residual, post",
    "residual, residual_scale 0.1",
    "residual, init_scale 0.25",
)
STATE, GRADIENT, RANK = 30, 10, 4


def trained(arm: Mapping[str, Any], depth: int, seed: int) -> dict[str, Any]:
    """Train one agent, and measure its two networks before and after."""
    spec = load_config("hopper_ppo", "env.n_envs=8", "env.normalize={observations: true, rewards: true}", "device=cpu")
    envs = build_training_envs(spec.env, seed)
    torso = {"width": at_start.WIDTH, "depth": depth, **arm}
    model = fast.PPO("DeltaPolicy", envs, seed=seed, device="cpu", policy_kwargs={"torso": torso}, **PPO)
    before = copy.deepcopy(model.policy)
    model.learn(STEPS)
    envs.close()
    buffer = model.rollout_buffer  # training has already flattened it
    observations, actions = (
        torch.as_tensor(each.reshape(model.n_steps * 8, -1), dtype=torch.float32)
        for each in (buffer.observations, buffer.actions)
    )
    returns, advantages = (torch.as_tensor(each.flatten()) for each in (buffer.returns, buffer.advantages))
    batch = (observations, actions, returns, (advantages - advantages.mean()) / advantages.std())
    episodes = [float(episode["r"]) for episode in model.ep_info_buffer or ()]
    return {
        "return": float(np.mean(episodes)),
        "before": measured(before, batch),
        "after": measured(model.policy, batch),
    }


def measured(policy: ActorCriticPolicy, batch: tuple[Tensor, ...]) -> dict[str, Any]:
    """States, gradients, rank and linear share of both networks on a rollout."""
    observations, actions, returns, advantages = batch
    found = {}
    for role, network in (("actor", policy.mlp_extractor.policy_net), ("critic", policy.mlp_extractor.value_net)):
        torso = next(module for module in network.modules() if isinstance(module, Torso))
        with at_start.watched(torso) as states:
            features = torso(observations)
        if role == "critic":
            loss = (policy.value_net(features).flatten() - returns).square().mean()
        else:
            chosen = policy.action_dist.proba_distribution(policy.action_net(features), policy.log_std)
            loss = -(chosen.log_prob(actions) * advantages).mean()
        found[role] = {
            "state": states,
            "gradient": at_start.gradient_by_block(torso, loss),
            "effective_rank": effective_rank(features.detach()),
            "linear_share": at_start.linear_share(observations, features.detach()),
        }
    return found


def verdict(run: Mapping[str, Any]) -> list[str]:
    """The quantities of a run that are out of bounds, by role."""
    found = []
    for role, after in run["after"].items():
        growth = after["state"][-1] / after["state"][0]
        ratio = after["gradient"][0] / after["gradient"][-1]
        for name, value, bound in (("state", growth, STATE), ("gradient", ratio, GRADIENT)):
            if not np.isfinite(value) or value > bound:
                found.append(f"{role}: {name} explodes")
            elif value < 1 / bound:
                found.append(f"{role}: {name} vanishes")
        if after["effective_rank"] < run["before"][role]["effective_rank"] / RANK:
            found.append(f"{role}: features collapse")
    return found


def drawn(runs: Mapping[str, Any]) -> dict[str, Any]:
    """Both networks of every arm at the greatest depth, with the first seed."""
    deepest = str(max(int(depth) for depths in runs.values() for depth in depths))
    return {
        f"{arm}, {role}": next(iter(depths[deepest].values()))["after"][role]
        for arm, depths in runs.items()
        for role in ("actor", "critic")
        if depths.get(deepest)
    }


def write(report: Mapping[str, Any], path: Path) -> None:
    """Replace the results at once, so that a kill leaves the old ones."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(report, indent=1) + "\n")
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8, 16, 32])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1], help="none: draw what there is")
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "depth_trained.png")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "depth_trained.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        **provenance([".venv/bin/python", "benchmarks/depth_trained.py"]),
        "width": at_start.WIDTH,
        "steps": STEPS,
        "ppo": PPO,
        "runs": {},
    }
    if arguments.results.exists():
        report["runs"] = json.loads(arguments.results.read_text())["runs"]
    for arm in report["runs"].values():
        for run in (run for runs in arm.values() for run in runs.values()):
            run["out_of_bounds"] = verdict(run)
    # The whole table with one seed first, from shallow to deep.
    for seed in arguments.seeds:
        for depth in arguments.depths:
            for arm in arguments.arms:
                runs = report["runs"].setdefault(arm, {}).setdefault(str(depth), {})
                if str(seed) in runs:
                    continue
                run = at_start.rounded(trained(at_start.ARMS[arm], depth, seed))
                runs[str(seed)] = {**run, "out_of_bounds": verdict(run)}
                write(report, arguments.results)
                print(f"{arm}, depth {depth}, seed {seed}: {verdict(run) or 'in bounds'}", flush=True)
    write(report, arguments.results)
    at_start.draw(drawn(report["runs"]), arguments.figure)


if __name__ == "__main__":
    main()
