"""Loggers as data."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from deltarl.errors import ConfigError
from deltarl.recording.spec import DEFAULT_LOGGING, LOGGERS, Logging, MlflowSpec, WandbSpec, check_installed

ADAPTER: TypeAdapter[Any] = TypeAdapter(Logging)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["tensorboard", "csv", "wandb", "mlflow"], ["tensorboard", "csv", "wandb", "mlflow"]),
        ("wandb", ["wandb"]),
        ({"sink": "mlflow", "experiment": "hop"}, ["mlflow"]),
        (["csv", {"sink": "wandb", "project": "hop"}], ["csv", "wandb"]),
        (None, []),
        ([], []),
        (DEFAULT_LOGGING, ["tensorboard", "csv"]),
    ],
)
def test_loggers_are_names_or_mappings(given: Any, names: list[str]) -> None:
    loggers = ADAPTER.validate_python(given)
    assert [each.sink for each in loggers] == names
    assert ADAPTER.validate_json(ADAPTER.dump_json(loggers)) == loggers


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["wandbb"], "unknown logger 'wandbb'; did you mean 'wandb'?"),
        (["x"], "unknown logger 'x'; known are tensorboard, csv, wandb, mlflow"),
        ([{"sink": "ml_flow"}], "unknown logger 'ml_flow'; did you mean 'mlflow'?"),
        (["csv", "csv"], "'csv' is given twice"),
        ([{"project": "hop"}], "expected {sink: NAME}"),
        ([3], "expected the name of a logger, or a mapping with its sink; got 3"),
        ([{"sink": "wandb", "projct": "hop"}], "unknown key; did you mean 'project'?"),
        ([{"sink": "mlflow", "tracking_uri": "sqlite:////a"}], "unknown key; known are sink, experiment"),
        ([{"sink": "wandb", "tags": ["x" * 65]}], "at most 64 characters"),
    ],
)
def test_mistakes_are_named(given: Any, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        ADAPTER.validate_python(given)
    assert words in str(error.value)


@pytest.mark.parametrize("spec", [WandbSpec(), MlflowSpec()])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    spec: WandbSpec | MlflowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_installed([*DEFAULT_LOGGING, spec])
    monkeypatch.setitem(sys.modules, spec.package, None)
    with pytest.raises(ConfigError, match=rf"^logging: {spec.sink} needs .*: pip install 'deltarl\[{spec.sink}\]'$"):
        check_installed([spec])
    check_installed(DEFAULT_LOGGING)


def test_every_logger_is_known_by_its_name() -> None:
    assert list(LOGGERS) == ["tensorboard", "csv", "wandb", "mlflow"]
