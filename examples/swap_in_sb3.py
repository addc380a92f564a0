"""Stable-Baselines3's SAC with a Delta policy: one string changes, and a callback watches the gates.

Example: python examples/swap_in_sb3.py --steps 20000
"""

import argparse

from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy

import deltarl

parser = argparse.ArgumentParser(description="Train SAC with Delta networks on Hopper.")
parser.add_argument("--steps", type=int, default=100_000, help="training steps")
steps = parser.parse_args().steps

model = SAC(
    "DeltaPolicy",  # instead of "MlpPolicy"
    "Hopper-v5",
    policy_kwargs={"torso": {"kind": "delta", "width": 128, "depth": 2}},
    learning_starts=min(1_000, steps // 2),
    tensorboard_log="runs/hopper",
    seed=0,
)
model.learn(steps, callback=deltarl.GateCallback(every=1_000, path="runs/hopper/gates.npz"))

mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
print(f"return {mean:.1f} +- {std:.1f}")
model.save("runs/hopper/model")
print("saved", SAC.load("runs/hopper/model").policy.actor_torso)
