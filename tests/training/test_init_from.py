"""Runs that start from a trained one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deltarl import ConfigError, RunResult, evaluate, load_config, load_run, train
from tests.quick import QUICK


def run(out: Path, *overrides: str) -> RunResult:
    spec = load_config("quickstart", *QUICK, f"out={out}", "device=cpu", "name=test", *overrides)
    return train(spec, console=Console(file=io.StringIO()))[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(tmp_path_factory.mktemp("trained"), "torso.width=16")


def test_it_starts_with_the_trained_policy_and_normaliser(trained: RunResult, tmp_path: Path) -> None:
    # With a learning rate that changes nothing, the final weights show the initial ones.
    second = run(tmp_path, "torso.width=16", f"init_from={trained.folder}", "agent.learning_rate=1e-30")
    before, after = (load_run(folder, device="cpu") for folder in (trained.folder, second.folder))
    for name, tensor in before.policy.state_dict().items():
        assert np.allclose(tensor, after.policy.state_dict()[name], atol=1e-6), name
    assert before.normalizer is not None
    assert after.normalizer is not None
    # It continues the count of the first run.
    assert after.normalizer.obs_rms.count == pytest.approx(before.normalizer.obs_rms.count + 64 + 2, abs=4)
    assert str(trained.folder) in (second.folder / "config.yaml").read_text()


def test_it_learns_on(trained: RunResult, tmp_path: Path) -> None:
    second = run(tmp_path, "torso.width=16", f"init_from={trained.folder}")
    assert (second.folder / "policy.safetensors").read_bytes() != (trained.folder / "policy.safetensors").read_bytes()
    assert evaluate(second.folder).returns


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("torso.width=32",),
            r"init_from: .*, ppo on Hopper-v5, has different networks: .*: expected shape .*, got \[",
        ),
        (("torso.width=16", "env=walker2d"), r"init_from: .*, ppo on Hopper-v5, has different networks: "),
        (("torso.width=16", "env.normalize.observations=false"), r"set env\.normalize\.observations=true"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_anything_is_written(
    overrides: tuple[str, ...], message: str, trained: RunResult, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run(tmp_path, f"init_from={trained.folder}", *overrides)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"init_from: .* contains no trained run, policy\.safetensors is missing"):
        run(tmp_path / "out", f"init_from={tmp_path}")
