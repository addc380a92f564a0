"""Shared parts of all algorithm specs: schedules, policy options, and how they become SB3's arguments.

Names, meanings and defaults of the hyperparameters are Stable-Baselines3's; its documentation explains them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from gymnasium import spaces
from pydantic import Discriminator, Field, Tag, model_validator

from deltarl.errors import Spec, complaint

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class LinearScheduleSpec(Spec):
    """From `start` to `end` over the first `fraction` of the training."""

    schedule: Literal["linear"] = Field(description="Kind of schedule.")
    start: NotNegative = Field(description="Value at the start.")
    end: NotNegative = Field(0.0, description="Value at the end.")
    fraction: Fraction = Field(1.0, description="Fraction of the training after which the value stays at `end`.")


class KLAdaptiveScheduleSpec(Spec):
    """A learning rate that follows the KL divergence of the updates: see `deltarl.KLAdaptiveLearningRate`."""

    schedule: Literal["kl_adaptive"] = Field(description="Kind of schedule.")
    start: Positive = Field(3e-4, description="Rate of the first update.")
    target: Positive = Field(0.01, description="Target KL divergence of an update.")
    factor: Annotated[float, Field(gt=1)] = Field(
        1.5,
        description="Divides the rate after an update beyond twice the target, multiplies it below half the target.",
    )
    bounds: tuple[Positive, Positive] = Field((1e-6, 1e-2), description="Smallest and largest rate.")

    @model_validator(mode="after")
    def _starts_within_its_bounds(self) -> KLAdaptiveScheduleSpec:
        least, largest = self.bounds
        if not least <= self.start <= largest:
            raise complaint(f"{self.start:g} is not within the bounds, {least:g} to {largest:g}", key="start")
        return self


# Distinguished by form, so that an error in a schedule is reported as such.
Scheduled = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[LinearScheduleSpec, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, Mapping | LinearScheduleSpec) else "number"),
]
LearningRate = Annotated[
    Annotated[Positive, Tag("number")]
    | Annotated[
        Annotated[LinearScheduleSpec | KLAdaptiveScheduleSpec, Field(discriminator="schedule")], Tag("mapping")
    ],
    Discriminator(lambda value: "mapping" if isinstance(value, Mapping | Spec) else "number"),
]


class PolicySpec(Spec):
    """Options of the policy other than its torsos; null means SB3's default for the algorithm."""

    optimizer: Literal["adam", "adamw"] | None = Field(None, description="Null: Adam, or RMSprop for A2C.")
    weight_decay: NotNegative = Field(0.0, description="Not applied to gates, norms and biases.")
    share_features_extractor: bool | None = Field(
        None, description="Whether actor and critics share one features extractor."
    )

    def options(self, optimizer_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The options as SB3's `policy_kwargs`.

        Args:
            optimizer_defaults: options the algorithm gives its optimizer, which SB3 drops if others are given.
        """
        own = {"optimizer", "weight_decay"}
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        options = {name: value for name, value in given.items() if name not in own}
        # Named even if it is the default, because QR-DQN gives its own options to an unnamed optimizer.
        optimizer = self.optimizer or ("adam" if self.weight_decay else None)
        if optimizer is not None:
            import torch  # noqa: PLC0415 - a config is read without it

            options["optimizer_class"] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
            options["optimizer_kwargs"] = {"weight_decay": self.weight_decay, **optimizer_defaults}
        return options


class GaussianPolicySpec(PolicySpec):
    """A policy with a Gaussian over actions."""

    log_std_init: float | None = Field(None, ge=-20, le=2, description="Initial log standard deviation of the actions.")
    use_expln: bool | None = Field(None, description="With gSDE: use expln() instead of exp().")


class Imported:
    """The class of an algorithm as an attribute of its spec, imported when the attribute is read.

    Args:
        module: the module of the class.
        name: its name there.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __get__(self, instance: object, owner: type | None = None) -> type[BaseAlgorithm]:
        return getattr(import_module(self.module), self.name)  # type: ignore[no-any-return]


class AlgorithmSpec(Spec):
    """Base of all algorithm specs."""

    stock: ClassVar[Imported]  # Stable-Baselines3's or sb3-contrib's own
    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Box,)
    logs_kl: ClassVar[bool] = False  # as train/approx_kl
    # Fields that are not arguments of SB3's algorithm under the same name; `arguments` converts them.
    not_arguments: ClassVar[frozenset[str]] = frozenset({"algorithm", "policy", "implementation"})

    algorithm: str
    policy: PolicySpec = Field(PolicySpec(), description="Options of the policy other than its torsos.")
    learning_rate: LearningRate = Field(3e-4, description="Of the optimizer.")
    gamma: Share = Field(0.99, description="Discount factor.")

    @model_validator(mode="after")
    def _the_kl_divergence_is_logged(self) -> AlgorithmSpec:
        if isinstance(self.learning_rate, KLAdaptiveScheduleSpec) and not self.logs_kl:
            raise complaint(
                f"kl_adaptive follows the KL divergence of the updates, which {self.algorithm} does not log; ppo and "
                "recurrent_ppo do",
                key="learning_rate",
            )
        return self

    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments for the SB3 algorithm, except those of `arguments`."""
        names = type(self).model_fields.keys() - self.not_arguments
        return {name: _plain(getattr(self, name)) for name in sorted(names)}

    @property
    def algorithm_class(self) -> type[BaseAlgorithm]:
        """The class of the agent."""
        return self.stock

    def optimizer_defaults(self) -> dict[str, Any]:
        """The options SB3 gives Adam in this algorithm."""
        return {"eps": 1e-8}

    def policy_options(self) -> dict[str, Any]:
        """`policy_kwargs` for SB3, without torsos."""
        return self.policy.options(self.optimizer_defaults())

    def check(self, n_envs: int) -> None:
        """Raise a `complaint` if the spec cannot work with this number of environments."""

    @abstractmethod
    def smallest_batches(self, n_envs: int) -> dict[str, int]:
        """Rows of the smallest batch that each role's network is trained on."""

    @abstractmethod
    def largest_batch(self, n_envs: int) -> int:
        """Rows of the largest batch that any network is trained on."""

    def arguments(self, action_space: spaces.Space[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments that are objects rather than data, created for the task's action space."""
        return {}


class LeanSpec(Spec):
    """Options of algorithms that `deltarl.fast` implements; listed before `AlgorithmSpec` among the bases."""

    stock: ClassVar[Imported]
    lean: ClassVar[Imported]

    implementation: Literal["deltarl", "sb3"] = Field(
        "deltarl", description="deltarl: lean training steps; sb3: Stable-Baselines3's own, with the same numbers."
    )

    @property
    def algorithm_class(self) -> type[BaseAlgorithm]:
        return self.lean if self.implementation == "deltarl" else self.stock


class WindowSpec(Spec):
    """An option of all algorithms except DDPG."""

    stats_window_size: Count = Field(
        100, description="Number of training episodes that the logged return is averaged over."
    )


class GSDESpec(Spec):
    """Generalised state-dependent exploration (Raffin et al., arXiv 2005.05719)."""

    use_sde: bool = Field(False, description="gSDE, state-dependent exploration, instead of independent noise.")
    sde_sample_freq: Annotated[int, Field(ge=-1, description="Steps between noise samples; -1: once per rollout.")] = -1


def _plain(value: Any) -> float | str | Callable[[float], float] | None:
    if isinstance(value, LinearScheduleSpec):
        from stable_baselines3.common.utils import LinearSchedule  # noqa: PLC0415

        return LinearSchedule(value.start, value.end, value.fraction)
    if isinstance(value, KLAdaptiveScheduleSpec):
        return value.start
    return value  # type: ignore[no-any-return]
