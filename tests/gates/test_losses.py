"""Gradients of the training loss by row equal those of `train`, for every algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn
from torch.nn import functional

from deltarl import fast
from deltarl.gates import Batch, loss_gradients
from deltarl.gates import losses as module
from deltarl.gates.batches import batch_of, from_buffer
from deltarl.gates.losses import values_and_targets
from deltarl.gates.measure import evaluating, networks
from deltarl.torsos import Torso
from tests.policies.matrix import SUBJECTS, Subject, make, make_env

ROWS = 8
DELTA = {"kind": "delta", "width": 12, "depth": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "A2C": {"ent_coef": 0.1},
    "PPO": {"ent_coef": 0.1, "clip_range_vf": 0.2},
    "MaskablePPO": {"ent_coef": 0.1},
    "DDPG": {"n_steps": 3},
    "SAC": {"ent_coef": "auto_0.3", "n_steps": 3},
    "TQC": {"ent_coef": 0.2},
}


def learned(subject: Subject) -> Any:
    options = OPTIONS.get(subject.name, {})
    model = make(subject, torso=DELTA, options=options)
    model.learn(64)
    return model


def batch_from(model: Any, rows: int = ROWS) -> Batch:
    fields = from_buffer(model, rows)
    assert fields is not None
    return batch_of(fields)


@pytest.fixture(autouse=True)
def _the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every draw the same noise, in whatever order networks draw."""

    def noise(shape: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.linspace(-1, 1, int(np.prod(shape)), dtype=dtype, device=device).reshape(shape)

    monkeypatch.setattr(torch.distributions.normal, "_standard_normal", noise)


class Stopped(Exception):  # noqa: N818 - no error
    """Stops TRPO once its gradients are known."""


def stepped(model: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> dict[nn.Parameter, Tensor]:
    """The gradients of the algorithm's own `train` in one update on that batch."""
    found: dict[nn.Parameter, Tensor] = {}

    def note(optimizer: Any) -> None:
        for group in optimizer.param_groups:
            found.update({each: each.grad.clone() for each in group["params"] if each.grad is not None})

    given = batch.training
    assert given is not None
    if hasattr(model, "replay_buffer"):
        names = ("observations", "actions", "next_observations", "dones", "rewards", "discounts")
        samples = ReplayBufferSamples(*({"observations": batch.observations, **given}.get(name) for name in names))
        monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, **__: samples)
    else:
        fields = {**given, "observations": batch.observations, "mask": torch.ones(ROWS)}
        fields |= {"lstm_states": batch.lstm_states, "episode_starts": batch.episode_starts}
        monkeypatch.setattr(model.rollout_buffer, "get", lambda *_, **__: iter([SimpleNamespace(**fields)]))
    model.policy.set_training_mode(False)
    monkeypatch.setattr(model.policy, "set_training_mode", lambda _: None)
    for network in (getattr(model, "actor", None), getattr(model, "critic", None)):
        if hasattr(network, "set_bn_training_mode"):
            monkeypatch.setattr(network, "set_bn_training_mode", lambda _: None)
    for owner in (model.policy, getattr(model, "actor", None), getattr(model, "critic", None)):
        if (optimizer := getattr(owner, "optimizer", None)) is not None:
            monkeypatch.setattr(optimizer, "step", lambda *_, optimizer=optimizer: note(optimizer))
    model.set_logger(Logger(None, []))
    model.max_grad_norm, model.n_epochs = 1e9, 1
    model._n_updates = getattr(model, "policy_delay", 1) - 1  # so that delayed actors are updated

    def objective(_: Tensor, value: Tensor) -> None:
        own = [each for name, each in model.policy.named_parameters() if "value" not in name]
        found.update(zip(own, (-g for g in torch.autograd.grad(value, own)), strict=True))
        raise Stopped

    if hasattr(model, "_compute_actor_grad"):
        monkeypatch.setattr(model, "_compute_actor_grad", objective)
    torch.manual_seed(0)
    with suppress(Stopped):
        model.train(1, ROWS) if hasattr(model, "replay_buffer") else model.train()
    return found


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_losses_are_those_that_train_takes(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    model = learned(subject)
    batch = batch_from(model)
    found = networks(model.policy)
    losses = module.losses(model, batch, tuple(found))
    assert [name for names in losses for name in names] == list(found)
    gradients: dict[nn.Parameter, Tensor | None] = {}
    torch.manual_seed(0)
    for names, loss in losses.items():
        own = [each for name in names for each in found[name].whole.parameters()]
        gradients |= dict(zip(own, torch.autograd.grad(loss(), own, allow_unused=True), strict=True))
    # Afterwards, because it moves target networks and the entropy coefficient.
    expected = stepped(model, batch, monkeypatch)
    compared = {each: gradient for each, gradient in gradients.items() if each in expected}
    for parameter, gradient in compared.items():
        torch.testing.assert_close(gradient, expected[parameter], rtol=1e-4, atol=1e-6)
    for name, network in found.items():
        # TRPO is stopped before its critic learns.
        learns = (subject.name, name) != ("TRPO", "value")
        assert any(bool(compared[each].any()) for each in network.whole.parameters() if each in compared) == learns  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["A2C", "SAC", "DQN", "RecurrentPPO"])
def test_they_are_root_mean_squares_over_rows(name: str) -> None:
    """They equal an explicit computation from batches of one row: terms of opposite signs do not cancel."""
    [subject] = [each for each in SUBJECTS if each.name == name]
    model = learned(subject)
    model.normalize_advantage = False  # by number of rows
    batch = replace(batch_from(model))
    # All rows get the same noise.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributions.normal, "_standard_normal", lambda shape, **_: torch.ones(shape))
        gradients = loss_gradients(model, batch)
        for network, own in gradients.items():
            torso = next(child for child in networks(model.policy)[network].trunk if isinstance(child, Torso))
            rows = [_of_one_row(model, one, network) for one in _rows(batch)]
            for index, block in enumerate(torso.blocks):
                linears = [each for each in block.modules() if isinstance(each, nn.Linear)]
                whole = [
                    sum(float(row[p].square().sum()) for each in linears for p in each.parameters()) for row in rows
                ]
                gate = [
                    sum(float(row[p][: block.gate_width].square().sum()) for p in block.write.parameters())
                    for row in rows
                ]
                assert own.blocks[index] == pytest.approx(np.sqrt(np.mean(whole)), rel=1e-3)
                assert own.gates[index] == pytest.approx(np.sqrt(np.mean(gate)), rel=1e-3)
                assert own.gates[index] > 0


def _rows(batch: Batch) -> Iterator[Batch]:
    def cut(value: Any, row: int, axis: int = 0) -> Any:
        if isinstance(value, Mapping):
            return {name: cut(each, row) for name, each in value.items()}
        return value.narrow(axis, row, 1)

    for row in range(ROWS):
        states: Any = batch.lstm_states
        if states is not None:
            states = type(states)(*(tuple(cut(each, row, 1) for each in pair) for pair in states))
        yield Batch(
            cut(batch.observations, row),
            None if batch.actions is None else cut(batch.actions, row),
            states,
            None if batch.episode_starts is None else cut(batch.episode_starts, row),
            cut(batch.training, row),
        )


def _of_one_row(model: Any, batch: Batch, network: str) -> dict[nn.Parameter, Tensor]:
    found = networks(model.policy)
    [loss] = [loss for names, loss in module.losses(model, batch, tuple(found)).items() if network in names]
    own = list(found[network].trunk.parameters())
    gradients = torch.autograd.grad(loss(), own, allow_unused=True)
    return {each: torch.zeros_like(each) if g is None else g for each, g in zip(own, gradients, strict=True)}


OFF_POLICY = [subject for subject in SUBJECTS if not subject.on_policy]


@pytest.mark.parametrize("subject", OFF_POLICY, ids=lambda subject: subject.name)
def test_values_and_targets_are_those_of_the_critics_loss(subject: Subject) -> None:
    model = learned(subject)
    batch = batch_from(model)
    found = values_and_targets(model, batch)
    critics = [name for name in networks(model.policy) if name != "actor"]
    assert list(found) == critics
    [loss] = [
        loss
        for names, loss in module.losses(model, batch, tuple(networks(model.policy))).items()
        if critics[0] in names
    ]
    errors = torch.stack([value - target for value, target in found.values()])
    assert errors.shape == (len(critics), ROWS)
    if subject.name in {"TQC", "QRDQN"}:  # their loss is over pairs of quantiles
        return
    with torch.no_grad():
        if subject.name == "DQN":
            expected = functional.huber_loss(errors[0], torch.zeros(ROWS))
        else:
            expected = errors.square().mean(1).sum() * (1 if subject.name in {"TD3", "DDPG"} else 0.5)
    model.policy.set_training_mode(False)
    with module.seeded_noise(model.device):
        assert float(expected) == pytest.approx(float(loss().detach()), rel=1e-5)


def test_values_of_quantiles_are_their_means() -> None:
    [subject] = [each for each in SUBJECTS if each.name == "TQC"]
    model = learned(subject)
    batch = batch_from(model)
    found = values_and_targets(model, batch)
    with torch.no_grad(), evaluating(model.policy):
        quantiles = model.critic(batch.observations, batch.actions)
    for index, (value, _) in enumerate(found.values()):
        torch.testing.assert_close(value, quantiles[:, index].mean(1))


def test_on_policy_algorithms_have_no_td_error() -> None:
    [subject] = [each for each in SUBJECTS if each.name == "PPO"]
    model = learned(subject)
    assert values_and_targets(model, batch_from(model)) == {}


@pytest.mark.parametrize("name", ["PPO", "SAC", "TD3", "CrossQ"])
def test_nothing_changes(name: str) -> None:
    [subject] = [each for each in SUBJECTS if each.name == name]
    model = learned(subject)
    batch = batch_from(model)
    for parameter in model.policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    random, modes = torch.get_rng_state(), [each.training for each in model.policy.modules()]
    numpy_random = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first = loss_gradients(model, batch)
    assert first == loss_gradients(model, batch)
    values_and_targets(model, batch)
    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(np.random.get_state()[1], numpy_random)  # type: ignore[index]
    assert [each.training for each in model.policy.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    assert all((each.grad == 1).all() for each in model.policy.parameters() if each.grad is not None)
    assert not any(each._forward_hooks for each in model.policy.modules())


def test_frozen_parameters_have_the_gradients_that_they_would_have() -> None:
    [subject] = [each for each in SUBJECTS if each.name == "PPO"]
    model = learned(subject)
    batch = batch_from(model)
    expected = loss_gradients(model, batch)
    model.policy.requires_grad_(False)
    assert loss_gradients(model, batch) == expected


def test_without_a_known_loss_there_is_none() -> None:
    [subject] = [each for each in SUBJECTS if each.name == "PPO"]

    class Own(subject.algorithm):  # type: ignore[name-defined,misc]
        def train(self) -> None:
            """Overrides the loss."""

    model = learned(subject)
    batch = batch_from(model)
    assert loss_gradients(model, batch).keys() == {"policy", "value"}
    assert loss_gradients(model, replace(batch, training=None)) == {}
    model.__class__ = Own
    assert loss_gradients(model, batch) == {}


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (fast.SAC, {}),
        (fast.SAC, {"n_steps": 3}),
        (
            SAC,
            {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        ),
    ],
    ids=["one step", "three steps", "memory"],
)
@pytest.mark.parametrize("size", [200, 30])
def test_rows_of_a_replay_buffer_are_those_that_it_samples(
    algorithm: Any, options: dict[str, Any], normalized: bool, size: int
) -> None:
    env: Any = DummyVecEnv([lambda: make_env("Box", False)])
    env = VecNormalize(env) if normalized else env
    options = {"buffer_size": size, "learning_starts": 100, "seed": 0, "device": "cpu", **options}
    model = algorithm("DeltaPolicy", env, policy_kwargs={"torso": DELTA}, **options)
    model.learn(64)  # with the ends of an episode in it
    buffer = model.replay_buffer
    batch = batch_from(model, 16)
    held = buffer.buffer_size if buffer.full else buffer.pos
    steps = np.linspace(0, held - 1, 16).astype(int)
    samples = buffer._get_samples(steps, env=model.get_vec_normalize_env())
    valid = steps != buffer.pos if buffer.optimize_memory_usage and buffer.full else np.ones(16, bool)
    given = batch.training
    assert given is not None
    for name in ("actions", "next_observations", "rewards", "dones", "discounts"):
        expected = getattr(samples, name)
        assert (expected is None) == (name not in given)
        if expected is not None:
            torch.testing.assert_close(given[name][valid], expected[valid], msg=name.__add__)
