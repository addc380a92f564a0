"""Hyperparameters of the algorithms with a replay buffer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from pydantic import AfterValidator, Field, model_validator

from deltarl.agents.base import (
    AlgorithmSpec,
    Count,
    Fraction,
    GaussianPolicySpec,
    GSDESpec,
    Imported,
    LeanSpec,
    LearningRate,
    NotNegative,
    PolicySpec,
    Positive,
    Share,
    WindowSpec,
)
from deltarl.errors import Spec, complaint

if TYPE_CHECKING:
    from stable_baselines3.common.noise import ActionNoise

QUANTILES_OF_TQC = 25  # sb3-contrib's default
# Steps between trainings, or [1, episode].
Frequency = Count | tuple[Count, Literal["step", "episode"]]


class ActionNoiseSpec(Spec):
    """Noise added to actions during training, in units of the action space scaled to [-1, 1]."""

    kind: Literal["normal", "ornstein_uhlenbeck"] = Field(
        "normal", description="Independent at each step, or an Ornstein-Uhlenbeck process."
    )
    std: NotNegative = Field(0.1, description="Standard deviation; sigma of the process.")

    def build(self, shape: tuple[int, ...]) -> ActionNoise:
        """SB3's noise for actions of this shape."""
        from stable_baselines3.common import noise  # noqa: PLC0415 - a config is read without it

        made = noise.NormalActionNoise if self.kind == "normal" else noise.OrnsteinUhlenbeckActionNoise
        return made(mean=np.zeros(shape), sigma=np.full(shape, self.std))


class HERSpec(Spec):
    """Hindsight experience replay (Andrychowicz et al., arXiv 1707.01495), for tasks with goals."""

    n_sampled_goal: Count = Field(4, description="Relabelled transitions for each real one.")
    goal_selection_strategy: Literal["future", "final", "episode"] = Field(
        "future", description="Where the substitute goals are taken from."
    )
    copy_info_dict: bool = Field(False, description="Pass the infos to compute_reward; slower.")


class ContinuousPolicySpec(PolicySpec):
    """Options of policies with actor and critics."""

    n_critics: Count | None = Field(None, description="Number of Q networks.")


class SquashedPolicySpec(GaussianPolicySpec):
    """Options of policies with a squashed Gaussian."""

    n_critics: Count | None = None
    clip_mean: NotNegative | None = Field(None, description="With gSDE: bound of the mean before the tanh.")


class TQCPolicySpec(SquashedPolicySpec):
    """Options of TQC's policy."""

    n_quantiles: Count | None = Field(None, description="Number of quantiles of each Q network.")


class CrossQPolicySpec(SquashedPolicySpec):
    """Options of CrossQ's policy."""

    batch_norm_momentum: Fraction | None = Field(
        None, description="Momentum of batch renormalisation's running statistics."
    )
    batch_norm_eps: Positive | None = Field(None, description="Epsilon of the norm before the torso.")
    renorm_warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Steps before batch renormalisation uses its running statistics."
    )


class QRDQNPolicySpec(PolicySpec):
    """Options of QR-DQN's policy."""

    n_quantiles: Count | None = None


