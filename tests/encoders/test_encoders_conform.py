"""Requirements on every policy with an encoder, for all algorithms that take Box observations."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from torch import Tensor, nn

from deltarl import fast
from deltarl.encoders import Encoder
from deltarl.fast.lean import training_step
from deltarl.gates.encoders import encoders
from tests.encoders.matrix import SMALL, Case, cases, make
from tests.policies.matrix import SUBJECTS, Subject, actions, sample_observations

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}


def of(policy: nn.Module) -> dict[str, Encoder]:
    """All encoders of a policy by path, target networks included; one that is shared is listed once."""
    return {name: module for name, module in policy.named_modules() if isinstance(module, Encoder)}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@dataclass(frozen=True)
class Trained:
    """A trained model of a case, with the weights of its encoders from before training."""

    case: Case
    model: Any
    before: dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module", params=cases())
def trained(request: pytest.FixtureRequest) -> Trained:
    case = request.param
    model = make(case.subject, SMALL[case.kind])
    before = {name: weights(encoder) for name, encoder in of(model.policy).items()}
    return Trained(case, model.learn(32), before)


def test_training_reaches_every_parameter_of_every_encoder(trained: Trained) -> None:
    found = of(trained.model.policy)
    assert found
    for path, encoder in found.items():
        for name, tensor in encoder.named_parameters():
            assert tensor.isfinite().all()
            assert not torch.equal(tensor, trained.before[path][name]), f"{path}.{name}"


def test_a_reloaded_model_and_a_reloaded_policy_act_the_same(trained: Trained, tmp_path: Path) -> None:
    model = trained.model
    batch = sample_observations(model)
    model.save(tmp_path / "model.zip")
    again = type(model).load(tmp_path / "model.zip", device="cpu")
    assert equal(again.policy, model.policy)
    model.policy.save(tmp_path / "policy.zip")
    policy = type(model.policy).load(tmp_path / "policy.zip", device="cpu")
    assert policy.encoder == model.policy.encoder
    for each in (again, policy):
        assert np.array_equal(actions(each, batch), actions(model, batch))


@pytest.mark.parametrize("subject", SUBJECTS, ids=attrgetter("name"))
def test_the_networks_of_an_algorithm_have_encoders_as_stable_baselines3_shares_them(subject: Subject) -> None:
    policy = make(subject, SMALL["gru"]).policy
    if subject.on_policy:
        assert list(encoders(policy)) == ["encoder"]
    elif subject.discrete:
        assert list(encoders(policy)) == ["encoder"]
        assert len(of(policy)) == 2  # the target's
    else:
        assert list(encoders(policy)) == ["actor_encoder", "critic_encoder"]
    for name in ("critic", "q_net", "quantile_net", "actor"):
        if (target := getattr(policy, f"{name}_target", None)) is not None:
            own = getattr(policy, name).features_extractor
            assert target.features_extractor is not own
            assert equal(target.features_extractor, own)


@pytest.mark.parametrize(
    "algorithm",
    [PPO, SAC, pytest.param(MaskablePPO, marks=pytest.mark.slow), pytest.param(CrossQ, marks=pytest.mark.slow)],
)
def test_sharing_is_kept_by_policy_load(algorithm: Any, tmp_path: Path) -> None:
    """With the value that is not the algorithm's default."""
    subject = BY_ALGORITHM[algorithm]
    share = not subject.on_policy
    policy = make(subject, SMALL["gru"], share_features_extractor=share).policy
    names = ["encoder"] if share else ["policy_encoder", "value_encoder"]
    assert list(encoders(policy)) == names
    policy.save(tmp_path / "policy.zip")
    assert list(encoders(type(policy).load(tmp_path / "policy.zip", device="cpu"))) == names


@pytest.mark.parametrize("lean", [fast.SAC, fast.PPO, pytest.param(fast.A2C, marks=pytest.mark.slow)])
def test_deltarls_algorithms_train_an_encoder_as_stable_baselines3s_do(lean: Any) -> None:
    """They leave the step to Stable-Baselines3, and say so."""
    stock = {fast.SAC: SAC, fast.PPO: PPO, fast.A2C: A2C}[lean]
    subject = BY_ALGORITHM[stock]
    models = [make(subject, SMALL["gru"], algorithm=each).learn(32) for each in (lean, stock)]
    assert training_step(models[0])["implementation"] == "sb3"
    assert equal(models[0].policy, models[1].policy)


@pytest.mark.parametrize("algorithm", [PPO, SAC, DQN])
def test_gates_norms_and_biases_of_an_encoder_do_not_decay(algorithm: Any) -> None:
    decay = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
    policy = make(BY_ALGORITHM[algorithm], SMALL["gru"], **decay).policy
    for encoder in encoders(policy).values():
        decays = {
            id(parameter): group["weight_decay"]
            for module in policy.modules()
            if (optimizer := getattr(module, "optimizer", None)) is not None
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for name, parameter in encoder.named_parameters():
            assert decays[id(parameter)] == (0.1 if "weight" in name else 0.0), name


@pytest.mark.parametrize(("length", "episode"), [(1, 10), (6, 3)])
def test_histories_of_one_observation_and_longer_than_an_episode_are_read(length: int, episode: int) -> None:
    for algorithm in (A2C, RecurrentPPO):
        model = make(BY_ALGORITHM[algorithm], SMALL["gru"], length, episode).learn(16)
        assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
