"""Torsos at initialisation: how much Delta blocks erase and write, how channels differ, how far the first step moves.

    .venv/bin/python benchmarks/torso_start.py [--results results/torso_start.json]

Uses normalised observations of Hopper under PPO's initial policy, and 20 initialisations. The first step is PPO's, with
Adam, on a whole rollout of 2,048 steps; the distance is the mean KL divergence over the rollout (10 seeds). It takes
two minutes.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from deltarl import DeltaTorsoSpec, Torso, load_config
from deltarl.envs import build_training_envs
from deltarl.torsos import DeltaBlock, parse_torso
from deltarl.training.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
INITIALISATIONS, SEEDS = 20, 10
ONE_HEAD: dict[str, Any] = {"heads": 1, "value_start": 1.0, "beta_init": 1.0}
STARTS: dict[str, dict[str, Any]] = {
    "1 head": ONE_HEAD,
    "16 heads": {**ONE_HEAD, "heads": 16},
    "4 heads, start 0.25, beta 0.5": {"heads": 4, "value_start": 0.25, "beta_init": 0.5},
    "8 heads, start 0.25, beta 0.5": {"heads": 8, "value_start": 0.25, "beta_init": 0.5},
    "16 heads, start 0.25, beta 0.5": {"heads": 16, "value_start": 0.25, "beta_init": 0.5},
}
CHANNELS: dict[str, dict[str, Any]] = {
    "copies of the stem's output": {**ONE_HEAD, "channels": 4, "expand": "copy"},
    "a projection each": {**ONE_HEAD, "channels": 4, "expand": "linear"},
    "copies, with small heads and start": {
        **STARTS["4 heads, start 0.25, beta 0.5"],
        "channels": 4,
        "expand": "copy",
    },
    "a projection each, with small heads and start": {
        **STARTS["4 heads, start 0.25, beta 0.5"],
        "channels": 4,
        "expand": "linear",
    },
}
STEPS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp"},
    "residual": {"kind": "residual"},
    "delta, 1 head": {"kind": "delta", **ONE_HEAD},
    "delta, 4 heads, start 0.25, beta 0.5": {"kind": "delta", **STARTS["4 heads, start 0.25, beta 0.5"]},
    "residual, output_scale mlp": {"kind": "residual", "output_scale": "mlp"},
    "delta, 1 head, output_scale mlp": {"kind": "delta", **ONE_HEAD, "output_scale": "mlp"},
}
WIDTH = 64


class Rollout(BaseCallback):
    """Keeps a copy of the policy that made the rollout."""

    before: ActorCriticPolicy

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        assert isinstance(self.model, PPO)
        self.before = copy.deepcopy(self.model.policy)


def first_step(torso: Mapping[str, Any], seed: int) -> tuple[float, float, Tensor]:
    """KL divergence of PPO's first step, L1 norm of the actor's features before it, and the observations."""
    spec = load_config("hopper_ppo", "env.n_envs=8", "env.normalize={observations: true, rewards: true}", "device=cpu")
    envs = build_training_envs(spec.env, seed)
    options = {"torso": {**torso, **({} if torso["kind"] == "mlp" else {"width": WIDTH})}}
    model = PPO(
        "DeltaPolicy", envs, n_steps=256, batch_size=2048, n_epochs=1, seed=seed, policy_kwargs=options, device="cpu"
    )
    watch = Rollout()
    model.learn(2048, callback=watch)
    observations = torch.as_tensor(model.rollout_buffer.observations.reshape(2048, -1), dtype=torch.float32)
    envs.close()
    with torch.no_grad():
        before, after = (policy.get_distribution(observations).distribution for policy in (watch.before, model.policy))
        assert isinstance(before, Normal)
        assert isinstance(after, Normal)
        moved = kl_divergence(before, after).sum(-1).mean()
        features = watch.before.mlp_extractor.forward_actor(observations)
    return float(moved), float(features.abs().sum(-1).mean()), observations


@torch.no_grad()
def blocks_at_the_start(options: Mapping[str, Any], observations: Tensor) -> dict[str, list[float]]:
    """|v|, |k^T X| and the erase share of each block, means over rows, heads and initialisations."""
    rows = []
    for seed in range(INITIALISATIONS):
        torch.manual_seed(seed)
        torso = Torso(observations.shape[1], DeltaTorsoSpec(width=WIDTH, **options))
        state = torso.stem(observations)
        for block in torso.blocks:
            assert isinstance(block, DeltaBlock)
            k, source = block.direction(state)
            v, _ = block.value_and_gate(source)
            readout = (k * block.split_heads(state)).sum(-1, keepdim=True)
            share = readout.abs() / (readout.abs() + v.abs())
            rows.append([float(each.abs().mean()) for each in (v, readout, share)])
            state = block(state)
    table = np.array(rows).reshape(INITIALISATIONS, -1, 3).mean(0)
    return {name: table[:, index].tolist() for index, name in enumerate(("value", "readout", "erase_share"))}


@torch.no_grad()
def between_channels(options: Mapping[str, Any], observations: Tensor) -> float:
    """Share of the state's norm, before the last compressor, in the differences between channels."""
    shares = []
    for seed in range(INITIALISATIONS):
        torch.manual_seed(seed)
        torso = Torso(observations.shape[1], DeltaTorsoSpec(width=WIDTH, **options))
        states: list[Tensor] = []
        handle = torso.compress.register_forward_pre_hook(lambda _, inputs, states=states: states.append(inputs[0]))
        torso(observations)
        handle.remove()
        [state] = states
        shares.append(float((state - state.mean(-1, keepdim=True)).norm() / state.norm()))
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "torso_start.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps: dict[str, Any] = {}
    for name, torso in STEPS.items():
        parse_torso(torso, "torso")
        found = [first_step(torso, seed) for seed in range(SEEDS)]
        steps[name] = {"kl": [kl for kl, _, _ in found], "l1": [l1 for _, l1, _ in found]}
        print(name, f"KL {np.mean(steps[name]['kl']):.2e}", f"L1 {np.mean(steps[name]['l1']):.1f}", flush=True)
    observations = found[0][2]
    starts = {name: blocks_at_the_start(options, observations) for name, options in STARTS.items()}
    channels = {name: between_channels(options, observations) for name, options in CHANNELS.items()}
    for table in (starts, channels):
        for name, measured in table.items():
            print(name, measured)
    report = {
        **provenance([".venv/bin/python", "benchmarks/torso_start.py"]),
        "blocks": starts,
        "channels": channels,
        "steps": steps,
    }
    arguments.results.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
