"""Interventions: exact identities, exact restoration, hand-written networks and invalid input."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deltarl import ConfigError, fast
from deltarl.fast.layers import Recorded
from deltarl.fast.networks import network_of
from deltarl.gates import Batch, intervene, measure
from deltarl.gates.interventions import parse_changes
from deltarl.gates.measure import networks
from deltarl.torsos import DeltaBlock
from deltarl.torsos.erasing_blocks import ResidualEraseBlock
from tests.policies.matrix import SUBJECTS, actions, make, sample_observations

DELTA: dict[str, Any] = {"kind": "delta", "width": 16, "depth": 2, "heads": 2}


def of(name: str) -> Any:
    return next(subject for subject in SUBJECTS if subject.name == name)


def scrambled(torso: dict[str, Any], name: str = "PPO") -> Any:
    """A policy whose gates and values depend on the state."""
    policy = make(of(name), torso=torso).policy
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in policy.modules():
            if isinstance(module, DeltaBlock | ResidualEraseBlock):
                for parameter in module.parameters():
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return policy


def blocks(policy: Any, name: str = "policy") -> list[Any]:
    return list(networks(policy)[name].trunk[0].blocks)


def state(policy: Any) -> torch.Tensor:
    spec = blocks(policy)[0]
    shape = (5, 16) if spec.channels == 1 else (5, 16, spec.channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options", [{}, {"channels": 3}, {"gate_layers": 2}, {"direction": "generator"}, {"gate": "fixed"}]
)
def test_identities_hold_to_the_last_bit(options: dict[str, Any]) -> None:
    policy = scrambled({**DELTA, **options})
    twin = scrambled({**DELTA, **options, "update": "write_only"})
    twin.load_state_dict(policy.state_dict())
    x = state(policy)
    [first, _], [writes, _] = blocks(policy), blocks(twin)
    learned = first(x)
    with intervene(policy, {"erase": "off"}):
        assert torch.equal(first(x), writes(x))
        assert not torch.equal(first(x), learned)
    with intervene(policy, {"beta": 0}):
        assert torch.equal(first(x), x)
    with intervene(policy, {"beta": 1}):
        k, source = first.direction(x)
        v, _ = first.value_and_gate(source)
        after = first.split_heads(first(x)).reshape(5, 2, 8, -1)
        torch.testing.assert_close((k.unsqueeze(-1) * after).sum(-2), v, rtol=1e-4, atol=1e-4)
    assert torch.equal(first(x), learned)


def test_a_residual_block_that_erases_is_the_residual_block_without_its_erasure() -> None:
    policy = scrambled({**DELTA, "update": "residual_erase"})
    twin = make(of("PPO"), torso={"kind": "residual", "width": 16, "depth": 2}).policy
    first, residual = blocks(policy)[0], blocks(twin)[0]
    residual.load_state_dict({name: w for name, w in first.state_dict().items() if not name.startswith("write")})
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    learned = first(x)
    assert not torch.equal(learned, residual(x))
    for changes in ({"erase": "off"}, {"beta": 0}):
        with intervene(policy, changes):
            assert torch.equal(first(x), residual(x))
    measured = measure(policy, Batch(torch.as_tensor(sample_observations(policy, 6), dtype=torch.float32)))
    with intervene(policy, {"beta": "mean"}, measured=measured):
        assert not torch.equal(first(x), learned)
    assert torch.equal(first(x), learned)
    with pytest.raises(ConfigError, match="value=mean: these blocks have no value"):
        intervene(policy, {"value": "mean"}, measured=measured).__enter__()


def test_means_are_over_the_states_that_were_measured() -> None:
    policy = scrambled(DELTA)
    measured = measure(policy, Batch(torch.as_tensor(sample_observations(policy, 6), dtype=torch.float32)))
    first, x = blocks(policy)[0], state(policy)
    with intervene(policy, {"beta": "mean", "value": "mean", "erase": "off"}, measured=measured):
        k, _ = first.direction(x)
        record = measured["policy"].blocks[0]
        assert record.beta is not None
        assert record.v is not None
        step = record.beta.mean(0)[:, None] * record.v.mean(0)
        torch.testing.assert_close(first(x), x + (k * step).reshape(5, 16))
    with pytest.raises(ConfigError, match="mean: needs `measured`"), intervene(policy, {"beta": "mean"}):
        pass


@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO", "SAC", "TD3", "DQN"])
def test_actions_change_and_come_back_and_value_networks_are_left_alone(name: str) -> None:
    policy = scrambled(DELTA, name)
    seen = sample_observations(policy)
    before, untouched = actions(policy, seen), {key: vars(module).copy() for key, module in policy.named_modules()}
    values = [net for net in networks(policy) if net.startswith(("value", "qf"))]

    def fail_inside() -> None:
        with intervene(policy, {"beta": 0, "erase": "off"}):
            assert name == "DQN" or (actions(policy, seen) != before).any()
            assert not any("rewrite" in vars(block) for net in values for block in blocks(policy, net))
            with intervene(policy, {"beta": 1}, block=1, value_networks=True):
                assert all("rewrite" in vars(blocks(policy, net)[1]) for net in networks(policy))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert (actions(policy, seen) == before).all()
    assert untouched == {key: vars(module) for key, module in policy.named_modules()}


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_networks_by_hand_do_not_pass_a_change_by(name: str) -> None:
    model = getattr(fast, name)(
        "DeltaPolicy", "Pendulum-v1", policy_kwargs={"torso": DELTA}, seed=0, device="cpu", **of(name).options
    )
    acting = networks(model.policy)["policy" if name == "PPO" else "actor"]
    block = acting.trunk[0].blocks[0]
    assert model.lean_update() is not None
    with intervene(model.policy, {"beta": 0}):
        assert isinstance(network_of(block), Recorded)
        assert torch.equal(network_of(block)(torch.ones(3, 16)), torch.ones(3, 16))
        model._setup_learn(16, None)
        assert model.lean_update() is None
    model._setup_learn(16, None)
    assert model.lean_update() is not None


def test_a_policy_or_block_that_is_not_there_is_named() -> None:
    for torso in ({"kind": "mlp"}, {"kind": "residual"}, {**DELTA, "update": "additive"}):
        with pytest.raises(ConfigError, match="chooses its actions has no Delta blocks"):
            intervene(make(of("PPO"), torso=torso, critic_torso=DELTA).policy, {"beta": 0}).__enter__()
    with pytest.raises(ConfigError, match="no block 2; there are 0, 1"):
        intervene(scrambled(DELTA), {"beta": 0}, block=2).__enter__()
    writes = scrambled({**DELTA, "update": "write_only"})
    with pytest.raises(ConfigError, match="write but do not erase"):
        intervene(writes, {"erase": "off"}).__enter__()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to set; give one of beta, erase, value"),
        ({"bta": 0}, "unknown name 'bta'; did you mean 'beta'"),
        ({"beta": "maen"}, "beta: expected a number from 0 to 2, or mean, got 'maen'; did you mean 'mean'"),
        ({"beta": 2.5}, "beta: expected a number from 0 to 2, or mean, got 2.5"),
        ({"beta": "nan"}, "got 'nan'"),
        ({"erase": "of"}, "erase: expected off, got 'of'; did you mean 'off'"),
        ({"value": 0}, "value: expected mean, got 0"),
    ],
)
def test_wrong_changes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_changes(given)
