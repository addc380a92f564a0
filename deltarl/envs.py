"""Environments as data, and the vectorised environment made of them."""

from __future__ import annotations

import contextlib
import io
from typing import Annotated, Any, Literal

import gymnasium as gym
from pydantic import Field, field_validator
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl.errors import Spec, complaint, nearest


class NormalizeSpec(Spec):
    """Running normalisation by Stable-Baselines3's VecNormalize; scores are never normalised."""

    observations: bool = False
    rewards: bool = False
    clip: Annotated[float, Field(gt=0, description="Normalised values are clipped to +-clip.")] = 10.0


class SuccessSpec(Spec):
    """When an episode counts as a success."""

    key: str = Field("is_success", description="Entry of the step's info.")
    rule: Literal["end", "any"] = Field("end", description="Success at the last step, or at any.")


class ScoreSpec(Spec):
    """A return over complete episodes, and where it is from."""

    mean: float
    std: Annotated[float, Field(ge=0)] | None = None
    episodes: Annotated[int, Field(ge=1)] | None = None
    source: str


class EnvSpec(Spec):
    """A Gymnasium environment and how agents train in it."""

    id: str
    kind: Literal["locomotion", "manipulation", "navigation"]
    kwargs: dict[str, Any] = Field({}, description="Keyword arguments of gymnasium.make.")
    n_envs: Annotated[int, Field(ge=1, le=4_096)] = 1
    normalize: NormalizeSpec = NormalizeSpec()
    success: SuccessSpec | None = Field(None, description="Null for tasks without a notion of success.")
    random_score: ScoreSpec | None = Field(None, description="What uniformly random actions score.")
    reference_score: ScoreSpec | None = Field(None, description="A published score, or null.")

    @field_validator("id")
    @classmethod
    def _id_is_registered(cls, env_id: str) -> str:
        if ":" in env_id:
            raise complaint(f"'{env_id}' names a module to import; environments come from Gymnasium's registry alone")
        if env_id not in gym.registry and env_id not in _known_ids():
            raise complaint(f"no environment '{env_id}'{nearest(env_id, gym.registry) or ' in the registry'}")
        return env_id


def _known_ids() -> list[str]:
    # On its import, which is slow, it prints a notice on one family of its environments.
    with contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # noqa: PLC0415
    gym.register_envs(gymnasium_robotics)
    return list(gym.registry)


def build_envs(spec: EnvSpec, seed: int, n_envs: int | None = None) -> VecEnv:
    """Monitored environments in one process, not normalised.

    Args:
        spec: the environment.
        seed: the environments are seeded with seed, seed + 1, ...
        n_envs: how many, `spec.n_envs` if not given.
    """
    return make_vec_env(spec.id, n_envs=n_envs or spec.n_envs, seed=seed, env_kwargs=dict(spec.kwargs))


def normalize(envs: VecEnv, spec: NormalizeSpec, gamma: float) -> VecEnv:
    """Wrap `envs` for training as `spec` says; `gamma` is the agent's, for the scale of the returns."""
    if not (spec.observations or spec.rewards):
        return envs
    return VecNormalize(
        envs,
        norm_obs=spec.observations,
        norm_reward=spec.rewards,
        clip_obs=spec.clip,
        clip_reward=spec.clip,
        gamma=gamma,
    )
