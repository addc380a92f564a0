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

    ortho_init: bool | None = Field(None, description="Orthogonal start of what surrounds the torsos.")
    full_std: bool | None = Field(None, description="With gSDE: a standard deviation for each feature and action.")
    squash_output: bool | None = Field(None, description="With gSDE: actions through a tanh.")


class RecurrentPolicySpec(ActorCriticPolicySpec):
    """Options of policies with an LSTM before their torsos."""

    lstm_hidden_size: Count | None = Field(None, description="Units of each LSTM layer.")
    n_lstm_layers: Count | None = Field(None, description="Layers of each LSTM.")
    shared_lstm: bool | None = Field(None, description="One LSTM, which the actor alone trains.")
    enable_critic_lstm: bool | None = Field(None, description="An LSTM of the critic's own.")


class OnPolicySpec(WindowSpec, AlgorithmSpec):
    """What the on-policy algorithms share."""

    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (
        spaces.Box,
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
    )

    policy: ActorCriticPolicySpec = ActorCriticPolicySpec()
    n_steps: Annotated[int, Field(ge=2, description="Steps of each environment between updates.")] = 2048
    gae_lambda: Share = Field(0.95, description="Lambda of generalised advantage estimation.")
    normalize_advantage: bool = Field(True, description="Advantages of a batch to mean 0 and standard deviation 1.")

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
    """What PPO and its kin share."""

    logs_kl = True

    batch_size: AtLeastTwo = Field(64, description="Transitions in one gradient step.")
    n_epochs: Count = Field(10, description="Passes over the steps of an update.")
    clip_range: Scheduled = Field(0.2, description="Bound of the probability ratio's distance from 1.")
    clip_range_vf: Scheduled | None = Field(
        None, description="Bound of a value's change, on the scale of the rewards; null: none."
    )
    ent_coef: NotNegative = Field(0.0, description="Weight of the entropy in the loss.")
    vf_coef: NotNegative = Field(0.5, description="Weight of the values' error in the loss.")
    max_grad_norm: Positive = Field(0.5, description="Norm that gradients are clipped to.")
    target_kl: Positive | None = Field(
        None, description="Bound of the KL divergence in an update; PPO ends one beyond 1.5 times it. Null: none."
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
        # PPO leaves the advantage of a batch of one as it is; this one does not.
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
    use_rms_prop: bool = Field(True, description="RMSprop; false is Adam. `policy.optimizer` goes before it.")
    rms_prop_eps: Positive = Field(1e-5, description="RMSprop's epsilon.")
    normalize_advantage: bool = False

    @model_validator(mode="after")
    def _rms_prop_has_no_decay(self) -> A2CSpec:
        if self.use_rms_prop and self.policy.weight_decay and self.policy.optimizer is None:
            raise complaint("SB3's RMSprop takes none; give policy.optimizer too", key="policy")
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
        1e-3, description="Of the value network; the policy's step is the trust region's."
    )
    batch_size: AtLeastTwo = 128
    cg_max_steps: Count = Field(15, description="Steps of the conjugate gradient at most.")
    cg_damping: NotNegative = Field(0.1, description="Damping of the Hessian in the conjugate gradient.")
    line_search_shrinking_factor: Annotated[
        float, Field(gt=0, lt=1, description="Factor of each step of the line search.")
    ] = 0.8
    line_search_max_iter: Count = Field(10, description="Steps of the line search at most.")
    n_critic_updates: Count = Field(10, description="Updates of the value network for each of the policy.")
    target_kl: Positive = 0.01
    sub_sampling_factor: Count = Field(1, description="Of the steps, one in so many is used for the policy.")

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
