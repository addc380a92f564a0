"""Saving and loading policies with torsos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import CrossQ, RecurrentPPO

from deltarl.torsos.layers import BatchRenorm
from tests.policies.checks import assert_loads_the_same, every_algorithm, in_turn, same_weights, snapshot
from tests.policies.matrix import KINDS, SUBJECTS, Subject, make, sample_observations

LOADED: dict[str, dict[str, Any]] = {
    "roles": {"torso": KINDS["residual"], "critic_torso": {"width": 32, "depth": 3}},
    "channels": {"torso": {"kind": "delta", "width": 16, "channels": 4, "beta_init": 0.4}},
    "mlp actor": {"torso": "plain", "actor_torso": {"kind": "mlp", "net_arch": [5], "activation": "tanh"}},
}


@pytest.mark.parametrize(("subject", "option"), in_turn(LOADED))
def test_torsos_of_other_forms_survive_saving(subject: Subject, option: str, tmp_path: Path) -> None:
    torsos = dict(LOADED[option])
    if not subject.has_actor and "actor_torso" in torsos:
        torsos["critic_torso"] = torsos.pop("actor_torso")
    assert_loads_the_same(make(subject, **torsos).learn(32), subject, tmp_path)


@pytest.mark.parametrize(
    ("subject", "shared"),
    [
        # All other tests load policies with Stable-Baselines3's default for sharing.
        pytest.param(subject, shared, id=f"{shared}-{subject.name}", marks=pytest.mark.slow if usual else [])
        for subject in SUBJECTS
        if subject.has_actor
        for shared in (True, False)
        for usual in [shared is subject.on_policy]
    ],
)
def test_the_sharing_of_features_survives_saving(subject: Subject, shared: bool, tmp_path: Path) -> None:
    observation = list(subject.observations)[-1]  # images, whose features are learned
    model = make(subject, observation, torso=KINDS["delta"], share_features_extractor=shared)
    before = snapshot(model.policy)
    model.learn(32)
    assert {name for name, tensor in snapshot(model.policy).items() if torch.equal(tensor, before[name])} == set()
    assert_loads_the_same(model, subject, tmp_path)
    assert type(model.policy).load(tmp_path / "policy.pt", device="cpu").share_features_extractor is shared


def test_the_momentum_of_crossq_survives_saving(tmp_path: Path) -> None:
    [subject] = (subject for subject in SUBJECTS if subject.algorithm is CrossQ)
    model = make(subject, torso=KINDS["delta"], batch_norm_momentum=0.3, renorm_warmup_steps=7).learn(32)
    assert_loads_the_same(model, subject, tmp_path)
    alone = type(model.policy).load(tmp_path / "policy.pt", device="cpu")
    norms = [module for module in alone.modules() if isinstance(module, BatchRenorm)]
    assert norms
    assert {(norm.momentum, norm.warmup_steps) for norm in norms} == {(0.3, 7)}


@pytest.mark.parametrize(
    "lstm",
    [
        {"lstm_hidden_size": 7, "n_lstm_layers": 3},
        {"shared_lstm": True, "enable_critic_lstm": False},
        {"enable_critic_lstm": False},
        {"lstm_kwargs": {"bias": False}},
    ],
    ids=["sizes", "shared", "no critic LSTM", "lstm_kwargs"],
)
def test_the_form_of_an_lstm_survives_saving(lstm: dict[str, Any], tmp_path: Path) -> None:
    [subject] = (subject for subject in SUBJECTS if subject.algorithm is RecurrentPPO)
    model = make(subject, torso=KINDS["delta"], **lstm).learn(32)
    assert_loads_the_same(model, subject, tmp_path)
    batch = sample_observations(model)
    state = model.predict(batch, deterministic=True)[1]
    alone = type(model.policy).load(tmp_path / "policy.pt", device="cpu")
    again, expected = (policy.predict(batch, state, deterministic=True)[0] for policy in (alone, model))
    assert np.array_equal(again, expected)


@every_algorithm
def test_parameters_move_from_model_to_model(subject: Subject) -> None:
    trained, fresh = (make(subject, torso=KINDS["delta"], options={"seed": seed}) for seed in (0, 1))
    trained.learn(32)
    assert not same_weights(fresh.policy, trained.policy)
    fresh.set_parameters(trained.get_parameters())
    assert same_weights(fresh.policy, trained.policy)
    fresh.learn(32)
