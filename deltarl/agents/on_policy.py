"""Hyperparameters of A2C, PPO, TRPO and RecurrentPPO."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from gymnasium import spaces
from pydantic import Field, model_validator
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, PPO

from deltarl.agents.base import (
    AlgorithmSpec,
    Count,
    GaussianPolicySpec,
    GSDESpec,
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

    lstm_hidden_size: Count | None = None
    n_lstm_layers: Count | None = None
    shared_lstm: bool | None = Field(None, description="One LSTM, which the actor alone trains.")
    enable_critic_lstm: bool | None = None


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
    gae_lambda: Share = 0.95
    normalize_advantage: bool = True

    def optimizer_defaults(self) -> dict[str, Any]:
        return {"eps": 1e-5}


class ClippedSpec(OnPolicySpec):
    """What PPO and its kin share."""

    batch_size: AtLeastTwo = 64
    n_epochs: Count = 10
    clip_range: Scheduled = 0.2
    clip_range_vf: Scheduled | None = None
    ent_coef: NotNegative = 0.0
    vf_coef: NotNegative = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None


class PPOSpec(GSDESpec, ClippedSpec):
    """Proximal policy optimisation (Schulman et al., arXiv 1707.06347)."""

    implementation = PPO

    algorithm: Literal["ppo"] = "ppo"


class RecurrentPPOSpec(GSDESpec, ClippedSpec):
    """PPO with an LSTM before each torso."""

    implementation = RecurrentPPO

    algorithm: Literal["recurrent_ppo"] = "recurrent_ppo"
    policy: RecurrentPolicySpec = RecurrentPolicySpec()
    n_steps: AtLeastTwo = 128
    batch_size: AtLeastTwo = 128


class A2CSpec(GSDESpec, OnPolicySpec):
    """Synchronous advantage actor-critic (Mnih et al., arXiv 1602.01783)."""

    implementation = A2C

    algorithm: Literal["a2c"] = "a2c"
    learning_rate: Scheduled = 7e-4
    n_steps: Count = 5
    gae_lambda: Share = 1.0
    ent_coef: NotNegative = 0.0
    vf_coef: NotNegative = 0.5
    max_grad_norm: Positive = 0.5
    use_rms_prop: bool = Field(True, description="RMSprop; false is Adam. `policy.optimizer` goes before it.")
    rms_prop_eps: Positive = 1e-5
    normalize_advantage: bool = False

    @model_validator(mode="after")
    def _rms_prop_has_no_decay(self) -> A2CSpec:
        if self.use_rms_prop and self.policy.weight_decay and self.policy.optimizer is None:
            raise complaint("SB3's RMSprop takes none; give policy.optimizer too", key="policy")
        return self


class TRPOSpec(GSDESpec, OnPolicySpec):
    """Trust region policy optimisation (Schulman et al., arXiv 1502.05477)."""

    implementation = TRPO

    algorithm: Literal["trpo"] = "trpo"
    learning_rate: Scheduled = Field(1e-3, description="Of the value network; the policy's step is the trust region's.")
    batch_size: AtLeastTwo = 128
    cg_max_steps: Count = 15
    cg_damping: NotNegative = 0.1
    line_search_shrinking_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    line_search_max_iter: Count = 10
    n_critic_updates: Count = 10
    target_kl: Positive = 0.01
    sub_sampling_factor: Count = 1
