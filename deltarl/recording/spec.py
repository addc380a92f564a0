"""The loggers of a run as data. Nothing slow is imported, because configs are checked without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from deltarl.errors import ConfigError, Spec, complaint, suggestion


class LoggerSpec(Spec):
    """A logger.

    Attributes:
        title: what messages call it.
        package: the module that it needs, installed by the extra of the same name; empty if it needs none.
    """

    title: ClassVar[str] = ""
    package: ClassVar[str] = ""

    sink: str


class TensorBoardSpec(LoggerSpec):
    """TensorBoard's event files."""

    title: ClassVar[str] = "TensorBoard"

    sink: Literal["tensorboard"] = "tensorboard"


class TableSpec(LoggerSpec):
    """The table progress.csv."""

    title: ClassVar[str] = "progress.csv"

    sink: Literal["csv"] = "csv"


class WandbSpec(LoggerSpec):
    """A run of Weights & Biases for each seed."""

    title: ClassVar[str] = "Weights & Biases"
    package: ClassVar[str] = "wandb"

    sink: Literal["wandb"] = "wandb"
    project: str | None = Field(None, min_length=1, description="Project; null for WANDB_PROJECT, or else deltarl.")
    entity: str | None = Field(
        None, min_length=1, description="User or team; null for WANDB_ENTITY, or else the default of the account."
    )
    group: str | None = Field(None, min_length=1, description="Group of the seeds; null for the run's name.")
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), description="Tags, besides task and algorithm."
    )


class MlflowSpec(LoggerSpec):
    """A run of MLflow for each seed, on the server `MLFLOW_TRACKING_URI` or in a file mlflow.db next to the seeds."""

    # A config, which may be a stranger's, does not name the server or the file to write to.
    title: ClassVar[str] = "MLflow"
    package: ClassVar[str] = "mlflow"

    sink: Literal["mlflow"] = "mlflow"
    experiment: str | None = Field(
        None, min_length=1, description="Experiment; null for MLFLOW_EXPERIMENT_NAME, or else the run's name."
    )


LOGGERS: dict[str, type[LoggerSpec]] = {
    kind.model_fields["sink"].default: kind for kind in (TensorBoardSpec, TableSpec, WandbSpec, MlflowSpec)
}


def _listed(given: Any) -> Any:
    """A logger may be a bare name, and a single one need not be in a list; null is none."""
    loggers = () if given is None else given if isinstance(given, list | tuple) else (given,)
    return tuple(_with_name(each) for each in loggers)


def _with_name(logger: Any) -> Any:
    if isinstance(logger, LoggerSpec):
        return logger
    options = {"sink": logger} if isinstance(logger, str) else logger
    if not isinstance(options, Mapping):
        raise complaint(f"expected the name of a logger, or a mapping with its sink; got {logger!r}")
    if "sink" not in options:
        raise complaint(f"expected {{sink: NAME}}, and options; known are {', '.join(LOGGERS)}; got {dict(options)!r}")
    if options["sink"] not in LOGGERS:
        raise complaint(f"unknown logger '{options['sink']}'{suggestion(str(options['sink']), LOGGERS)}")
    return options


def _distinct(loggers: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [each.sink for each in loggers]
    for name in names:
        if names.count(name) > 1:
            raise complaint(f"'{name}' is given twice")
    return loggers


AnyLoggerSpec = Annotated[TensorBoardSpec | TableSpec | WandbSpec | MlflowSpec, Field(discriminator="sink")]
Logging = Annotated[tuple[AnyLoggerSpec, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
DEFAULT_LOGGING: tuple[AnyLoggerSpec, ...] = (TensorBoardSpec(), TableSpec())


def check_installed(loggers: Iterable[LoggerSpec]) -> None:
    """Check that the packages of these loggers are installed; nothing is imported.

    Raises:
        ConfigError: naming the command that installs what is missing.
    """
    for each in loggers:
        # A folder named wandb, which W&B itself makes, is found too, but has no code.
        if each.package and ((found := find_spec(each.package)) is None or found.origin is None):
            raise ConfigError(
                f"logging: {each.sink} needs the package of {each.title}: pip install 'deltarl[{each.package}]'"
            )
