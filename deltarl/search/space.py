"""What is searched: options of a config by their paths, each with the values that a trial may give it."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from deltarl.errors import Spec, complaint

if TYPE_CHECKING:
    from optuna import Trial

Value = Any  # of an option: a number, a text, null, or a mapping such as a schedule


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


# The values of other options by path, one or several for each.
Condition = dict[str, Annotated[tuple[Any, ...], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema({})]]


class _Parameter(Spec, ABC):
    """Base of all parameters."""

    when: Condition = Field(
        {},
        description="Searched only if other options have these values, such as {torso.kind: delta}; a list allows "
        "several. The other options are parameters themselves, or the config's.",
    )

    def label(self, path: str) -> str:
        """The name under which Optuna knows the parameter."""
        return path

    @abstractmethod
    def draw(self, trial: Trial, path: str) -> Value:
        """The option's value in a trial; one that was drawn before is not drawn again."""

    @abstractmethod
    def stored(self, value: Value) -> bool | int | float | str | None:
        """A value as Optuna stores it, under the parameter's label.

        Raises:
            ValueError: if it is not one of the parameter's values.
        """

    @abstractmethod
    def examples(self) -> tuple[Value, ...]:
        """Values to check configs with: all of a choice, the ends of a range."""

    @abstractmethod
    def told(self) -> str:
        """A short description of the values."""


class ChoiceSpec(_Parameter):
    """One of several values; in a file, a list is short for it."""

    type: Literal["choice"] = "choice"
    values: tuple[Any, ...] = Field(description="Values, without an order.")

    @model_validator(mode="after")
    def _values_are_distinct(self) -> ChoiceSpec:
        if not self.values:
            raise complaint("expected at least one value to choose from", key="values")
        categories = [(type(each), each) for each in map(_category, self.values)]
        if len(set(categories)) < len(categories):
            raise complaint(f"duplicate value in {list(self.values)}", key="values")
        return self

    def draw(self, trial: Trial, path: str) -> Value:
        categories = [_category(each) for each in self.values]
        drawn = trial.suggest_categorical(self.label(path), categories)
        return next(value for value, each in zip(self.values, categories, strict=True) if _is_same(each, drawn))

    def stored(self, value: Value) -> bool | int | float | str | None:
        if not any(_is_same(each, value) for each in self.values):
            raise ValueError(f"{value} is not among {self.told()}")
        return _category(value)

    def examples(self) -> tuple[Value, ...]:
        return self.values

    def told(self) -> str:
        return ", ".join(str(_category(each)) for each in self.values)


def _category(value: Value) -> bool | int | float | str | None:
    """A value as Optuna stores it: mappings and lists as JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True)


class FloatSpec(_Parameter):
    """A real number within a range."""

    type: Literal["float"]
    low: float
    high: float = Field(description="Inclusive.")
    step: Annotated[float, Field(gt=0)] | None = Field(None, description="Only low, low + step, ...")
    log: bool = Field(False, description="Draw the logarithm uniformly.")
    log_of_complement: bool = Field(
        False, description="Draw the logarithm of 1 - value uniformly, as for discount factors close to 1."
    )

    @model_validator(mode="after")
    def _range_can_be_drawn_from(self) -> FloatSpec:
        _check_range(self.low, self.high, self.step, self.log)
        if self.log_of_complement and (self.log or self.step is not None):
            raise complaint("log_of_complement goes with neither log nor step", key="log_of_complement")
        if self.log_of_complement and self.high >= 1:
            raise complaint(f"log_of_complement needs a range below 1; got {self.high:g}", key="high")
        return self

    def label(self, path: str) -> str:
        return f"1 - {path}" if self.log_of_complement else path

    def draw(self, trial: Trial, path: str) -> Value:
        if self.log_of_complement:
            return 1 - trial.suggest_float(self.label(path), 1 - self.high, 1 - self.low, log=True)
        return trial.suggest_float(self.label(path), self.low, self.high, log=self.log, step=self.step)

    def stored(self, value: Value) -> bool | int | float | str | None:
        number = _within(value, self.low, self.high, float)
        return 1 - number if self.log_of_complement else number

    def examples(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def told(self) -> str:
        text = f"{self.low:g} to {self.high:g}"
        if self.step is not None:
            text += f" by {self.step:g}"
        return text + (", log" if self.log else ", log of 1 - value" if self.log_of_complement else "")


class IntSpec(_Parameter):
    """An integer within a range."""

    type: Literal["int"]
    low: int
    high: int = Field(description="Inclusive.")
    step: Annotated[int, Field(ge=1)] | None = Field(None, description="Only low, low + step, ...")
    log: bool = Field(False, description="Draw the logarithm uniformly.")

    @model_validator(mode="after")
    def _range_can_be_drawn_from(self) -> IntSpec:
        _check_range(self.low, self.high, self.step, self.log)
        return self

    def draw(self, trial: Trial, path: str) -> Value:
        return trial.suggest_int(self.label(path), self.low, self.high, log=self.log, step=self.step or 1)

    def stored(self, value: Value) -> bool | int | float | str | None:
        return _within(value, self.low, self.high, int)

    def examples(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def told(self) -> str:
        text = f"{self.low} to {self.high}"
        return text + (f" by {self.step}" if self.step else ", log" if self.log else "")


def _check_range(low: float, high: float, step: float | None, log: bool) -> None:
    if not low < high:
        raise complaint(f"empty range: expected low below high; got {low:g} to {high:g}", key="low")
    if log and low <= 0:
        raise complaint(f"a log range cannot include 0 or less; got {low:g} to {high:g}", key="low")
    if log and step is not None:
        raise complaint("log and step exclude each other", key="step")
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-6):
        raise complaint(f"{low:g} to {high:g} is not a multiple of {step:g}", key="step")


def _within(value: Value, low: float, high: float, kind: type[int] | type[float]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | kind) or not low <= value <= high:
        raise ValueError(f"{value} is not a number from {low:g} to {high:g}")
    return kind(value)


def _as_choice(value: Any) -> Any:
    return {"type": "choice", "values": value} if isinstance(value, list | tuple) else value


Parameter = Annotated[
    Annotated[ChoiceSpec | FloatSpec | IntSpec, Field(discriminator="type")], BeforeValidator(_as_choice)
]
Space = dict[str, Parameter]


def is_met(condition: Condition, values: Mapping[str, Value]) -> bool:
    """Whether options have the values of a condition; an option without a value has none of them."""
    return all(
        path in values and any(_is_same(values[path], each) for each in wanted) for path, wanted in condition.items()
    )


def _is_same(one: Value, other: Value) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
