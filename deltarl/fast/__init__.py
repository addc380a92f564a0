"""Stable-Baselines3's algorithms with lean training steps: the same numbers, in less time.

Each is a subclass of Stable-Baselines3's or sb3-contrib's own, with the same constructor, the same `learn`, and files
that the other one reads. What a lean step does not know is left to it (`known`): features to learn, state-dependent
exploration, discrete actions in PPO and A2C, changes of the user's own, other devices than the CPU. `DummyVecEnv` is
Stable-Baselines3's with cheaper copies.
"""

from deltarl.fast.a2c import A2C
from deltarl.fast.crossq import CrossQ
from deltarl.fast.ppo import PPO
from deltarl.fast.sac import SAC
from deltarl.fast.td3 import DDPG, TD3
from deltarl.fast.tqc import TQC
from deltarl.fast.vec_env import DummyVecEnv

__all__ = ["A2C", "DDPG", "PPO", "SAC", "TD3", "TQC", "CrossQ", "DummyVecEnv"]
