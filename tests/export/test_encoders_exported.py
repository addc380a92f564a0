"""Exported policies with encoders act as the policy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from deltarl.export import save_policy
from deltarl.export.policy import policy_module
from tests.encoders.matrix import SMALL, make
from tests.policies.matrix import SUBJECTS, actions, sample_observations

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
HISTORY = {**SMALL["history"], "positions": "rotary"}


@pytest.mark.parametrize(
    ("algorithm", "encoder"),
    [
        pytest.param(PPO, HISTORY, id="ppo-history", marks=pytest.mark.slow),
        pytest.param(SAC, SMALL["gru"], id="sac-gru"),
    ],
)
def test_a_policy_with_an_encoder_is_exported(algorithm: Any, encoder: Any, tmp_path: Path) -> None:
    model = make(BY_ALGORITHM[algorithm], encoder)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = sample_observations(model)
    with torch.no_grad():
        found = policy_module(model)(torch.as_tensor(batch))
    assert isinstance(found, torch.Tensor)
    assert np.allclose(found.numpy(), actions(model, batch), atol=1e-5)
    # It compares the file's actions with the policy's.
    assert save_policy(model, tmp_path / "policy.onnx") < 1e-4
