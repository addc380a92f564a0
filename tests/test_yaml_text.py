"""YAML is read back as it was written, and unsupported data is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deltarl import ConfigError, load_config
from deltarl.envs import EnvSpec
from deltarl.library import parse_override
from deltarl.reading import read_yaml
from deltarl.training.folder import load_spec, write_config
from deltarl.yaml_text import DEEPEST, CoreLoader, dump, is_same, plain_data

# Text that some version of YAML reads as another type.
LOOKS = (
    *("010", "0o17", "0x1F", "1e3", "1e-3", "1_000", "1__0", "-.5e3", ".inf", "-.INF", ".nan", "NaN", "1.", "+1"),
    *(
        "1:30",
        "2026-01-01",
        "on",
        "Yes",
        "n",
        "null",
        "~",
        "",
        " x",
        "true",
        "FALSE",
        "a: b",
        "#",
        "- x",
        "*a",
        "!t",
        "%",
    ),
    *("auto_1e-3", "\u2028", "\u00e9", "'", '"', "x\ny", "=", "<<", "?"),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(LOOKS) | st.text(max_size=6)
keys = st.integers() | st.sampled_from(LOOKS) | st.text(max_size=4)
data = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=4) | st.sampled_from(LOOKS), data, max_size=4))
def test_what_is_written_is_read_back_by_yaml_of_both_versions(value: dict[str, Any]) -> None:
    text = dump(value)
    for loader in (CoreLoader, yaml.SafeLoader):
        assert is_same(yaml.load(text, Loader=loader), value)


TABLE: dict[Any, Any] = {1: "010", "1": 1, "on": {"-3": -3, -3: "1e3"}, "x": [1.5, math.inf, None, "null", "1e-3"]}


def test_an_environments_options_survive_a_run_and_every_way_to_read_it(tmp_path: Path) -> None:
    base = load_config("quickstart")
    env = EnvSpec.model_validate(base.env.model_dump() | {"kwargs": {"table": TABLE, "pair": (0.5, 1)}})
    spec = base.model_copy(update={"env": env})
    write_config(spec, 0, tmp_path)
    for read in (load_spec(tmp_path), load_config(str(tmp_path / "config.yaml"))):
        assert is_same(read.env.kwargs, {"table": TABLE, "pair": [0.5, 1]})
        assert read == spec
    assert is_same(read_yaml(tmp_path / "config.yaml")["env"]["kwargs"]["table"], TABLE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=010", {"x": "010"}),
        ("x=00", {"x": "00"}),
        ("x=0", {"x": 0}),
        ("x=-0.50", {"x": -0.5}),
        ("x=1e3", {"x": 1000.0}),
        ("x='1e3'", {"x": "1e3"}),
        ("x=1_000", {"x": 1000}),
        ("x=1__0", {"x": "1__0"}),
        ("x=1_", {"x": "1_"}),
        ("x=1:30", {"x": "1:30"}),
        ("x={1: a, '1': b, -2: c}", {"x": {1: "a", "1": "b", -2: "c"}}),
        ("x.7=a", {"x": {7: "a"}}),
        ("x.07=a", {"x": {"07": "a"}}),
    ],
)
def test_an_override_is_read_as_it_is_documented(text: str, value: Any) -> None:
    assert is_same(load_config("quickstart", f"env.kwargs.{text}").env.kwargs, value)


def test_names_stay_text_whatever_they_look_like() -> None:
    assert parse_override("arms.1.torso={kind: delta}").data == {"arms": {"1": {"torso": {"kind": "delta"}}}}
    assert parse_override("arms={8: delta, on: mlp}").data == {"arms": {"8": "delta", "on": "mlp"}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("total_timesteps=010", "total_timesteps: expected a number; got '010'"),
        ("agent.gamma=0_9", "agent.gamma: expected a number; got '0_9'"),
        ("agent.learning_rate=003", "agent.learning_rate: expected a number; got '003'"),
        ("seeds=[1, 02]", "seeds: expected a number; got [1, '02']"),
        ("eval.every=true", "eval.every: expected a number; got True"),
        ("seeds=[true]", "seeds: expected a number; got [True]"),
        ("eval.video=on", "eval.video: expected true or false; got 'on'"),
        ("env.kwargs.x={1.5: a}", "command line: env.kwargs.x: 1.5: expected text or an integer as key"),
        ("env.kwargs.x={true: a}", "expected text or an integer as key"),
        ("env.kwargs.x={1: a, 1: b}", "duplicate key"),
        ('out="a\\ab"', "out: expected text without control characters"),
        ('env.kwargs.x="\\u202e"', "env.kwargs: expected text without control characters"),
    ],
)
def test_what_is_odd_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", override)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["1000", "1_000"])
def test_a_number_in_quotes_is_a_number_still(value: str) -> None:
    assert load_config("quickstart", f"total_timesteps='{value}'").total_timesteps == 1000


@pytest.mark.parametrize(
    "value", [{"x": object()}, {"x": {1.5: 1}}, {"x": {True: 1}}, {1: 2}, {"x": {None: 1}}, {"x": b""}]
)
def test_options_that_no_file_can_hold_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"kwargs"):
        EnvSpec(id="Hopper-v5", kind="locomotion", kwargs=value)


def test_nesting_has_an_end() -> None:
    deep: Any = 0
    for _ in range(DEEPEST):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 10 levels deep"):
        plain_data(deep)


@pytest.mark.parametrize("text", ["auto", "auto_0.1", "auto_1e-3", "auto_1.", "auto_.5", "auto_2E+1"])
def test_a_learned_coefficient_is_read_as_stable_baselines3_reads_it(text: str) -> None:
    assert load_config("half_cheetah_sac", f"agent.ent_coef={text}").agent.ent_coef == text


@pytest.mark.parametrize(
    "text", ["auto_", "auto_0", "auto_1e-999", "auto_1e999", "auto_-1", "auto_1_0", "auto_x", "Auto", "auto_nan"]
)
def test_an_invalid_learned_coefficient_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"agent\.ent_coef: "):
        load_config("half_cheetah_sac", f"agent.ent_coef={text}")
