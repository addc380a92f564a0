"""Measurements of networks equal an explicit computation, for every algorithm, and change nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from deltarl.gates import Batch, BlockRecord, NetworkRecord, loss_gradients, measure
from deltarl.gates.batches import batch_of, from_buffer
from deltarl.gates.measure import networks
from deltarl.gates.statistics import (
    OF_ERASURE,
    REGIMES,
    block_statistics,
    chance_cosine,
    divergence,
    effective_rank,
    gate_statistics,
    neighbour_cosines,
    network_statistics,
    regimes,
)
from deltarl.torsos import Torso, parse_torso
from tests.policies.matrix import KINDS, SUBJECTS, Case, covers, make, parameters

ROWS = 8


def learned(case: Case, **given: Any) -> Any:
    """A model that has learned a little, and has a buffer to measure on."""
    model = make(case.subject, case.observation, torso=case.torso, **given)
    model.learn(48)
    return model


def batch_from(model: Any) -> Batch:
    fields = from_buffer(model, ROWS)
    assert fields is not None
    return batch_of(fields)


NAMES = {
    "DQN": ["q"],
    "QRDQN": ["q"],
    **{name: ["policy", "value"] for name in ("A2C", "PPO", "TRPO", "MaskablePPO", "RecurrentPPO")},
    **{name: ["actor", "qf0", "qf1"] for name in ("SAC", "TD3", "TQC", "CrossQ")},
    "DDPG": ["actor", "qf0"],
}


def half(case: Case) -> bool:
    """Every second cell of the covering subset: each algorithm with half of the kinds, and the other way round."""
    return covers(case) and (SUBJECTS.index(case.subject) + list(KINDS).index(case.kind) // 2) % 2 == 0


@pytest.mark.parametrize("case", parameters(covering=half))
def test_every_network_of_every_algorithm_is_measured(case: Case) -> None:
    model = learned(case)
    batch = batch_from(model)
    records = measure(model.policy, batch)
    assert list(records) == NAMES[case.subject.name]
    gradients = loss_gradients(model, batch)
    assert list(gradients) == [name for name in NAMES[case.subject.name] if case.kind != "mlp"]
    assert all(norm > 0 for own in gradients.values() for norm in own.blocks)
    undrawn = {"TD3", "DDPG", "DQN", "QRDQN"}
    assert [name for name, record in records.items() if record.policy] == NAMES[case.subject.name][
        : case.subject.name not in undrawn
    ]
    for name, record in records.items():
        blocks = case.torso.get("depth", 0)
        assert len(record.blocks) == len(record.gradients) == len(record.gate_gradients) == blocks
        assert all(norm > 0 for norm in (*record.gradients, *record.weight_norms))
        assert len(record.output) == ROWS
        assert all(math.isfinite(value) for value in network_statistics(record).values())
        assert (record.action_gradient is not None) == name.startswith("qf")
        for block in record.blocks:
            assert all(math.isfinite(value) for value in block_statistics(block).values())
            assert (block.beta is not None) == (case.kind == "delta")


DELTA = {"kind": "delta", "width": 12, "depth": 2}


def of(name: str) -> Any:
    return next(subject for subject in SUBJECTS if subject.name == name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": 3},
        {"channels": 2, "expand": "copy"},
        {"heads": 2, "channels": 3, "expand": "copy"},
        {"gate_layers": 2},
    ],
)
@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_the_record_equals_an_explicit_recomputation_in_float64(algorithm: str, options: dict[str, Any]) -> None:
    model = make(of(algorithm), torso={**DELTA, **options})
    model.learn(48)
    batch = batch_from(model)
    records = measure(model.policy, batch)
    # The networks again in double precision, step by step from the input of their torsos.
    for name, network in networks(model.policy).items():
        [torso] = [child for child in network.trunk if isinstance(child, Torso)]
        entering = features_of(batch, name).double()
        double = torso.double().eval()
        x = double.stem(entering)
        heads, channels, width = options.get("heads", 1), options.get("channels", 1), 12
        x = x.unsqueeze(-1).expand(*x.shape, channels)
        for index, block in enumerate(double.blocks):
            assert isinstance(block, torch.nn.Module)
            context = block.norm(block.compress(x if channels > 1 else x.squeeze(-1)))
            h = block.sublayer(context).reshape(ROWS, heads, width // heads)
            k = h / (h.square().sum(-1, keepdim=True) + block.eps**2).sqrt()
            v, beta = block.value_and_gate(context)
            state = x.reshape(ROWS, heads, width // heads, channels)
            readout = torch.einsum("nhd,nhdc->nhc", k, state)
            after = state + torch.einsum("nh,nhd,nhc->nhdc", beta.squeeze(-1), k, v - readout)
            record = records[name].blocks[index]
            close(record.k, k)
            close(record.v, v)
            close(record.beta, beta.squeeze(-1))
            close(record.eigenvalue, 1 - beta.squeeze(-1))
            close(record.readout, readout)
            close(record.readout_after, torch.einsum("nhd,nhdc->nhc", k, after))
            close(
                record.update_ratio, (after - state).reshape(ROWS, -1).norm(dim=-1) / x.reshape(ROWS, -1).norm(dim=-1)
            )
            close(record.cos, readout.abs() / state.norm(dim=-2))
            unit = state / state.norm(dim=-2, keepdim=True)
            pairs = [(k[i].unsqueeze(-1) * unit[j]).sum(1).abs() for i in range(ROWS) for j in range(ROWS) if i != j]
            close(record.cos_pairs, torch.stack(pairs).mean(0))
            close(record.erase_share, readout.abs() / (readout.abs() + v.abs()))
            x = after.reshape(ROWS, width, channels)
        torso.float()


def features_of(batch: Batch, name: str) -> torch.Tensor:
    """The input of a network, written out for flat observations."""
    observations = batch.observations
    assert isinstance(observations, torch.Tensor)
    flat = observations.float().flatten(1)
    return torch.cat([flat, batch.actions], dim=1) if name.startswith("qf") and batch.actions is not None else flat


def close(measured: torch.Tensor | None, expected: torch.Tensor) -> None:
    assert measured is not None
    assert measured.shape == expected.shape
    torch.testing.assert_close(measured.double(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"heads": 2, "gate_layers": 2}, {"channels": 2, "direction": "generator"}])
@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_gradients_are_those_of_each_sample_and_output(algorithm: str, options: dict[str, Any]) -> None:
    """In root mean squares, gradients of opposite signs do not cancel, as they do in the gradient of a mean output."""
    model = make(of(algorithm), torso={**DELTA, **options})
    model.learn(48)
    batch = batch_from(model)
    name = "policy" if algorithm == "PPO" else "qf1"
    record, network = measure(model.policy, batch)[name], networks(model.policy)[name]
    inputs = features_of(batch, name).requires_grad_()
    output = network.head(network.trunk(inputs))
    for index, block in enumerate(network.trunk[0].blocks):
        linears = [each for each in block.modules() if isinstance(each, torch.nn.Linear)]
        gates, whole = [], []
        for value in output.flatten():
            found = {each: torch.autograd.grad(value, [each.weight, each.bias], retain_graph=True) for each in linears}
            whole.append(sum(float(g.square().sum()) for pair in found.values() for g in pair))
            gate = [g[: block.gate_width] for g in found[block.write]]
            gate += [] if block.gate_out is None else found[block.gate_out]
            gates.append(sum(float(g.square().sum()) for g in gate))
        assert record.gradients[index] == pytest.approx(np.sqrt(np.mean(whole)), rel=1e-4)
        assert record.gate_gradients[index] == pytest.approx(np.sqrt(np.mean(gates)), rel=1e-4)
        weights = torch.cat([each.detach().flatten() for each in block.parameters()])
        assert record.weight_norms[index] == pytest.approx(float(weights.norm()), rel=1e-5)
    if name == "qf1":
        [by_inputs] = torch.autograd.grad(output.sum(), inputs)
        rows = by_inputs[:, -batch.actions.shape[1] :]  # type: ignore[union-attr]
        assert record.action_gradient == pytest.approx(float(rows.norm(dim=-1).mean()), rel=1e-4)


@pytest.mark.parametrize("algorithm", ["PPO", "SAC", "CrossQ", "RecurrentPPO"])
def test_it_changes_nothing(algorithm: str) -> None:
    model = make(of(algorithm), torso={"kind": "delta", "width": 12, "depth": 2})
    model.learn(48)
    policy = model.policy
    policy.train()
    next(iter(policy.children())).eval()  # each module has its own mode
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    modes = [module.training for module in policy.modules()]
    random = torch.get_rng_state()
    numpy_random = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    measure(policy, batch_from(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())
    assert [module.training for module in policy.modules()] == modes
    assert all((parameter.grad == 1).all() for parameter in policy.parameters() if parameter.grad is not None)
    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(np.random.get_state()[1], numpy_random)  # type: ignore[index]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())


@pytest.mark.parametrize("update", ["write_only", "additive", "lerp"])
def test_other_updates_have_what_exists_of_them(update: str) -> None:
    model = make(of("PPO"), torso={"kind": "delta", "width": 12, "depth": 2, "update": update})
    model.learn(48)
    block = measure(model.policy, batch_from(model))["policy"].blocks[0]
    statistics = block_statistics(block)
    assert statistics["update_ratio"] > 0
    assert ("beta_mean" in statistics) == (update == "write_only")
    assert ("cos_k_x" in statistics) == (update != "lerp")
    # None of them erases: no erase share, no regime, and no eigenvalue other than 1.
    assert not set(OF_ERASURE) & statistics.keys()
    assert block.erase_share is None
    assert block.eigenvalue is None or (block.eigenvalue == 1).all()


def test_an_empty_batch_has_no_numbers_and_does_no_harm() -> None:
    model = make(of("PPO"), torso=DELTA)
    records = measure(model.policy, Batch(torch.zeros(0, *model.observation_space.shape)))
    for record in records.values():
        assert all(math.isnan(value) for value in (*record.gradients, *record.gate_gradients))
        assert math.isnan(network_statistics(record)["effective_rank"])
        assert math.isnan(block_statistics(record.blocks[0])["update_ratio"])


@pytest.mark.parametrize("update", ["delta", "residual_erase", "write_only"])
def test_a_state_that_is_zero_is_left_out_of_ratios_to_its_length(update: str) -> None:
    """Such as the state of a block of a convolution at a black position."""
    torch.manual_seed(0)
    block = parse_torso({**DELTA, "update": update}, "torso").build(4).blocks[0].double()
    x = torch.randn(ROWS, 12, dtype=torch.float64)
    x[3] = 0
    others = [row for row in range(ROWS) if row != 3]
    found = block_statistics(block.observe(x, block(x)))
    without = block_statistics(block.observe(x[others], block(x[others])))
    assert found["update_ratio"] == pytest.approx(without["update_ratio"])
    assert found["cos_k_x"] == pytest.approx(without["cos_k_x"])
    assert math.isfinite(found["cos_k_x_over_pairs"])


def test_regimes_are_shares_of_all_gates() -> None:
    beta = torch.tensor([[0.0, 0.1, 0.5], [1.0, 1.2, 1.5], [1.8, 2.0, 1.74]])
    assert regimes(beta) == pytest.approx(
        {
            "identity_fraction": 2 / 9,
            "projection_fraction": 2 / 9,
            "reflection_fraction": 2 / 9,
            "between_fraction": 3 / 9,
        }
    )
    assert set(regimes(beta)) == set(REGIMES)


def test_saturated_gates_are_named_for_what_they_are() -> None:
    for value, regime in ((0.0, "identity_fraction"), (2.0, "reflection_fraction")):
        found = gate_statistics(torch.full((5, 2), value))
        assert regimes(torch.full((5, 2), value))[regime] == 1.0
        assert found["beta_std"] == 0.0
        assert found["beta_p10"] == found["beta_p90"] == value


@pytest.mark.parametrize("dimensions", [1, 2, 4, 64])
def test_the_chance_of_a_cosine_is_that_of_random_directions(dimensions: int) -> None:
    drawn = torch.nn.functional.normalize(torch.randn(200_000, dimensions, generator=torch.Generator().manual_seed(0)))
    assert chance_cosine(dimensions) == pytest.approx(float(drawn[:, 0].abs().mean()), rel=0.01)
    known = {1: 1.0, 2: 2 / math.pi, 4: 4 / (3 * math.pi)}
    assert chance_cosine(dimensions) == pytest.approx(known.get(dimensions, chance_cosine(dimensions)), rel=1e-12)


def test_chance_is_of_the_batch_itself() -> None:
    """If all samples have the same state, their directions align with it no better than other samples' directions."""
    k = torch.nn.functional.normalize(torch.randn(6, 1, 4), dim=-1)[:1].expand(6, 1, 4)
    same = block_statistics(BlockRecord(torch.ones(6), k, cos=torch.full((6, 1, 1), 0.9), cos_pairs=torch.tensor(0.9)))
    assert same["cos_k_x_over_pairs"] == pytest.approx(1)
    assert same["cos_k_x_over_random"] == pytest.approx(0.9 / chance_cosine(4))


