"""Agents: an algorithm and its hyperparameters as data, and the Stable-Baselines3 algorithm made of them.

Names, meanings and defaults of the hyperparameters are Stable-Baselines3's own; its documentation explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from gymnasium import spaces
from pydantic import Discriminator, Field, Tag
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

import deltarl.policies  # noqa: F401  (adds the aliases)
from deltarl.errors import Spec

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class LinearScheduleSpec(Spec):
    """From `start` to `end` over the first `fraction` of the training."""

    schedule: Literal["linear"]
    start: NotNegative
    end: NotNegative = 0.0
    fraction: Fraction = Field(1.0, description="Share of the training after which the value stays at `end`.")


# Told apart by form, so that a mistake in a schedule is reported as one.
Scheduled = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[LinearScheduleSpec, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, Mapping | LinearScheduleSpec) else "number"),
]


class PolicySpec(Spec):
    """Options of the policy beside its torsos."""

    log_std_init: float | None = Field(
        None,
        ge=-20,
        le=2,
        description="Initial log standard deviation of the actions; SB3's default for the algorithm if null.",
    )
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: NotNegative = Field(0.0, description="Gates, norms and biases are left out of it.")

    def options(self, adam_eps: float) -> dict[str, Any]:
        """The options as SB3's `policy_kwargs`; `adam_eps` is the algorithm's own, which SB3 forgets beside others."""
        given: dict[str, Any] = {}
        if self.log_std_init is not None:
            given["log_std_init"] = self.log_std_init
        if self.optimizer == "adamw":
            given["optimizer_class"] = torch.optim.AdamW
        if self.weight_decay or self.optimizer == "adamw":
            given["optimizer_kwargs"] = {"weight_decay": self.weight_decay, "eps": adam_eps}
        return given


class AlgorithmSpec(Spec):
    """What all algorithms share."""

    implementation: ClassVar[type[BaseAlgorithm]]
    adam_eps: ClassVar[float] = 1e-8

    algorithm: str
    policy: PolicySpec = PolicySpec()
    learning_rate: Scheduled = 3e-4
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.99
    use_sde: bool = False
    sde_sample_freq: Annotated[int, Field(ge=-1)] = -1
    stats_window_size: Annotated[int, Field(ge=1)] = 100

    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments for the SB3 algorithm."""
        names = type(self).model_fields.keys() - {"algorithm", "policy"}
        return {name: _plain(getattr(self, name)) for name in sorted(names)}


class PPOSpec(AlgorithmSpec):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

    implementation = PPO
    adam_eps = 1e-5

    algorithm: Literal["ppo"] = "ppo"
    n_steps: Annotated[int, Field(ge=2, description="Steps of each environment between updates.")] = 2048
    batch_size: Annotated[int, Field(ge=2)] = 64
    n_epochs: Annotated[int, Field(ge=1)] = 10
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    clip_range: Scheduled = 0.2
    clip_range_vf: Scheduled | None = None
    normalize_advantage: bool = True
    ent_coef: NotNegative = 0.0
    vf_coef: NotNegative = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None


class SACSpec(AlgorithmSpec):
    """Soft actor-critic (Haarnoja et al., arXiv 1812.05905)."""

    implementation = SAC

    algorithm: Literal["sac"] = "sac"
    buffer_size: Annotated[int, Field(ge=1)] = 1_000_000
    learning_starts: Annotated[int, Field(ge=0)] = 100
    batch_size: Annotated[int, Field(ge=1)] = 256
    tau: Fraction = 0.005
    train_freq: Annotated[int, Field(ge=1)] = 1
    gradient_steps: Annotated[int, Field(ge=-1, description="-1: as many as steps were taken.")] = 1
    n_steps: Annotated[int, Field(ge=1, description="Steps of the return that the critics learn from.")] = 1
    ent_coef: Literal["auto"] | NotNegative = "auto"
    target_update_interval: Annotated[int, Field(ge=1)] = 1
    target_entropy: Literal["auto"] | float = "auto"
    use_sde_at_warmup: bool = False


AgentSpec = Annotated[PPOSpec | SACSpec, Field(discriminator="algorithm")]


def policy_name(observation_space: spaces.Space[Any]) -> str:
    """The alias of the policy for an observation space."""
    if isinstance(observation_space, spaces.Dict):
        return "DeltaMultiInputPolicy"
    return "DeltaCnnPolicy" if is_image_space(observation_space) else "DeltaPolicy"


def build_agent(
    spec: PPOSpec | SACSpec, actor_torso: Spec, critic_torso: Spec, env: VecEnv, *, seed: int, device: str
) -> BaseAlgorithm:
    """The Stable-Baselines3 algorithm of a spec, ready to learn.

    Args:
        spec: algorithm and hyperparameters.
        actor_torso: spec of the policy network's torso.
        critic_torso: spec of the value or Q networks' torso.
        env: the environments to learn in.
        seed: seed of Python, NumPy, PyTorch and the environments.
        device: as Stable-Baselines3 takes it: auto, cpu, cuda, cuda:1.
    """
    return spec.implementation(
        policy_name(env.observation_space),
        env,
        policy_kwargs=_policy_kwargs(spec, actor_torso, critic_torso),
        seed=seed,
        device=device,
        **spec.hyperparameters(),
    )


def build_policy(spec: PPOSpec | SACSpec, actor_torso: Spec, critic_torso: Spec, env: VecEnv) -> BasePolicy:
    """The policy alone, as `build_agent`'s algorithm has it, to be filled with stored weights.

    It draws no random numbers that anybody else would miss.
    """
    # SB3 turns images channel-first before an algorithm sees them.
    env = spec.implementation._wrap_env(env, verbose=0)
    policy_class = spec.implementation.policy_aliases[policy_name(env.observation_space)]
    with torch.random.fork_rng():
        return policy_class(
            env.observation_space,
            env.action_space,
            lr_schedule=lambda _: 0.0,
            use_sde=spec.use_sde,
            **_policy_kwargs(spec, actor_torso, critic_torso),
        )


def _policy_kwargs(spec: PPOSpec | SACSpec, actor_torso: Spec, critic_torso: Spec) -> dict[str, Any]:
    return {
        "actor_torso": actor_torso.model_dump(mode="json"),
        "critic_torso": critic_torso.model_dump(mode="json"),
        **spec.policy.options(spec.adam_eps),
    }


def _plain(value: Any) -> float | str | Callable[[float], float] | None:
    if isinstance(value, LinearScheduleSpec):
        return LinearSchedule(value.start, value.end, value.fraction)
    return value  # type: ignore[no-any-return]
