"""Stable-Baselines3's algorithms with lean training steps: the same numbers, in less time.

Each class derives from Stable-Baselines3's or sb3-contrib's, has the same constructor and the same `learn`, and reads
and writes the same files. Stable-Baselines3's own step runs where a lean step would not compute the same: with learned
features, state-dependent exploration, discrete actions in PPO and A2C, or code that the user has changed. `DummyVecEnv`
is Stable-Baselines3's with cheaper copies.
"""

from deltarl.fast.off_policy.crossq import CrossQ
from deltarl.fast.off_policy.sac import SAC
from deltarl.fast.off_policy.td3 import DDPG, TD3
from deltarl.fast.off_policy.tqc import TQC
from deltarl.fast.on_policy.a2c import A2C
from deltarl.fast.on_policy.ppo import PPO
from deltarl.fast.vec_env import DummyVecEnv

__all__ = ["A2C", "DDPG", "PPO", "SAC", "TD3", "TQC", "CrossQ", "DummyVecEnv"]