def test_a_unit_direction_brings_the_readout_nearer_by_the_eigenvalue() -> None:
    """For a unit k the error after the block is |1 - beta| times that before it, whatever was learned."""
    model = make(of("PPO"), torso={**DELTA, "beta_init": 1.4})
    model.learn(48)
    for block in measure(model.policy, batch_from(model))["policy"].blocks:
        assert block.eigenvalue is not None
        before, after = (block.v - each for each in (block.readout, block.readout_after))
        torch.testing.assert_close(after, block.eigenvalue.unsqueeze(-1) * before, rtol=1e-3, atol=1e-4)


def test_effective_rank_is_that_of_known_spectra() -> None:
    torch.manual_seed(0)
    one = torch.randn(50, 1) @ torch.randn(1, 8)
    assert effective_rank(one) == pytest.approx(1.0, abs=1e-4)
    orthogonal = torch.linalg.qr(torch.randn(50, 4) - 0.0)[0]
    centred = torch.linalg.qr(orthogonal - orthogonal.mean(0))[0]
    assert effective_rank(centred - centred.mean(0)) == pytest.approx(4.0, rel=1e-3)
    assert math.isnan(effective_rank(torch.zeros(1, 3)))


def test_the_divergence_of_policies_is_that_of_their_definition() -> None:
    """KL(old, new): sums over what is drawn apart, in each row."""
    p, q = torch.tensor([[0.2, 0.8], [0.5, 0.5]]), torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    expected = (p * (p / q).log()).sum(1).double()
    one = divergence({"logits": p.log()}, {"logits": q.log()})
    torch.testing.assert_close(one, expected)
    both = {"logits0": p.log(), "logits1": q.log()}, {"logits0": q.log(), "logits1": p.log()}
    torch.testing.assert_close(divergence(*both), expected + (q * (q / p).log()).sum(1).double())
    normals = ({"mean": torch.full((1, 2), m), "std": torch.full((1, 2), s)} for m, s in ((0.0, 1.0), (1.0, 2.0)))
    assert divergence(*normals).item() == pytest.approx(2 * (math.log(2) + (1 + 1) / 8 - 0.5))


def test_neighbours_that_share_a_direction_have_cosine_1() -> None:
    k = torch.nn.functional.normalize(torch.randn(6, 2, 4), dim=-1)
    blocks = tuple(BlockRecord(torch.ones(6), k=each) for each in (k, -k))
    some = (math.nan,) * 2
    record = NetworkRecord(blocks, some, some, some, torch.zeros(6, 4), torch.zeros(6, 1), 0.0, 1.0)
    assert neighbour_cosines(record) == pytest.approx([1.0])
