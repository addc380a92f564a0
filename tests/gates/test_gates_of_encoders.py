"""Gates of encoders, by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from deltarl import GateCallback
from deltarl.gates import Batch, read_record
from deltarl.gates.encoders import MOST_TOKENS, encoders, measure_encoders
from deltarl.gates.figures import figures
from deltarl.gates.token_figure import panels_of
from tests.encoders.matrix import LENGTH, make
from tests.policies.matrix import SUBJECTS

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
SMALL = {"kind": "history", "width": 8, "heads": 2, "attention_heads": 2, "beta_init": 0.3}


def observations(rows: int) -> torch.Tensor:
    return torch.randn(rows, LENGTH, 10, generator=torch.Generator().manual_seed(0))


def test_beta_by_token_is_the_mean_over_rows_and_heads() -> None:
    policy = make(BY_ALGORITHM[PPO], SMALL).learn(64).policy
    batch = observations(6)
    record = measure_encoders(policy, Batch(batch))["encoder"]
    assert record.tokens == (LENGTH, 1)
    encoder: Any = encoders(policy)["encoder"]
    with torch.no_grad():
        state = encoder.stem(batch) + encoder.positions
        _, source = encoder.blocks[0].direction(state)
        beta = encoder.blocks[0].value_and_gate(source)[1]
    table = record.beta_by_token()
    assert table is not None
    assert torch.allclose(table[0], beta.squeeze(-1).mean((0, 2)))
    assert table[0].unique().numel() == LENGTH
    assert table[1].isnan().tolist() == [*[True] * (LENGTH - 1), False]


def test_large_batches_are_measured_on_some_of_their_rows() -> None:
    policy = make(BY_ALGORITHM[PPO], SMALL).policy
    [record] = measure_encoders(policy, Batch(observations(MOST_TOKENS))).values()
    attention, mlp = (block.beta for block in record.blocks)
    assert attention is not None
    assert mlp is not None
    assert len(attention) <= MOST_TOKENS + LENGTH
    assert len(mlp) == MOST_TOKENS  # one token each


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_the_record_has_every_encoder_with_its_tokens(algorithm: Any, tmp_path: Path) -> None:
    model = make(BY_ALGORITHM[algorithm], SMALL)
    model.learn(16, callback=GateCallback(every=16, rows=8, path=tmp_path / "gates.npz"))
    record = read_record(tmp_path / "gates.npz")
    for name in ["encoder"] if algorithm is PPO else ["actor_encoder", "critic_encoder"]:
        table = record[f"gates/{name}/beta_by_token"]
        assert table.shape == (len(record["steps"]), 2, LENGTH)
        assert table.dtype == np.float32
        assert record[f"gates/{name}/beta_mean"].shape == (len(record["steps"]), 2)
        assert np.allclose(table[0][np.isfinite(table[0])], 0.3, atol=0.05)
        assert record[f"gates_probe/{name}/beta_counts"].ndim == 4


@pytest.mark.parametrize("encoder", ["gru", {**SMALL, "update": "residual", "heads": None, "beta_init": None}])
def test_an_encoder_without_gates_has_no_beta(encoder: Any) -> None:
    policy = make(BY_ALGORITHM[PPO], encoder).policy
    found = measure_encoders(policy, Batch(observations(4)))
    assert all(record.beta_by_token() is None for record in found.values())
    assert len(found) == (encoder != "gru")


def test_measuring_changes_nothing() -> None:
    policy = make(BY_ALGORITHM[PPO], SMALL).policy
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    state = torch.get_rng_state()
    measure_encoders(policy, Batch(observations(4)))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert not any(module._forward_hooks for module in policy.modules())


def test_the_figure_shows_the_blocks_that_read_several_tokens_newest_first(tmp_path: Path) -> None:
    steps = np.array([10, 20])
    table = np.array([[[0.5, 1.0, 1.5], [np.nan, np.nan, 2.0]], [[0.1, 0.2, 0.3], [np.nan, np.nan, 2.0]]], np.float32)
    record = {"steps": steps, "gates/encoder/beta_mean": table[..., -1], "gates/encoder/beta_by_token": table}
    assert panels_of(record) == [("encoder", 0)]
    figure = figures(record)["tokens"](record)
    figure.savefig(tmp_path / "tokens.png")
    panel, _ = figure.axes
    [image] = panel.collections
    assert np.allclose(image.get_array(), table[:, 0, ::-1].T)
    assert "tokens" not in figures({"steps": steps, "gates/policy/beta_mean": table[..., -1]})
