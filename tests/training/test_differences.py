"""The differences between two configs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from deltarl import RunSpec, load_config
from deltarl.training.differences import differences, fixed_differences


def spec(kwargs: dict[str, Any]) -> RunSpec:
    content = load_config("quickstart").model_dump()
    content["env"]["kwargs"] = kwargs
    return RunSpec.model_validate(content)


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"a": True}, {"a": 1}, "a"),
        ({"a": 1}, {"a": 1.0}, "a"),
        ({"a": [1]}, {"a": [True]}, "a"),
        ({}, {"a": None}, "a"),
        ({}, {"a": {}}, "a"),
        ({"a": {}}, {"a": None}, "a"),
        ({"a": {1: 5}}, {"a": {"1": 5}}, "a.[1]"),
        ({"a.b": 1}, {"a": {"b": 1}}, "'a.b'"),
    ],
    ids=str,
)
def test_a_change_of_an_environments_options_is_seen(one: dict[str, Any], other: dict[str, Any], key: str) -> None:
    assert f"env.kwargs.{key}" in differences(spec(one), spec(other))
    assert fixed_differences(spec(one), spec(other)) != []


@pytest.mark.parametrize("kwargs", [{"a": math.nan}, {"a": [math.nan]}, {"a": {"b": -math.inf}}, {}], ids=str)
def test_an_option_is_the_same_as_itself(kwargs: dict[str, Any]) -> None:
    assert fixed_differences(spec(kwargs), spec(dict(kwargs))) == []
