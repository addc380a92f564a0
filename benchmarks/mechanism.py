"""Which Delta blocks erase, and where does erasing help? Supervised probes on transitions of MuJoCo tasks.

    .venv/bin/python benchmarks/mechanism.py [--only DEPTH] [--results results/mechanism.json]

The question, the arms and the decision rule are in docs/mechanism.md. Both probes train a torso with a linear head on
observation and action. `stationary` learns the change of the observation and the reward, and is scored on unseen
transitions. `moving` learns 0.3 r + 0.99 V(s'), as a critic does, where V is a random network that is replaced every
200 steps; it is scored on each batch before it learns from it. Arms differ only in their blocks. Each arm's learning
rate is chosen on separate seeds. Cells that are already in the results are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from deltarl.torsos import MLPTorsoSpec, ResidualTorsoSpec, Torso, TorsoSpec, parse_torso
from deltarl.torsos.block import observe
from deltarl.training.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("HalfCheetah-v5", "Hopper-v5", "Ant-v5")
TRANSITIONS, HELD_OUT, BATCH = 24_000, 4_000, 128
STEPS, MOVES_EVERY = 1_200, 200
WIDTH = 64
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
# The default block until these probes.
ONE_HEAD = {"kind": "delta", "heads": 1, "value_start": 1.0, "beta_init": 1.0}
TUNING_SEEDS, SEEDS = (1_000, 1_001), (0, 1, 2, 3, 4)


def delta(heads: int, depth: int, **options: Any) -> dict[str, Any]:
    """A candidate: value_start 0.25, and gates that start at 0.5, or lower if many erasures follow one another."""
    beta = min(0.5, 0.25 * WIDTH / (heads * depth))
    return {"kind": "delta", "heads": heads, "value_start": 0.25, "beta_init": beta, **options}


def arms(depth: int) -> dict[str, dict[str, Any]]:
    """Torsos by name; an arm and its twin, which writes but does not erase, differ only in `update`."""
    twin = {"update": "write_only"}
    found: dict[str, dict[str, Any]] = {
        "mlp": {"kind": "mlp"},
        "residual": {"kind": "residual"},
        "residual, start 0.25": {"kind": "residual", "init_scale": 0.25},
        "1 head": ONE_HEAD,
        "1 head, write-only": {**ONE_HEAD, **twin},
    }
    for heads in (4, 8, 16):
        found[f"{heads} heads, start 0.25"] = delta(heads, depth)
        found[f"{heads} heads, start 0.25, write-only"] = delta(heads, depth, **twin)
    for heads in (4, 16):
        sphere = delta(heads, depth, sphere=True, value_start=0.5)
        found[f"sphere, {heads} heads"] = sphere
        found[f"sphere, {heads} heads, write-only"] = {**sphere, **twin}
        linear = delta(heads, depth, direction="linear")
        found[f"linear, {heads} heads"] = linear
        found[f"linear, {heads} heads, write-only"] = {**linear, **twin}
        beta = linear["beta_init"]
        found[f"erasing residual, {heads} heads"] = {
            "kind": "delta",
            "update": "residual_erase",
            "heads": heads,
            "beta_init": beta,
        }
    found["orthogonal"] = {"kind": "delta", "update": "orthogonal"}
    return {
        name: options if name == "mlp" else {**options, "width": WIDTH, "depth": depth}
        for name, options in found.items()
    }


class Data(NamedTuple):
    """Standardised transitions of one task: `inputs` `[n, observation + action]`; all arrays share their rows."""

    inputs: Tensor
    changes: Tensor
    rewards: Tensor
    following: Tensor


def transitions(task: str) -> Data:
    """Play episodes of random actions, each held for a few steps so that the agent gets somewhere."""
    env = gym.make(task)
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    observation, _ = env.reset(seed=0)
    action = env.action_space.sample()
    for _ in range(TRANSITIONS):
        if rng.random() < 0.2:
            action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, following, reward))
        observation = env.reset()[0] if terminated or truncated else following
    env.close()
    seen, actions, after, rewards = (np.stack([np.atleast_1d(row[i]) for row in rows]) for i in range(4))
    mean, std = seen.mean(0), seen.std(0) + 1e-8
    parts = (np.hstack([(seen - mean) / std, actions]), after - seen, rewards, (after - mean) / std)
    inputs, changes, reward, following = (torch.as_tensor(part, dtype=torch.float32) for part in parts)
    order = torch.as_tensor(rng.permutation(TRANSITIONS))
    return Data(
        inputs.clamp(-10, 10)[order], standard(changes)[order], standard(reward)[order], following.clamp(-10, 10)[order]
    )


def standard(values: Tensor) -> Tensor:
    """Scale to mean 0 and standard deviation 1, and clip at 5, because contacts have heavy tails."""
    return ((values - values.mean(0)) / (values.std(0) + 1e-8)).clamp(-5, 5)


def targets(data: Data, probe: str, seed: int) -> Tensor:
    """Targets `[phases, n, outputs]`; one phase if they do not move."""
    if probe == "stationary":
        return torch.cat([data.changes, data.rewards], 1).unsqueeze(0)
    generator = torch.Generator().manual_seed(seed)
    phases = []
    for _ in range(math.ceil(STEPS / MOVES_EVERY)):
        x = data.following
        for width in (64, 64, 1):
            weights = torch.randn(x.shape[1], width, generator=generator) / math.sqrt(x.shape[1])
            x = (1.5 * x) @ weights if width > 1 else x @ weights
            x = torch.tanh(x) if width > 1 else x
        phases.append(standard(0.3 * data.rewards + 0.99 * standard(x)))
    return torch.stack(phases)


def network(spec: TorsoSpec, depth: int, inputs: int, outputs: int, seed: int) -> nn.Sequential:
    """Build torso and head; an MLP has two tanh layers, as in SB3, and as many parameters as the residual torso."""
    torch.manual_seed(seed)
    if isinstance(spec, MLPTorsoSpec):
        residual = Torso(inputs, ResidualTorsoSpec(width=WIDTH, depth=depth))
        goal = sum(parameter.numel() for parameter in residual.parameters()) + (WIDTH + 1) * outputs
        width = max(w for w in range(8, 2_000) if w * (inputs + w + outputs + 2) + outputs <= goal)
        layers = (nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        return nn.Sequential(nn.Sequential(*layers), nn.Linear(width, outputs))
    torso = spec.build(inputs)
    assert torso is not None
    return nn.Sequential(torso, nn.Linear(WIDTH, outputs))


Build = Callable[[int, int, int], nn.Sequential]  # takes the numbers of inputs and outputs, and a seed


class Trained(NamedTuple):
    """Trained networks, one per seed: modules, their stacked weights, and their errors `[seeds]`."""

    modules: list[nn.Sequential]
    weights: dict[str, Tensor]
    errors: Tensor


def trained(build: Build, data: Data, probe: str, seeds: Sequence[int], rates: Sequence[float]) -> Trained:
    """Train one network for each seed and rate, side by side (Adam, with a rate that falls linearly to 0)."""
    wanted = [targets(data, probe, seed) for seed in seeds]
    modules = [build(data.inputs.shape[1], wanted[0].shape[2], seed) for seed in seeds]
    weights, _ = stack_module_state(modules)
    weights = {name: weight.detach().clone() for name, weight in weights.items()}
    first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    generators = [torch.Generator().manual_seed(10_000 + seed) for seed in seeds]
    base = modules[0]

    def loss(own: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        predicted: Tensor = functional_call(base, dict(own), (x,))
        return (predicted - y).square().mean()

    step: Callable[..., Any] = vmap(grad_and_value(loss))
    total, counted = torch.zeros(len(seeds)), 0
    rate = torch.tensor(rates)
    for index in range(STEPS):
        rows = [torch.randint(HELD_OUT, TRANSITIONS, (BATCH,), generator=generator) for generator in generators]
        x = torch.stack([data.inputs[own] for own in rows])
        y = torch.stack(
            [own[min(index // MOVES_EVERY, len(own) - 1)][place] for own, place in zip(wanted, rows, strict=True)]
        )
        gradients, losses = step(weights, x, y)
        if index >= MOVES_EVERY:  # skip the first targets, which every network learns from scratch
            total, counted = total + losses, counted + 1
        now = rate * (1 - index / STEPS)
        for name, weight in weights.items():
            first[name].lerp_(gradients[name], 0.1)
            second[name].lerp_(gradients[name].square(), 0.001)
            size = first[name] / (1 - 0.9 ** (index + 1))
            spread = (second[name] / (1 - 0.999 ** (index + 1))).sqrt().add_(1e-8)
            weight.sub_(now.view(-1, *[1] * (weight.ndim - 1)) * size / spread)
    errors = held_out(modules, weights, data, wanted) if probe == "stationary" else total / counted
    return Trained(modules, weights, errors)


def held_out(modules: list[nn.Sequential], weights: Mapping[str, Tensor], data: Data, wanted: list[Tensor]) -> Tensor:
    """Mean squared error of each network on unseen transitions, `[networks]`."""
    x = data.inputs[:HELD_OUT]
    with torch.no_grad():
        errors = [
            (
                functional_call(module, {name: weights[name][index] for name, _ in module.named_parameters()}, (x,))
                - y[-1, :HELD_OUT]
            )
            .square()
            .mean()
            for index, (module, y) in enumerate(zip(modules, wanted, strict=True))
        ]
    return torch.stack(errors)


@torch.no_grad()
def erase_shares(module: nn.Sequential, x: Tensor) -> list[float]:
    """The erase share of each block, mean over rows and heads; empty for blocks that do not erase."""
    torso, shares = module[0], []
    if not isinstance(torso, Torso):
        return []
    state = torso.stem(x)
    for block in torso.blocks:
        after = block(state)
        if (share := observe(block, state, after).erase_share) is not None:
            shares.append(float(share.mean()))
        state = after
    return shares


def without_erasure(options: Mapping[str, Any]) -> dict[str, Any]:
    """The torso that, with the same weights, computes the block of these options without its erasure."""
    if options.get("update") == "residual_erase":
        return {"kind": "residual", **{name: options[name] for name in ("width", "depth")}}
    return {**options, "update": "write_only"}


def cell(options: Mapping[str, Any], depth: int, data: Data, probe: str) -> dict[str, Any]:
    """Run one arm on one task in one probe: the best rate on the tuning seeds, and the errors with it."""
    build = partial(network, parse_torso(options, "torso"), depth)
    pairs = [(seed, rate) for rate in RATES for seed in TUNING_SEEDS]
    tuned = trained(build, data, probe, [seed for seed, _ in pairs], [rate for _, rate in pairs]).errors
    by_rate = tuned.log().view(len(RATES), -1).mean(1)
    rate = RATES[int(by_rate.argmin())]
    found = trained(build, data, probe, SEEDS, [rate] * len(SEEDS))
    x = data.inputs[:HELD_OUT]
    result: dict[str, Any] = {
        "rate": rate,
        "tuning": dict(zip(map(str, RATES), by_rate.exp().tolist(), strict=True)),
        "errors": found.errors.tolist(),
    }
    if not (at_start := erase_shares(build(x.shape[1], 1, SEEDS[0]), x)):
        return result
    for index, module in enumerate(found.modules):
        module.load_state_dict({name: weight[index] for name, weight in found.weights.items()})
    twin = parse_torso(without_erasure(options), "torso")
    wanted = [targets(data, probe, seed) for seed in SEEDS]
    twins = [network(twin, depth, x.shape[1], own.shape[2], 0) for own in wanted]
    return {
        **result,
        "share_at_start": at_start,
        "share_trained": np.mean([erase_shares(module, x) for module in found.modules], 0).tolist(),
        "errors_at_the_end": held_out(found.modules, found.weights, data, wanted).tolist(),
        "errors_with_erasure_off": held_out(twins, found.weights, data, wanted).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, choices=(2, 8), help="one depth alone")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "mechanism.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(arguments.results.read_text()) if arguments.results.is_file() else {"cells": {}}
    data = {task: transitions(task) for task in TASKS}
    for depth in (2, 8) if arguments.only is None else (arguments.only,):
        for name, options in arms(depth).items():
            for task in TASKS:
                for probe in ("stationary", "moving"):
                    key = f"depth {depth}/{task}/{probe}/{name}"
                    if key in known["cells"]:
                        continue
                    found = {"torso": options, **cell(options, depth, data[task], probe)}
                    where = provenance([".venv/bin/python", "benchmarks/mechanism.py"])
                    known["cells"][key] = {**found, "git": where["git"]}
                    known = {**where, "cells": known["cells"]}
                    arguments.results.write_text(json.dumps(known, indent=1) + "\n")
                    print(f"{key}: {np.mean(found['errors']):.4f} at {found['rate']:g}", flush=True)


if __name__ == "__main__":
    main()
