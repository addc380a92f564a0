"""Trials with given values."""

from __future__ import annotations

import io
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from deltarl import yaml_text
from deltarl.library import load_config
from deltarl.search import Search, load_search, tune
from deltarl.search.given import OWN, own_values
from deltarl.search.report import Row

SPACE = """
space:
  agent.learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  agent.gamma: {type: float, low: 0.9, high: 0.999, log_of_complement: true}
  agent.n_epochs: {type: int, low: 1, high: 4}
  torso.head_width: {type: choice, values: [4, 16], when: {torso.kind: delta}}
sampler: {name: random, seed: 1}
pruner: median
"""
SMALL = (
    "env=inverted_pendulum",
    "env.n_envs=1",
    "total_timesteps=64",
    "agent.n_steps=32",
    "agent.batch_size=32",
    "agent.n_epochs=1",
    "agent.learning_rate=3.0e-4",
    "torso.width=16",
    "torso.depth=1",
    "eval={every: 32, episodes: 1}",
    "gates.every=null",
    "device=cpu",
    "name=small",
)
GIVEN = {"agent.learning_rate": 1e-4, "agent.gamma": 0.95, "agent.n_epochs": 2, "torso.head_width": 4}


def search_in(folder: Path, *changes: str) -> Search:
    """A search of a config with these values; overrides of the search itself would fix them."""
    (folder / "space.yaml").write_text(SPACE)
    run = load_config("quickstart", *SMALL, *changes)
    (folder / "config.yaml").write_text(yaml_text.dump(run.model_dump(mode="json")))
    return load_search(str(folder / "config.yaml"), str(folder / "space.yaml"), f"out={folder}", "name=small")


def rows(search: Search, **options: object) -> tuple[Row, ...]:
    console = Console(file=io.StringIO())
    return tune(search, console, ["deltarl", "tune"], jobs=1, **options).found.rows  # type: ignore[arg-type]


def test_the_config_has_values_of_its_own(tmp_path: Path) -> None:
    assert own_values(search_in(tmp_path)) == {
        "agent.learning_rate": 3e-4,
        "agent.gamma": 0.99,
        "agent.n_epochs": 1,
        "torso.head_width": 16,
    }


def test_options_that_are_not_searched_are_left_out(tmp_path: Path) -> None:
    assert "torso.head_width" not in (own_values(search_in(tmp_path, "torso=residual")) or {})


@pytest.mark.parametrize(
    "override",
    ["agent.learning_rate=1.0e-5", "agent.gamma=0.9999", "agent.n_epochs=5", "torso.head_width=8"],
)
def test_values_outside_the_space_are_none_of_a_trial(override: str, tmp_path: Path) -> None:
    assert own_values(search_in(tmp_path, override)) is None


def test_given_values_are_trained_once_as_they_are_and_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda _: True)
    search = search_in(tmp_path)
    given = {OWN: own_values(search), "elsewhere": GIVEN}
    first = rows(search, trials=2, given=given)
    assert [(row.given, row.state, row.values) for row in first] == [
        (OWN, "complete", own_values(search)),
        ("elsewhere", "complete", pytest.approx(GIVEN)),
    ]
    again = rows(search, trials=3, given=given)
    assert again[:2] == first
    assert (again[2].given, again[2].state) == ("", "pruned")


def test_what_is_missing_is_drawn_and_what_is_not_searched_is_ignored(tmp_path: Path) -> None:
    [row] = rows(
        search_in(tmp_path, "torso=residual"), trials=1, given={"x": {"agent.n_epochs": 3, "torso.head_width": 4}}
    )
    assert row.values["agent.n_epochs"] == 3
    assert row.values.keys() == {"agent.learning_rate", "agent.gamma", "agent.n_epochs"}


def test_a_value_that_the_space_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^0\.5 is not a number from 0\.9 to 0\.999$"):
        rows(search_in(tmp_path), trials=1, given={"x": {"agent.gamma": 0.5}})
