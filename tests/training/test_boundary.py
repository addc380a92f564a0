"""Where a run is stored and restored: what is restored is what goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl.fast import SAC
from deltarl.training.boundary import Boundary, Origin
from deltarl.training.checkpoint import Store, newest
from deltarl.training.records import make_logger
from deltarl.training.signals import StopRequest


def learned(folder: Path, steps: int, origin: Origin) -> Any:
    model = SAC("MlpPolicy", "InvertedPendulum-v5", policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")
    model.set_logger(make_logger(folder))
    Boundary(model, folder, Store(folder, keep=2), every=None, origin=origin, stop=StopRequest()).learn(steps, None)
    model.logger.close()
    return model


def test_a_replay_buffer_of_another_kind_is_the_one_that_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first rollout on, for which Stable-Baselines3 has looked the buffer up before it is restored."""
    with monkeypatch.context() as before:
        before.setattr("deltarl.fast.algorithm.shared", lambda buffer: buffer)
        learned(tmp_path, 30, Origin())
    buffer = learned(tmp_path, 40, Origin(newest(tmp_path))).replay_buffer
    assert type(buffer) is ReplayBuffer
    assert buffer.pos == 40
