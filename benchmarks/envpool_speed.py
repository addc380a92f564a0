"""Steps per second of EnvPool's and Gymnasium's environments, alone and in training, in turns in one process.

.venv/bin/python benchmarks/envpool_speed.py
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from statistics import median

import numpy as np
import torch
from rich.console import Console
from stable_baselines3.common.vec_env import VecEnv

from deltarl import RunSpec, load_config, train
from deltarl.envs import build_training_envs

WAYS = ("dummy", "envpool")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["half_cheetah", "hopper"])
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="EnvPool's and PyTorch's")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8_000, help="of one measurement, over all environments")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| environment | what | dummy, steps/s | envpool, steps/s | times as fast (over the repeats) |")
    print("|---|---|---|---|---|")
    for env in arguments.envs:
        specs = {way: _spec(env, way, arguments.n_envs, arguments.threads, arguments.steps) for way in WAYS}
        envs = {way: build_training_envs(spec.env, 0, spec.threads) for way, spec in specs.items()}
        for each in envs.values():
            each.reset()
        alone: dict[str, list[float]] = {way: [] for way in WAYS}
        trained: dict[str, list[float]] = {way: [] for way in WAYS}
        for repeat in range(arguments.repeats):
            for way in WAYS if repeat % 2 else WAYS[::-1]:
                alone[way].append(_alone(envs[way], arguments.steps))
                trained[way].append(_trained(specs[way]))
        for what, rates in (("random actions", alone), ("training with PPO", trained)):
            ratios = sorted(b / a for a, b in zip(rates["dummy"], rates["envpool"], strict=True))
            dummy, pool = (f"{median(rates[way]):,.0f}" for way in WAYS)
            times = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"| {env}, {arguments.n_envs} | {what} | {dummy} | {pool} | {times} |")
        for each in envs.values():
            each.close()


def _spec(env: str, way: str, n_envs: int, threads: int, steps: int) -> RunSpec:
    overrides = (f"env.n_envs={n_envs}", f"threads={threads}", f"total_timesteps={steps}", "torso=mlp", "device=cpu")
    quiet = ("gates.every=null", "checkpoint.every=null", "eval.episodes=1", "eval.every=null")
    return load_config("quickstart", f"env={env}", f"env.vectorization={way}", *overrides, *quiet)


def _alone(envs: VecEnv, steps: int) -> float:
    space, rounds = envs.action_space, steps // envs.num_envs
    actions = np.random.default_rng(0).uniform(space.low, space.high, (rounds, envs.num_envs, *space.shape))  # type: ignore[attr-defined,misc]
    start = time.perf_counter()
    for action in actions.astype(np.float32):
        envs.step(action)
    return rounds * envs.num_envs / (time.perf_counter() - start)


def _trained(spec: RunSpec) -> float:
    with tempfile.TemporaryDirectory() as out:
        [result] = train(spec.model_copy(update={"out": out}), Console(file=io.StringIO()))
        return result.steps / result.wall_seconds


if __name__ == "__main__":
    main()
