"""Blocks from other papers compared with their formulas in NumPy, and weights that stay on their sphere."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from reference import derivatives_are_right, name_of, scramble
from torch import Tensor

from deltarl import Torso, fast
from deltarl.torsos import BroNetTorsoSpec, HyperTorsoSpec, SimbaV2TorsoSpec, StackSpec, parse_torso
from deltarl.torsos.simbav2_blocks import UnitLinear

IN_FEATURES = 3
SMALL: dict[str, Any] = {"width": 8, "hidden": 12, "depth": 3}
SIMBAV2 = [SimbaV2TorsoSpec(**SMALL), SimbaV2TorsoSpec(**SMALL, shift=0.5, activation="silu", eps=1e-8)]
BRONET = [BroNetTorsoSpec(**SMALL), BroNetTorsoSpec(**SMALL, residual_scale=0.5, drop_path=0.5)]
HYPER = [
    HyperTorsoSpec(**SMALL, connections=connections, **options)
    for connections in ("static", "dynamic")
    for options in ({"channels": 3}, {"channels": 2, "mixing": "doubly_stochastic", "sinkhorn_steps": 5})
]
SPECS: list[StackSpec] = [*SIMBAV2, *BRONET, *HYPER]
Array = np.ndarray[Any, np.dtype[np.float64]]
Weights = dict[str, Array]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(spec: StackSpec) -> tuple[Torso, Weights, Tensor]:
    torso = scramble(Torso(IN_FEATURES, spec))
    assert isinstance(torso, Torso)
    weights = {name: parameter.detach().numpy() for name, parameter in torso.named_parameters()}
    return torso, weights, torch.randn(5, IN_FEATURES, dtype=torch.float64)


def unit(x: Array) -> Array:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def normed(x: Array, weights: Weights, name: str, eps: float = 1e-5) -> Array:
    return standard(x, eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def standard(x: Array, eps: float = 1e-5) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def linear(x: Array, weights: Weights, name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("spec", SIMBAV2, ids=name_of)
def test_simbav2_is_its_formula(spec: SimbaV2TorsoSpec) -> None:
    """Scalers start at sqrt(2 / d) and are learned in that unit; those of the hidden layer, sqrt(2 / hidden)."""
    torso, w, features = made(spec)
    x = np.concatenate([features.numpy(), np.full((5, 1), spec.shift)], -1)
    x = unit(w["stem.scaler.gain"] * (unit(x) @ w["stem.linear.weight"].T))
    for index in range(spec.depth):
        name = f"blocks.{index}"
        h = w[f"{name}.scaler.gain"] * (x @ w[f"{name}.inner.weight"].T)
        h = (relu if spec.activation == "relu" else silu)(h) + spec.eps
        aim = unit(h @ w[f"{name}.outer.weight"].T)
        rate = w[f"{name}.rate.gain"] * (1 / (spec.depth + 1)) / (1 / np.sqrt(spec.width))
        x = unit((1 - rate) * x + rate * aim)
    np.testing.assert_allclose(torso(features).detach(), x, rtol=1e-10)


def test_simbav2_starts_at_its_constants() -> None:
    torso = Torso(IN_FEATURES, SIMBAV2[0])
    block = torso.blocks[0]
    for scaler, start in ((torso.stem.scaler, 0.5), (block.scaler, (2 / 12) ** 0.5), (block.rate, 0.25)):
        factor = scaler(torch.ones(len(scaler.gain)))
        torch.testing.assert_close(factor, torch.full_like(factor, start))
    torch.testing.assert_close(block.rate.gain, torch.full((8,), 8**-0.5))
    for module in torso.modules():
        if isinstance(module, UnitLinear):
            torch.testing.assert_close(module.weight.norm(dim=-1), torch.ones(len(module.weight)))
    torch.testing.assert_close(torso(torch.randn(4, IN_FEATURES)).norm(dim=-1), torch.ones(4))


@pytest.mark.parametrize("spec", BRONET, ids=name_of)
def test_bronet_is_its_formula(spec: BroNetTorsoSpec) -> None:
    torso, w, features = made(spec)
    x = relu(normed(linear(features.numpy(), w, "stem.0"), w, "stem.1"))
    for index in range(spec.depth):
        name = f"blocks.{index}"
        h = relu(normed(linear(x, w, f"{name}.sublayer.0"), w, f"{name}.sublayer.1"))
        step = normed(linear(h, w, f"{name}.sublayer.3"), w, f"{name}.sublayer.4")
        x = x + w.get(f"{name}.join.scale", 1.0) * step
    np.testing.assert_allclose(torso(features).detach(), x, rtol=1e-10)


def test_bronet_starts_orthogonal() -> None:
    torso = Torso(IN_FEATURES, BRONET[0])
    for weight in (torso.stem[0].weight, torso.blocks[0].sublayer[0].weight):
        torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(weight.shape[1]))


@pytest.mark.parametrize("spec", HYPER, ids=name_of)
def test_hyper_connections_are_their_formula(spec: HyperTorsoSpec) -> None:
    """Row by row; a state is `[width, streams]`, the transpose of the papers'."""
    torso, w, features = made(spec)
    found = [normed(_streams(linear(row, w, "stem"), w, spec).sum(-1), w, "norm") for row in features.numpy()]
    np.testing.assert_allclose(torso(features).detach(), np.stack(found), rtol=1e-10)


