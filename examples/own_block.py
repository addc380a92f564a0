"""A block of your own between the stem and the final norm of a torso, beside the library's residual block.

Example: python examples/own_block.py --steps 20000
"""

import argparse

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import deltarl  # noqa: F401 - adds "DeltaPolicy" to the algorithms


class GatedBlock(torch.nn.Module):
    """x + sigmoid(g(x)) * f(x): each feature has a gate that says how much is added.

    Args:
        spec: the torso's options, such as `width`, `hidden` and `eps`.
    """

    def __init__(self, spec):
        super().__init__()
        self.norm = torch.nn.LayerNorm(spec.width, eps=spec.eps)
        self.inner = torch.nn.Linear(spec.width, spec.hidden)
        self.outer = torch.nn.Linear(spec.hidden, spec.width)
        self.gate = torch.nn.Linear(spec.width, spec.width)

    def forward(self, x):
        """Map `[..., width]` to `[..., width]`."""
        normed = self.norm(x)
        return x + torch.sigmoid(self.gate(normed)) * self.outer(torch.relu(self.inner(normed)))


parser = argparse.ArgumentParser(description="Train PPO on Reacher with a block of your own and with residual blocks.")
parser.add_argument("--steps", type=int, default=50_000, help="training steps")
steps = parser.parse_args().steps

for kind in ({"kind": "custom", "block": GatedBlock}, {"kind": "residual"}):
    torso = {**kind, "width": 64, "depth": 2}
    model = PPO("DeltaPolicy", "Reacher-v5", policy_kwargs={"torso": torso}, n_steps=min(2_048, steps), seed=0)
    model.learn(steps)
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"{kind['kind']}: return {mean:.1f} +- {std:.1f}")
