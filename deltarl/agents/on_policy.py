"""Hyperparameters of A2C, PPO, TRPO and RecurrentPPO."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from gymnasium import spaces
from pydantic import Field, model_validator

from deltarl.agents.base import (
    AlgorithmSpec,
    Count,
    GaussianPolicySpec,
    GSDESpec,
    Imported,
    LeanSpec,
    LearningRate,
    NotNegative,
    Positive,
    Scheduled,
    Share,
    WindowSpec,
)
from deltarl.errors import complaint

AtLeastTwo = Annotated[int, Field(ge=2)]


class ActorCriticPolicySpec(GaussianPolicySpec):
    """Options of actor-critic policies."""

    ortho_init: bool | None = Field(None, description="Orthogonal initialisation of everything except the torsos.")
    full_std: bool | None = Field(None, description="With gSDE: one standard deviation per feature and action.")
    squash_output: bool | None = Field(None, description="With gSDE: squash actions with a tanh.")


class RecurrentPolicySpec(ActorCriticPolicySpec):
    """Options of policies with an LSTM before their torsos."""

    lstm_hidden_size: Count | None = Field(None, description="Units of each LSTM layer.")
    n_lstm_layers: Count | None = Field(None, description="Layers of each LSTM.")
    shared_lstm: bool | None = Field(None, description="A single LSTM, trained by the actor only.")
    enable_critic_lstm: bool | None = Field(None, description="A separate LSTM for the critic.")


class OnPolicySpec(WindowSpec, AlgorithmSpec):
    """Shared hyperparameters of the on-policy algorithms."""

    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (
        spaces.Box,
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
    )

    policy: ActorCriticPolicySpec = ActorCriticPolicySpec()
    n_steps: Annotated[int, Field(ge=2, description="Steps per environment between updates.")] = 2048
    gae_lambda: Share = Field(0.95, description="Lambda of generalised advantage estimation.")
    normalize_advantage: bool = Field(True, description="Normalise each batch's advantages to mean 0, deviation 1.")

    def rollout(self, n_envs: int) -> int:
        """Transitions of one update."""
        return self.n_steps * n_envs

    def largest_batch(self, n_envs: int) -> int:
        return self.rollout(n_envs)

    def _check_advantages(self, rows: int) -> None:
        if self.normalize_advantage and rows < 2:
            raise complaint(
                "the advantage of one transition has no standard deviation, and a batch has no more (n_steps, "
                "env.n_envs, batch_size); give it more, or false",
                key="agent.normalize_advantage",
            )

    def optimizer_defaults(self) -> dict[str, Any]:
        return {"eps": 1e-5}


class ClippedSpec(OnPolicySpec):
    """Shared hyperparameters of PPO and RecurrentPPO."""

    logs_kl = True

    batch_size: AtLeastTwo = Field(64, description="Transitions per gradient step.")
    n_epochs: Count = Field(10, description="Passes over the rollout per update.")
    clip_range: Scheduled = Field(0.2, description="Clipping range of the probability ratio around 1.")
    clip_range_vf: Scheduled | None = Field(
        None, description="Clipping range of value changes, on the scale of the rewards; null: none."
    )
    ent_coef: NotNegative = Field(0.0, description="Weight of the entropy bonus in the loss.")
    vf_coef: NotNegative = Field(0.5, description="Weight of the value loss.")
    max_grad_norm: Positive = Field(0.5, description="Maximum gradient norm.")
    target_kl: Positive | None = Field(
        None, description="Limit of an update's KL divergence; PPO stops early beyond 1.5 times it. Null: none."
    )

    def largest_batch(self, n_envs: int) -> int:
        return min(self.batch_size, self.rollout(n_envs))

    def smallest_batches(self, n_envs: int) -> dict[str, int]:
        return dict.fromkeys(("actor_torso", "critic_torso"), _last_batch(self.rollout(n_envs), self.batch_size))


class PPOSpec(LeanSpec, GSDESpec, ClippedSpec):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

    stock, lean = Imported("stable_baselines3", "PPO"), Imported("deltarl.fast", "PPO")

    algorithm: Literal["ppo"] = "ppo"


class RecurrentPPOSpec(GSDESpec, ClippedSpec):
    """PPO with an LSTM before each torso."""

    stock = Imported("sb3_contrib", "RecurrentPPO")

    algorithm: Literal["recurrent_ppo"] = "recurrent_ppo"
    policy: RecurrentPolicySpec = RecurrentPolicySpec()
    n_steps: AtLeastTwo = 128
    batch_size: AtLeastTwo = 128

    def check(self, n_envs: int) -> None:
        # PPO does not normalise the advantage of a batch of one, but RecurrentPPO does.
        self._check_advantages(_last_batch(self.rollout(n_envs), self.batch_size))


class A2CSpec(LeanSpec, GSDESpec, OnPolicySpec):
    """Synchronous advantage actor-critic (Mnih et al., arXiv 1602.01783)."""

    stock, lean = Imported("stable_baselines3", "A2C"), Imported("deltarl.fast", "A2C")

    algorithm: Literal["a2c"] = "a2c"
    learning_rate: LearningRate = 7e-4
    n_steps: Count = 5
    gae_lambda: Share = 1.0
    ent_coef: NotNegative = 0.0
    vf_coef: NotNegative = 0.5
    max_grad_norm: Positive = 0.5
    use_rms_prop: bool = Field(True, description="Use RMSprop, otherwise Adam; `policy.optimizer` takes precedence.")
    rms_prop_eps: Positive = Field(1e-5, description="RMSprop's epsilon.")
    normalize_advantage: bool = False

    @model_validator(mode="after")
    def _rms_prop_has_no_decay(self) -> A2CSpec:
        if self.use_rms_prop and self.policy.weight_decay and self.policy.optimizer is None:
            raise complaint("SB3's RMSprop does not support it; set policy.optimizer too", key="policy")
        return self

    def check(self, n_envs: int) -> None:
        self._check_advantages(self.rollout(n_envs))

    def smallest_batches(self, n_envs: int) -> dict[str, int]:
        return dict.fromkeys(("actor_torso", "critic_torso"), self.rollout(n_envs))


class TRPOSpec(GSDESpec, OnPolicySpec):
    """Trust region policy optimisation (Schulman et al., arXiv 1502.05477)."""

    stock = Imported("sb3_contrib", "TRPO")

    algorithm: Literal["trpo"] = "trpo"
    learning_rate: LearningRate = Field(
        1e-3, description="Of the value network; the trust region determines the policy's step."
    )
    batch_size: AtLeastTwo = 128
    cg_max_steps: Count = Field(15, description="Maximum number of conjugate gradient steps.")
    cg_damping: NotNegative = Field(0.1, description="Damping of the Hessian in the conjugate gradient.")
    line_search_shrinking_factor: Annotated[
        float, Field(gt=0, lt=1, description="Factor of each step of the line search.")
    ] = 0.8
    line_search_max_iter: Count = Field(10, description="Maximum number of line search steps.")
    n_critic_updates: Count = Field(10, description="Value network updates per policy update.")
    target_kl: Positive = 0.01
    sub_sampling_factor: Count = Field(1, description="Use one in this many steps for the policy update.")

    def check(self, n_envs: int) -> None:
        self._check_advantages(self.smallest_batches(n_envs)["actor_torso"])

    def smallest_batches(self, n_envs: int) -> dict[str, int]:
        rollout = self.rollout(n_envs)
        return {
            "actor_torso": math.ceil(rollout / self.sub_sampling_factor),
            "critic_torso": _last_batch(rollout, self.batch_size),
        }


def _last_batch(rollout: int, batch_size: int) -> int:
    """Rows of the last batch of an update, which is the smallest."""
    return rollout % batch_size or batch_size


OnPolicyAgentSpec = A2CSpec | PPOSpec | TRPOSpec | RecurrentPPOSpec