def _streams(x: Array, w: Weights, spec: HyperTorsoSpec) -> Array:
    state = np.stack([x] * spec.channels, -1)
    for index in range(spec.depth):
        name = f"blocks.{index}"
        pre, post, mix = _connections(state, w, f"{name}.connections", spec)
        read = sum(pre[i] * state[:, i] for i in range(spec.channels))
        h = relu(linear(normed(read, w, f"{name}.norm"), w, f"{name}.sublayer.0"))
        written = linear(h, w, f"{name}.sublayer.2")
        state = np.stack(
            [
                sum(mix[i, j] * state[:, j] for j in range(spec.channels)) + post[i] * written
                for i in range(spec.channels)
            ],
            -1,
        )
    return state


def _connections(state: Array, w: Weights, name: str, spec: HyperTorsoSpec) -> tuple[Array, Array, Array]:
    n = spec.channels
    pre, post, mix = (w[f"{name}.{part}"] for part in ("pre", "post", "mix"))
    if spec.connections == "dynamic":
        read, gain = w[f"{name}.read.weight"], w[f"{name}.gain"]
        if spec.mixing == "free":  # arXiv 2409.19606; summarised by equation 5 of arXiv 2512.24880
            each = np.tanh(standard(state.T) @ read.T)
            pre, post, mix = pre + gain[0] * each[:, 0], post + gain[1] * each[:, 1], mix + gain[2] * each[:, 2:].T
        else:  # equations 7 and 8 of arXiv 2512.24880
            flat = state.T.reshape(-1)
            logits = read @ (flat / np.sqrt((flat**2).mean() + spec.eps))
            pre, post = pre + gain[0] * logits[:n], post + gain[1] * logits[n : 2 * n]
            mix = mix + gain[2] * logits[2 * n :].reshape(n, n)
    if spec.mixing == "free":
        return pre, post, mix
    mix = np.exp(mix)
    for _ in range(spec.sinkhorn_steps):
        mix = mix / mix.sum(0, keepdims=True)
        mix = mix / mix.sum(1, keepdims=True)
    return sigmoid(pre), 2 * sigmoid(post), mix


@pytest.mark.parametrize("spec", [each for each in HYPER if each.mixing == "free"], ids=name_of)
def test_free_hyper_connections_start_as_pre_norm_residual_blocks(spec: HyperTorsoSpec) -> None:
    """This holds for each stream, as long as the streams are equal."""
    block = spec.make_block().double()
    x = torch.randn(4, 8, 1, dtype=torch.float64).expand(-1, -1, spec.channels)
    torch.testing.assert_close(block(x)[..., -1], x[..., 0] + block.sublayer(block.norm(x[..., 0])))


