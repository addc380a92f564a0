"""Critics and target networks with torsos."""

from __future__ import annotations

import pytest
import torch
from sb3_contrib import CrossQ
from stable_baselines3 import DDPG
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from deltarl.torsos import Torso
from tests.policies.checks import critics_of_actions, name_of, same_weights, snapshot
from tests.policies.matrix import (
    CONTINUOUS_CRITICS,
    KINDS,
    SUBJECTS,
    Case,
    Subject,
    make,
    parameters,
    sample_observations,
)


@pytest.mark.parametrize("case", parameters(CONTINUOUS_CRITICS, where=lambda case: case.kind != "mlp"))
def test_q_is_not_linear_in_the_action(case: Case) -> None:
    model = make(case.subject, case.observation, torso=case.torso)
    model.policy.set_training_mode(False)
    batch, _ = model.policy.obs_to_tensor(sample_observations(model, 1))
    size = model.action_space.shape[0]
    with torch.no_grad():
        low, middle, high = (
            torch.as_tensor(model.critic(batch, torch.full((1, size), a))[0]) for a in (-1.0, 0.0, 1.0)
        )
    assert not torch.allclose(low + high, 2 * middle, atol=1e-4)


@critics_of_actions
def test_critics_differ_from_each_other(subject: Subject) -> None:
    model = make(subject, torso=KINDS["delta"])
    stems = [next(child for child in network if isinstance(child, Torso)).stem for network in model.critic.q_networks]
    assert len(stems) == (1 if subject.algorithm is DDPG else 2)
    assert len({tuple(stem.weight.flatten().tolist()) for stem in stems}) == len(stems)


@pytest.mark.parametrize(
    "subject",
    [subject for subject in CONTINUOUS_CRITICS if subject.algorithm is not DDPG],  # which has one by design
    ids=name_of,
)
def test_the_number_of_critics_can_be_chosen(subject: Subject) -> None:
    model = make(subject, torso=KINDS["delta"], n_critics=3)
    before = snapshot(model.critic)
    model.learn(32)
    assert len(model.critic.q_networks) == 3
    assert {name for name, tensor in snapshot(model.critic).items() if torch.equal(tensor, before[name])} == set()


def networks_and_targets(model: BaseAlgorithm) -> list[tuple[nn.Module, nn.Module]]:
    names = [name for name, _ in model.policy.named_children() if name.endswith("_target")]
    return [(getattr(model.policy, name.removesuffix("_target")), getattr(model.policy, name)) for name in names]


@pytest.mark.parametrize(
    "case",
    parameters(
        [subject for subject in SUBJECTS if not subject.on_policy and subject.algorithm is not CrossQ],
        where=lambda case: case.kind not in {"mlp", "simbav2"},  # they have no final norm
    ),
)
def test_targets_start_equal_and_follow_weights_and_running_statistics(case: Case) -> None:
    q_learning = case.subject.discrete
    options = {"tau": 1.0, **({"target_update_interval": 1} if q_learning else {})}
    model = make(case.subject, case.observation, torso={**case.torso, "norm": "batch_renorm"}, options=options)
    pairs = networks_and_targets(model)
    assert pairs
    assert all(same_weights(network, target) for network, target in pairs)
    before = [snapshot(target) for _, target in pairs]
    model.learn(32)
    if q_learning:
        model._on_step()  # Q-learning copies before an update, the others after
    for (network, target), old in zip(pairs, before, strict=True):
        assert any(not torch.equal(tensor, old[name]) for name, tensor in snapshot(target).items())
        # These are copied in full; the target does not count its own steps.
        online, copied = (
            {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("steps")}
            for module in (network, target)
        )
        assert online.keys() == copied.keys()
        assert all(torch.equal(copied[name], online[name]) for name in online)
        assert any(name.endswith("running_mean") and tensor.any() for name, tensor in copied.items())