class OffPolicySpec(AlgorithmSpec):
    """Shared hyperparameters of the algorithms with a replay buffer."""

    not_arguments: ClassVar[frozenset[str]] = AlgorithmSpec.not_arguments | {"her"}

    buffer_size: Count = Field(1_000_000, description="Capacity of the replay buffer, in transitions.")
    learning_starts: Annotated[int, Field(ge=0, description="Steps of random actions before learning starts.")] = 100
    batch_size: Count = Field(256, description="Transitions per gradient step.")
    train_freq: Frequency = Field(1, description="Steps between updates, or a pair such as `[1, episode]`.")
    gradient_steps: Annotated[int, Field(ge=-1, description="Per update; -1: as many as environment steps.")] = 1
    n_steps: Annotated[int, Field(ge=1, description="Length n of the n-step returns for the critics.")] = 1
    optimize_memory_usage: bool = Field(
        False, description="Store one observation per transition; time limits then count as terminations."
    )
    her: HERSpec | None = Field(None, description="Hindsight experience replay; null: none.")

    @model_validator(mode="after")
    def _her_stands_alone(self) -> OffPolicySpec:
        if self.her is not None:
            if self.optimize_memory_usage:
                raise complaint("HER cannot save memory this way; remove it", key="optimize_memory_usage")
            if self.n_steps > 1:
                raise complaint("HER supports one-step returns only; remove it", key="n_steps")
        if self.optimize_memory_usage and self.n_steps > 1:
            raise complaint("n-step returns cannot save memory this way; remove it", key="n_steps")
        return self

    def check(self, n_envs: int) -> None:
        if isinstance(self.train_freq, tuple) and self.train_freq[1] == "episode" and n_envs > 1:
            raise complaint(
                f"episodes are counted in one environment, and env.n_envs is {n_envs}; give a number of steps, or "
                "env.n_envs=1",
                key="agent.train_freq",
            )

    def smallest_batches(self, n_envs: int) -> dict[str, int]:  # noqa: ARG002
        return {"actor_torso": self.batch_size, "critic_torso": self.batch_size}

    def largest_batch(self, n_envs: int) -> int:  # noqa: ARG002
        return self.batch_size

    def arguments(self, action_space: spaces.Space[Any]) -> dict[str, Any]:
        given = super().arguments(action_space)
        if self.her is not None:
            from stable_baselines3 import HerReplayBuffer  # noqa: PLC0415

            given |= {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": self.her.model_dump()}
        elif self.optimize_memory_usage:
            given["replay_buffer_kwargs"] = {"handle_timeout_termination": False}
        return given


class ContinuousSpec(LeanSpec, OffPolicySpec):
    """Shared hyperparameters of the algorithms with actor and critics."""

    not_arguments: ClassVar[frozenset[str]] = OffPolicySpec.not_arguments | {"action_noise"}

    action_noise: ActionNoiseSpec | None = Field(None, description="Noise on actions during training.")

    def arguments(self, action_space: spaces.Space[Any]) -> dict[str, Any]:
        given = super().arguments(action_space)
        if self.action_noise is not None:
            assert action_space.shape is not None
            given["action_noise"] = self.action_noise.build(action_space.shape)
        return given


def _starts_above_0(text: str) -> str:
    if text != "auto" and not 0 < float(text.removeprefix("auto_")) < math.inf:
        raise complaint(f"expected a learned coefficient to start above 0, got {text}")
    return text


LearnedEntropy = Annotated[
    str,
    Field(pattern=r"^auto(_([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)?$"),
    AfterValidator(_starts_above_0),
]


class EntropySpec(WindowSpec, GSDESpec):
    """Shared hyperparameters of SAC, TQC and CrossQ."""

    ent_coef: LearnedEntropy | NotNegative = Field(
        "auto", description="A number, auto (learned), or auto_0.1 (learned, starting at 0.1)."
    )
    target_entropy: Literal["auto"] | float = Field("auto", description="Target entropy of a learned `ent_coef`.")
    use_sde_at_warmup: bool = Field(False, description="Use gSDE instead of uniform actions before learning starts.")


class SACSpec(EntropySpec, ContinuousSpec):
    """Soft actor-critic (Haarnoja et al., arXiv 1812.05905)."""

    stock, lean = Imported("stable_baselines3", "SAC"), Imported("deltarl.fast", "SAC")

    algorithm: Literal["sac"] = "sac"
    policy: SquashedPolicySpec = SquashedPolicySpec()
    tau: Fraction = Field(
        0.005, description="Fraction of the networks mixed into the target networks at each update of these."
    )
    target_update_interval: Count = Field(1, description="Gradient steps between updates of the target networks.")


class TQCSpec(EntropySpec, ContinuousSpec):
    """Truncated quantile critics (Kuznetsov et al., arXiv 2005.04269)."""

    stock, lean = Imported("sb3_contrib", "TQC"), Imported("deltarl.fast", "TQC")

    algorithm: Literal["tqc"] = "tqc"
    policy: TQCPolicySpec = TQCPolicySpec()
    tau: Fraction = 0.005
    target_update_interval: Count = 1
    top_quantiles_to_drop_per_net: Annotated[
        int, Field(ge=0, description="Number of largest quantiles of each Q network to drop from the target.")
    ] = 2

    @model_validator(mode="after")
    def _some_quantiles_stay(self) -> TQCSpec:
        count = self.policy.n_quantiles or QUANTILES_OF_TQC
        if self.top_quantiles_to_drop_per_net >= count:
            raise complaint(
                f"the target would leave out all {count} quantiles of each Q network (policy.n_quantiles); give less",
                key="top_quantiles_to_drop_per_net",
            )
        return self


class CrossQSpec(EntropySpec, ContinuousSpec):
    """CrossQ: batch renormalisation instead of target networks (Bhatt et al., arXiv 1902.05605)."""

    stock, lean = Imported("sb3_contrib", "CrossQ"), Imported("deltarl.fast", "CrossQ")

    algorithm: Literal["crossq"] = "crossq"
    policy: CrossQPolicySpec = CrossQPolicySpec()
    learning_rate: LearningRate = 1e-3
    policy_delay: Count = Field(3, description="Critic updates per policy update.")

    def optimizer_defaults(self) -> dict[str, Any]:
        return {"eps": 1e-8, "betas": (0.5, 0.999)}


class DDPGSpec(ContinuousSpec):
    """Deep deterministic policy gradient (Lillicrap et al., arXiv 1509.02971)."""

    stock, lean = Imported("stable_baselines3", "DDPG"), Imported("deltarl.fast", "DDPG")

    algorithm: Literal["ddpg"] = "ddpg"
    learning_rate: LearningRate = 1e-3
    tau: Fraction = 0.005

    def policy_options(self) -> dict[str, Any]:
        return {"n_critics": 1, **super().policy_options()}


class TD3Spec(WindowSpec, ContinuousSpec):
    """Twin delayed DDPG (Fujimoto et al., arXiv 1802.09477)."""

    stock, lean = Imported("stable_baselines3", "TD3"), Imported("deltarl.fast", "TD3")

    algorithm: Literal["td3"] = "td3"
    policy: ContinuousPolicySpec = ContinuousPolicySpec()
    learning_rate: LearningRate = 1e-3
    tau: Fraction = 0.005
    policy_delay: Count = 2
    target_policy_noise: NotNegative = Field(
        0.2, description="Standard deviation of the noise on the target policy's actions."
    )
    target_noise_clip: NotNegative = Field(0.5, description="Bound of that noise.")


class QLearningSpec(WindowSpec, OffPolicySpec):
    """Shared hyperparameters of DQN and QR-DQN."""

    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Discrete,)

    learning_rate: LearningRate = 1e-4
    batch_size: Count = 32
    tau: Fraction = Field(
        1.0, description="Fraction of the network mixed into the target network at each update of it."
    )
    train_freq: Frequency = 4
    target_update_interval: Count = Field(10_000, description="Steps between updates of the target network.")
    exploration_fraction: Fraction = Field(0.1, description="Fraction of training over which exploration decreases.")
    exploration_initial_eps: Share = Field(1.0, description="Fraction of random actions at the start.")
    exploration_final_eps: Share = Field(0.05, description="Fraction of random actions after that.")


class DQNSpec(QLearningSpec):
    """Deep Q-learning (Mnih et al., 2015)."""

    stock = Imported("stable_baselines3", "DQN")

    algorithm: Literal["dqn"] = "dqn"
    max_grad_norm: Positive = Field(10.0, description="Maximum gradient norm.")


class QRDQNSpec(QLearningSpec):
    """Deep Q-learning with quantile regression (Dabney et al., arXiv 1710.10044)."""

    stock = Imported("sb3_contrib", "QRDQN")

    algorithm: Literal["qrdqn"] = "qrdqn"
    policy: QRDQNPolicySpec = QRDQNPolicySpec()
    learning_rate: LearningRate = 5e-5
    exploration_fraction: Fraction = 0.005
    exploration_final_eps: Share = 0.01
    max_grad_norm: Positive | None = None

    def optimizer_defaults(self) -> dict[str, Any]:
        return {"eps": 0.01 / self.batch_size}


OffPolicyAgentSpec = SACSpec | TD3Spec | DDPGSpec | TQCSpec | CrossQSpec | DQNSpec | QRDQNSpec
