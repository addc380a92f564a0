"""The test matrix of all policies: algorithm, observation and kind of torso, each small and fast.

The table of supported combinations in docs/policies.md is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

import deltarl.policies
from deltarl.torsos import KINDS as FAMILIES
from deltarl.torsos import CustomTorsoSpec, StackSpec

ON_POLICY: dict[str, Any] = {"n_steps": 16, "batch_size": 8}
OFF_POLICY: dict[str, Any] = {"learning_starts": 8, "batch_size": 8, "buffer_size": 200}
Q_LEARNING: dict[str, Any] = {**OFF_POLICY, "train_freq": 1, "target_update_interval": 4}
LSTM: dict[str, Any] = {"lstm_hidden_size": 12, "n_lstm_layers": 2}


@dataclass(frozen=True)
class Subject:
    """An algorithm, with options under which 32 steps train all its networks, target networks included."""

    algorithm: type[BaseAlgorithm]
    options: dict[str, Any]
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    discrete: bool = False  # whether its actions must be discrete

    @property
    def name(self) -> str:
        return self.algorithm.__name__

    @property
    def observations(self) -> dict[str, str]:
        """The alias of the policy for each kind of observation that the algorithm takes."""
        known = deltarl.policies.ALIASES[self.algorithm]
        names = {
            observation: alias.replace("Policy", "LstmPolicy") if self.algorithm is RecurrentPPO else alias
            for observation, alias in ALIASES.items()
        }
        return {observation: alias for observation, alias in names.items() if alias in known}

    @property
    def has_actor(self) -> bool:
        return self.algorithm not in {DQN, QRDQN}

    @property
    def on_policy(self) -> bool:
        return "n_steps" in self.options


SUBJECTS = [
    Subject(A2C, {"n_steps": 8}),
    Subject(PPO, {**ON_POLICY, "n_epochs": 2}),
    Subject(TRPO, {**ON_POLICY, "target_kl": 0.05}),
    Subject(MaskablePPO, {**ON_POLICY, "n_epochs": 2}, discrete=True),
    Subject(RecurrentPPO, {**ON_POLICY, "n_epochs": 2}, LSTM),
    Subject(SAC, OFF_POLICY),
    Subject(TD3, OFF_POLICY),
    Subject(DDPG, OFF_POLICY),
    Subject(TQC, OFF_POLICY),
    Subject(CrossQ, OFF_POLICY),
    Subject(DQN, Q_LEARNING, discrete=True),
    Subject(QRDQN, Q_LEARNING, discrete=True),
]
CONTINUOUS_CRITICS = [subject for subject in SUBJECTS if not subject.on_policy and not subject.discrete]

ALIASES = {"Box": "DeltaPolicy", "Dict": "DeltaMultiInputPolicy", "image": "DeltaCnnPolicy"}


class ScaledBlock(nn.Module):
    """A user-defined block: x + gain * tanh(Linear(norm(x))), with an unusual initialisation."""

    def __init__(self, spec: CustomTorsoSpec, gain: float = 0.5) -> None:
        super().__init__()
        self.gain = gain
        self.norm = nn.LayerNorm(spec.width, eps=spec.eps)
        self.linear = nn.Linear(spec.width, spec.width)
        nn.init.eye_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.gain * torch.tanh(self.linear(self.norm(x)))
        return result


# Kinds from other papers, each tested with a quarter of the algorithms by default.
RIVALS = ("hyper", "simbav2", "bronet")
# Options that differ from those of a small stack of one block.
OPTIONS: dict[str, dict[str, Any]] = {
    "delta": {"depth": 2, "heads": 2},
    "mlp": {"net_arch": [16, 8]},
    "custom": {"depth": 2, "block": ScaledBlock},
}
KINDS: dict[str, dict[str, Any]] = {
    kind: {
        "kind": kind,
        **({"width": 16, "depth": 1} if issubclass(family, StackSpec) else {}),
        **OPTIONS.get(kind, {}),
    }
    for kind, family in FAMILIES.items()
}


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    subject: Subject
    observation: str
    kind: str

    @property
    def torso(self) -> dict[str, Any]:
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.observation}-{self.kind}"


def matrix(subjects: list[Subject] = SUBJECTS) -> Iterator[Case]:
    """All cells."""
    for subject in subjects:
        for observation in subject.observations:
            for kind in KINDS:
                yield Case(subject, observation, kind)


def covers(case: Case) -> bool:
    """Whether a cell belongs to the subset that covers every pair of algorithm, observation and kind.

    Kinds from other papers are exempt, because they are built from the same parts.
    """
    observations = list(case.subject.observations)
    if case.kind in RIVALS and (SUBJECTS.index(case.subject) + RIVALS.index(case.kind)) % 4:
        return False
    turn = SUBJECTS.index(case.subject) + list(KINDS).index(case.kind)
    return case.observation == observations[turn % len(observations)]


def parameters(
    subjects: list[Subject] = SUBJECTS,
    where: Callable[[Case], bool] = lambda _: True,
    covering: Callable[[Case], bool] = covers,
) -> list[Any]:
    """The cells as parameters of a test; those outside the covering subset are slow."""
    return [
        pytest.param(case, id=str(case), marks=[] if covering(case) else pytest.mark.slow)
        for case in matrix(subjects)
        if where(case)
    ]


class PointEnv(gym.Env[dict[str, np.ndarray], Any]):
    """Dict observations, drawn at random; the agent is paid for small actions."""

    observation_space = spaces.Dict({"position": spaces.Box(-1, 1, (3,)), "goal": spaces.Box(-1, 1, (2,))})

    def __init__(self, discrete: bool) -> None:
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._left = 10
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self._observe(), float(-np.square(action).sum()), False, self._left == 0, {}

    def _observe(self) -> dict[str, np.ndarray]:
        return {
            key: self.np_random.uniform(-1, 1, space.shape).astype(np.float32)
            for key, space in self.observation_space.spaces.items()
        }


def make_env(observation: str, discrete: bool) -> gym.Env[Any, Any]:
    """A task; one with discrete actions has masks, which allow all but every third action."""
    if observation == "Dict":
        env: gym.Env[Any, Any] = PointEnv(discrete)
    elif observation == "image":
        env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=discrete)
        env.observation_space.seed(0)  # renders the images
    elif discrete:
        forces = np.linspace(-3, 3, 5, dtype=np.float32)[:, None]
        pendulum = gym.make("InvertedPendulum-v5")
        env = gym.wrappers.TransformAction(pendulum, lambda action: forces[action], spaces.Discrete(len(forces)))
    else:
        env = gym.make("Reacher-v5")
    return ActionMasker(env, allowed_actions) if discrete else env


def allowed_actions(env: gym.Env[Any, Any]) -> np.ndarray:
    assert isinstance(env.action_space, spaces.Discrete)
    return np.arange(env.action_space.n) % 3 != 2


def make(subject: Subject, observation: str = "Box", **given: Any) -> Any:
    """A model; `given` are `policy_kwargs`, except `options` (the algorithm's) and `seed`."""
    options = {**subject.options, "seed": 0, **given.pop("options", {})}
    policy_kwargs = {**subject.policy_kwargs, **given}
    env = make_env(observation, subject.discrete)
    return subject.algorithm(
        subject.observations[observation], env, policy_kwargs=policy_kwargs, device="cpu", **options
    )


def sample_observations(model: BaseAlgorithm, rows: int = 5) -> Any:
    """A batch of observations, the same for every model on the same task."""
    model.observation_space.seed(1)
    sampled = [model.observation_space.sample() for _ in range(rows)]
    if isinstance(model.observation_space, spaces.Dict):
        return {key: np.stack([row[key] for row in sampled]) for key in sampled[0]}
    return np.stack(sampled)


def actions(policy: BasePolicy | BaseAlgorithm, batch: Any) -> np.ndarray:
    """Deterministic actions."""
    return policy.predict(batch, deterministic=True)[0]