def test_doubly_stochastic_connections_keep_the_mean_of_the_streams() -> None:
    block = scramble(HYPER[1].make_block())
    pre, post, mix = block.connections(torch.randn(4, 8, 2, dtype=torch.float64))
    torch.testing.assert_close(mix.sum(-1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(mix.sum(-2), torch.ones(2, dtype=torch.float64), rtol=0.01, atol=0)
    assert ((pre > 0) & (pre < 1)).all()
    assert ((post > 0) & (post < 2)).all()


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_a_rival_is_a_torso_like_any_other(spec: StackSpec) -> None:
    """Shapes, independence of rows, finite values, gradients for all, equal copies, no name that TRPO leaves out."""
    torso, _, features = made(spec)
    out = torso(features)
    assert out.shape == (5, 8)
    torch.testing.assert_close(torso(features[:1]), out[:1])
    torch.testing.assert_close(torso(features.reshape(5, 1, 3)), out.reshape(5, 1, 8))
    assert torso(features[:0]).shape == (0, 8)
    assert torso(torch.zeros(2, 3, dtype=torch.float64)).isfinite().all()
    (out * torch.linspace(-1, 1, 8)).sum().backward()
    silent = {name for name, p in torso.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12}
    # Rows that sum to 1 do not change streams that are still equal.
    stochastic = getattr(spec, "mixing", "") == "doubly_stochastic"
    assert silent == ({"blocks.0.connections.mix"} if stochastic else set())
    assert not [name for name, _ in torso.named_parameters() if "value" in name]
    for twin in (copy.deepcopy(torso), pickle.loads(pickle.dumps(torso))):
        assert torch.equal(twin(features), out)
    assert parse_torso(spec.model_dump(mode="json"), "torso") == spec


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_first_and_second_derivatives_of_a_rival_are_right(spec: StackSpec) -> None:
    state = (2, 8) if spec.state_channels == 1 else (2, 8, spec.channels)
    assert derivatives_are_right(scramble(spec.make_block()), torch.randn(*state, dtype=torch.float64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "simbav2", "norm": "rms"}, "norm has no effect with kind simbav2; leave it out"),
        ({"kind": "simbav2", "sublayers": 2}, "sublayers has no effect with kind simbav2; leave it out"),
        ({"kind": "simbav2", "shift": 0}, "shift: input should be greater than 0; got 0"),
        ({"kind": "bronet", "norm_position": "post"}, "norm_position has no effect with kind bronet; leave it out"),
        ({"kind": "hyper", "norm_position": "post"}, "norm_position has no effect with kind hyper; leave it out"),
        ({"kind": "hyper", "channels": 1}, "channels: input should be greater than or equal to 2; got 1"),
        ({"kind": "hyper", "mixing": "fre"}, "mixing: 'fre' is not one of free, doubly_stochastic"),
        ({"kind": "hyper", "sinkhorn_steps": 3}, "sinkhorn_steps has no effect with mixing free; leave it out"),
        ({"kind": "hyper", "heads": 2}, "heads: unknown key"),
    ],
)
def test_what_a_rival_does_not_read_is_refused_by_name(data: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse_torso(data, "torso")


def lengths(module: torch.nn.Module) -> list[Tensor]:
    return [each.weight.norm(dim=-1) for each in module.modules() if isinstance(each, UnitLinear)]


@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_weights_stay_on_their_sphere_and_targets_follow_them(name: str) -> None:
    """They do so with lean steps, and with those of a copy of the policy."""
    options = {"n_steps": 16, "batch_size": 8} if name == "PPO" else {"learning_starts": 8, "batch_size": 8, "tau": 1.0}
    torso = {"kind": "simbav2", "width": 8, "depth": 1}
    model = getattr(fast, name)(
        "DeltaPolicy", "Pendulum-v1", policy_kwargs={"torso": torso}, seed=0, device="cpu", **options
    )
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(32)
    assert not all(torch.equal(p, old) for p, old in zip(model.policy.parameters(), before, strict=True))
    found = lengths(model.policy)
    assert len(found) == (6 if name == "PPO" else 15)
    for each in found:
        torch.testing.assert_close(each, torch.ones_like(each))
    if name == "SAC":
        for own, target in zip(model.critic.parameters(), model.critic_target.parameters(), strict=True):
            torch.testing.assert_close(own, target)
    policy = copy.deepcopy(model.policy)
    optimizer = policy.optimizer if name == "PPO" else policy.critic.optimizer
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()
    for each in lengths(policy):
        torch.testing.assert_close(each, torch.ones_like(each))
