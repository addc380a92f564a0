"""Configs of older versions."""

from __future__ import annotations

from typing import Any

# Keys that every resolved config has had since the first version, at the top level and in its environment.
_WRITTEN_OUT = frozenset(
    ("agent", "env", "actor_torso", "critic_torso", "total_timesteps", "seeds", "eval", "device", "threads", "out")
)
_WRITTEN_OUT_OF_ENV = frozenset(("id", "kind", "kwargs", "wrappers", "n_envs", "normalize", "random_score"))


def complete_older(data: Any) -> None:
    """Add keys that a resolved config of an older version lacks, with that version's behaviour.

    In a config written by a user, a missing key means the current default.
    """
    env = data.get("env") if isinstance(data, dict) and data.keys() >= _WRITTEN_OUT else None
    if isinstance(env, dict) and env.keys() >= _WRITTEN_OUT_OF_ENV:
        env.setdefault("seeding", "consecutive")
        if isinstance(evaluation := data["eval"], dict) and "episodes" in evaluation:
            evaluation.setdefault("n_envs", evaluation["episodes"])  # older versions played all of them side by side
