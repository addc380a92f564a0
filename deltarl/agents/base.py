"""What the specs of all algorithms share: schedules, options of the policy, and how they become SB3's arguments.

Names, meanings and defaults of the hyperparameters are Stable-Baselines3's own; its documentation explains them.
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

    schedule: Literal["linear"] = Field(description="Its kind.")
    start: NotNegative = Field(description="Value at the start.")
    end: NotNegative = Field(0.0, description="Value at the end.")
    fraction: Fraction = Field(1.0, description="Share of the training after which the value stays at `end`.")


class KLAdaptiveScheduleSpec(Spec):
    """A learning rate that follows the KL divergence of the updates: see `deltarl.KLAdaptiveLearningRate`."""

    schedule: Literal["kl_adaptive"] = Field(description="Its kind.")
    start: Positive = Field(3e-4, description="Rate of the first update.")
    target: Positive = Field(0.01, description="KL divergence of an update to aim at.")
    factor: Annotated[float, Field(gt=1)] = Field(
        1.5,
        description="The rate is divided by it after an update beyond twice the target, multiplied below half of it.",
    )
    bounds: tuple[Positive, Positive] = Field((1e-6, 1e-2), description="Least and largest rate.")

    @model_validator(mode="after")
    def _starts_within_its_bounds(self) -> KLAdaptiveScheduleSpec:
        least, largest = self.bounds
        if not least <= self.start <= largest:
            raise complaint(f"{self.start:g} is not within the bounds, {least:g} to {largest:g}", key="start")
        return self


# Told apart by form, so that a mistake in a schedule is reported as one.
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
    """Options of the policy beside its torsos; null is SB3's own default for the algorithm."""

    optimizer: Literal["adam", "adamw"] | None = Field(None, description="Null: Adam, and RMSprop for A2C.")
    weight_decay: NotNegative = Field(0.0, description="Gates, norms and biases are left out of it.")
    share_features_extractor: bool | None = Field(None, description="One features extractor for actor and critics.")

    def options(self, optimizer_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The options as SB3's `policy_kwargs`.

        Args:
            optimizer_defaults: what the algorithm gives its optimizer, which SB3 forgets beside other options.
        """
        own = {"optimizer", "weight_decay"}
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        options = {name: value for name, value in given.items() if name not in own}
        # Named also where it is the default: QR-DQN gives its own options to an optimizer that is not named.
        optimizer = self.optimizer or ("adam" if self.weight_decay else None)
        if optimizer is not None:
            import torch  # noqa: PLC0415 - a config is read without it

            options["optimizer_class"] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
            options["optimizer_kwargs"] = {"weight_decay": self.weight_decay, **optimizer_defaults}
        return options


class GaussianPolicySpec(PolicySpec):
    """A policy with a Gaussian over actions."""

    log_std_init: float | None = Field(None, ge=-20, le=2, description="Initial log standard deviation of the actions.")
    use_expln: bool | None = Field(None, description="With gSDE: expln() in the place of exp().")


class Imported:
    """The class of an algorithm as an attribute of its spec: imported when the attribute is read, not with the spec.

    Args:
        module: the module that has it.
        name: its name there.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __get__(self, instance: object, owner: type | None = None) -> type[BaseAlgorithm]:
        return getattr(import_module(self.module), self.name)  # type: ignore[no-any-return]


class AlgorithmSpec(Spec):
    """What all algorithms share."""

    stock: ClassVar[Imported]  # Stable-Baselines3's or sb3-contrib's own
    action_spaces: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Box,)
    logs_kl: ClassVar[bool] = False  # as train/approx_kl
    # What is no argument of SB3's algorithm under its own name; `arguments` says what becomes of it.
    not_arguments: ClassVar[frozenset[str]] = frozenset({"algorithm", "policy", "implementation"})

    algorithm: str
    policy: PolicySpec = Field(PolicySpec(), description="Options of the policy beside its torsos.")
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
        """Keyword arguments for the SB3 algorithm, those of `arguments` apart."""
        names = type(self).model_fields.keys() - self.not_arguments
        return {name: _plain(getattr(self, name)) for name in sorted(names)}

    @property
    def algorithm_class(self) -> type[BaseAlgorithm]:
        """The class that the agent is one of."""
        return self.stock

    def optimizer_defaults(self) -> dict[str, Any]:
        """What SB3 gives Adam in this algorithm."""
        return {"eps": 1e-8}

    def policy_options(self) -> dict[str, Any]:
        """`policy_kwargs` for SB3, torsos apart."""
        return self.policy.options(self.optimizer_defaults())

    def check(self, n_envs: int) -> None:
        """Refuse what cannot work in so many environments, by raising a `complaint`."""

    @abstractmethod
    def smallest_batches(self, n_envs: int) -> dict[str, int]:
        """Rows of the smallest batch that each role's network is trained on."""

    @abstractmethod
    def largest_batch(self, n_envs: int) -> int:
        """Rows of the largest batch that any network is trained on."""

    def arguments(self, action_space: spaces.Space[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments that are code and not data, made for the actions of the task."""
        return {}


class LeanSpec(Spec):
    """What algorithms have that `deltarl.fast` has too; stands before `AlgorithmSpec` among the bases."""

    stock: ClassVar[Imported]
    lean: ClassVar[Imported]

    implementation: Literal["deltarl", "sb3"] = Field(
        "deltarl", description="deltarl: lean training steps; sb3: Stable-Baselines3's own, with the same numbers."
    )

    @property
    def algorithm_class(self) -> type[BaseAlgorithm]:
        return self.lean if self.implementation == "deltarl" else self.stock


class WindowSpec(Spec):
    """What SB3 lets all algorithms but DDPG choose."""

    stats_window_size: Count = Field(100, description="Training episodes that the logged return is a mean of.")


class GSDESpec(Spec):
    """Generalised state-dependent exploration (Raffin et al., arXiv 2005.05719)."""

    use_sde: bool = Field(False, description="gSDE, state-dependent exploration, in the place of independent noise.")
    sde_sample_freq: Annotated[int, Field(ge=-1, description="-1: once a rollout.")] = -1


def _plain(value: Any) -> float | str | Callable[[float], float] | None:
    if isinstance(value, LinearScheduleSpec):
        from stable_baselines3.common.utils import LinearSchedule  # noqa: PLC0415

        return LinearSchedule(value.start, value.end, value.fraction)
    if isinstance(value, KLAdaptiveScheduleSpec):
        return value.start
    return value  # type: ignore[no-any-return]
