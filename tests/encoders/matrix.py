"""The test matrix of encoders: algorithm and kind of encoder, each small and fast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib.common.wrappers import ActionMasker

from deltarl.encoders import ENCODER_KINDS, HistoryReaderSpec
from tests.policies.matrix import SUBJECTS, Subject, allowed_actions

LENGTH = 3
# Of each kind, small and with options that are not the defaults.
SMALL: dict[str, dict[str, Any]] = {
    "last": {"kind": "last"},
    "history": {"kind": "history", "width": 8, "attention_heads": 2, "heads": 2, "token_compression": 2},
    "gru": {"kind": "gru", "width": 8, "depth": 2},
}
KINDS = [kind for kind, family in ENCODER_KINDS.items() if issubclass(family, HistoryReaderSpec)]
TORSO = {"kind": "delta", "width": 8, "depth": 1}


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    subject: Subject
    kind: str

    def __str__(self) -> str:
        return f"{self.subject.name}-{self.kind}"


def cases() -> Iterator[Any]:
    """All cells as parameters of a test; by default each algorithm has every third kind, the others are slow."""
    for i, subject in enumerate(SUBJECTS):
        for j, kind in enumerate(KINDS):
            case = Case(subject, kind)
            yield pytest.param(case, id=str(case), marks=[] if (i + j) % 3 == 0 else pytest.mark.slow)


def make_env(discrete: bool, length: int = LENGTH, episode: int = 10) -> gym.Env[Any, Any]:
    """Histories of a pendulum or a reaching arm, with short episodes."""
    env: gym.Env[Any, Any]
    if discrete:
        forces = np.linspace(-3, 3, 5, dtype=np.float32)[:, None]
        pendulum = gym.make("InvertedPendulum-v5", max_episode_steps=episode)
        env = gym.wrappers.TransformAction(pendulum, lambda action: forces[action], spaces.Discrete(len(forces)))
    else:
        env = gym.make("Reacher-v5", max_episode_steps=episode)
    env = gym.wrappers.FrameStackObservation(env, length)
    return ActionMasker(env, allowed_actions) if discrete else env


def make(subject: Subject, encoder: Any, length: int = LENGTH, episode: int = 10, **given: Any) -> Any:
    """A model; `given` are `policy_kwargs`, except `options` (the algorithm's) and `algorithm` (the subject's)."""
    options = {**subject.options, "seed": 0, **given.pop("options", {})}
    algorithm = given.pop("algorithm", subject.algorithm)
    policy_kwargs = {**subject.policy_kwargs, "torso": TORSO, "encoder": encoder, **given}
    return algorithm(
        subject.observations["Box"],
        make_env(subject.discrete, length, episode),
        policy_kwargs=policy_kwargs,
        device="cpu",
        **options,
    )
