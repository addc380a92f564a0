"""`train --resume` finds the run of its config under the names that versions gave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deltarl import ConfigError, RunResult, train
from tests.training.small import quiet, spec_of


def test_the_same_call_is_right_the_first_time_and_after_every_interruption(
    interrupted: Path, whole: RunResult, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, "checkpoint.keep=9").model_copy(update={"seeds": (0, 1)})
    first = train(spec, quiet(), jobs=1, resume=True)
    assert [(result.seed, result.resumes) for result in first] == [(0, 1), (1, 0)]
    assert first[0].final_return_mean == whole.final_return_mean
    assert train(spec, quiet(), resume=True) == first
    assert interrupted.exists()


def test_the_same_call_with_another_config_is_refused(interrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"these keys differ: agent.gamma \(0.99 in the run, 0.5 given\)"):
        train(spec_of(tmp_path, "agent.gamma=0.5"), quiet(), resume=True)
    assert interrupted.exists()


def test_a_run_of_a_longer_name_is_found_again(interrupted: Path, tmp_path: Path) -> None:
    # Another config had the name, so this run's folder includes its digest; its total was increased later.
    train(spec_of(tmp_path, "agent.gamma=0.5"), quiet())
    [again] = train(spec_of(tmp_path, "agent.gamma=0.5", "total_timesteps=160"), quiet(), resume=True)
    assert again.folder.parent.name.startswith("run-")
    assert (again.resumes, again.steps) == (1, 160)
    assert interrupted.exists()


def test_a_run_whose_name_an_older_version_made_of_its_overrides_is_found_again(
    interrupted: Path, tmp_path: Path
) -> None:
    interrupted.parent.rename(tmp_path / "run+agent.n_steps=16-0123abcd")
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run+agent.n_steps=16-0123abcd", 1)


@pytest.mark.parametrize("name", ["run-other", "run+other"])
def test_a_run_of_the_same_config_with_another_name_is_left_alone(name: str, interrupted: Path, tmp_path: Path) -> None:
    interrupted.parent.rename(tmp_path / name)
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run", 0)


def test_a_run_whose_name_begins_the_same_does_not_interfere(interrupted: Path, tmp_path: Path) -> None:
    interrupted.parent.rename(tmp_path / "run-other")
    [result] = train(spec_of(tmp_path, "agent.gamma=0.5"), quiet(), resume=True)
    assert (result.folder.parent.name, result.resumes) == ("run", 0)
