"""The encoder with attention, against explicit matrices in double precision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from torch import Tensor, nn
from torch.nn import functional

from deltarl import ConfigError
from deltarl.encoders import HistoryEncoderSpec, parse_encoder
from deltarl.encoders.attention import TokenCompressor, causal_attention, rotated
from deltarl.encoders.encoder import Encoder
from deltarl.gates.encoders import encoders
from deltarl.torsos.block import gate_rows
from tests.encoders.matrix import make
from tests.policies.matrix import SUBJECTS

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
LENGTH, FEATURES = 4, 3
VARIANTS: dict[str, dict[str, Any]] = {
    "delta": {"heads": 2, "beta_init": 0.7},
    "delta-one-head-deep": {"heads": 1, "depth": 2, "norm": "rms"},
    "delta-compressed-rotary": {"heads": 4, "token_compression": 3, "positions": "rotary", "beta_max": 1.5},
    "residual": {"update": "residual", "depth": 2},
    "residual-compressed": {"update": "residual", "token_compression": 2},
    "plain-rotary": {"update": "plain", "positions": "rotary", "norm": "none", "activation": "tanh"},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def build(options: dict[str, Any], length: int = LENGTH) -> Any:
    """In double precision, with random numbers for everything that starts at a special value."""
    torch.manual_seed(0)
    spec = HistoryEncoderSpec(**{"width": 16, "attention_heads": 2, "hidden": 10, **options})
    encoder = spec.build(spaces.Box(-1, 1, (length, FEATURES))).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return encoder


def batch(rows: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randn(rows, length, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# A slow, obvious copy: one history, one token and one head at a time, with explicit matrices


def reference(encoder: Any, spec: HistoryEncoderSpec, history: Tensor) -> Tensor:
    states = [encoder.stem.weight @ token + encoder.stem.bias for token in history]
    if spec.positions == "learned":
        states = [state + encoder.positions[index] for index, state in enumerate(states)]
    for block in encoder.blocks:
        norm, kernel = block.norm, None
        if spec.token_compression is not None:
            kernel, norm = block.norm[0].kernel, block.norm[1]
        contexts = [norm(compressed(states, token, kernel)) for token in range(len(states))]
        attends = hasattr(block.sublayer, "qkv")
        found = [
            attended(block.sublayer, contexts[: token + 1], spec) if attends else block.sublayer(contexts[token])
            for token in range(len(states))
        ]
        states = [
            updated(block, spec, state, context, h) for state, context, h in zip(states, contexts, found, strict=True)
        ]
    result: Tensor = encoder.norm(states[-1])
    return result


def compressed(states: list[Tensor], token: int, kernel: Tensor | None) -> Tensor:
    if kernel is None:
        return states[token]
    size = kernel.shape[1]
    taps = [torch.diag(kernel[:, size - 1 - back]) @ states[token - back] for back in range(min(size, token + 1))]
    return torch.stack(taps).sum(0)


def attended(attention: Any, contexts: list[Tensor], spec: HistoryEncoderSpec) -> Tensor:
    """The output for the last of these tokens."""
    width, heads = spec.width, spec.attention_heads
    parts = [attention.qkv.weight @ context + attention.qkv.bias for context in contexts]
    mixed = []
    for head in range(heads):
        own = slice(head * width // heads, (head + 1) * width // heads)
        queries, keys, values = (
            [part[start * width : (start + 1) * width][own] for part in parts] for start in range(3)
        )
        if spec.positions == "rotary":
            queries, keys = (
                [rotation(at, width // heads) @ x for at, x in enumerate(each)] for each in (queries, keys)
            )
        scores = torch.stack([queries[-1] @ key / math.sqrt(width // heads) for key in keys])
        weights = scores.exp() / scores.exp().sum()
        mixed.append(torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(0))
    return attention.out.weight @ torch.cat(mixed) + attention.out.bias  # type: ignore[no-any-return]


def rotation(position: int, width: int) -> Tensor:
    matrix = torch.eye(width, dtype=torch.float64)
    for pair in range(width // 2):
        angle = position * 10_000.0 ** (-pair / (width // 2))
        i, j = pair, pair + width // 2
        matrix[i, i], matrix[i, j] = math.cos(angle), -math.sin(angle)
        matrix[j, i], matrix[j, j] = math.sin(angle), math.cos(angle)
    return matrix


def updated(block: Any, spec: HistoryEncoderSpec, state: Tensor, context: Tensor, h: Tensor) -> Tensor:
    if spec.update != "delta":
        return h if spec.update == "plain" else state + h
    heads = block.heads
    width = spec.width // heads
    written = block.write.weight @ context + block.write.bias
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        k = h[own] / torch.sqrt(h[own] @ h[own] + spec.eps**2)
        beta = (2.0 if spec.beta_max is None else spec.beta_max) * torch.sigmoid(written[head])
        operator = torch.eye(width, dtype=torch.float64) - beta * torch.outer(k, k)
        parts.append(operator @ state[own] + beta * written[heads + head] * k)
    return torch.cat(parts)


@variants
def test_features_and_gradients_are_those_of_explicit_matrices(options: dict[str, Any]) -> None:
    encoder = build(options)
    spec = HistoryEncoderSpec(**{"width": 16, "attention_heads": 2, "hidden": 10, **options})
    histories = batch()
    features = encoder(histories)
    expected = torch.stack([reference(encoder, spec, history) for history in histories])
    assert torch.allclose(features, expected, atol=1e-10)
    weight = torch.randn_like(features)
    parameters = list(encoder.parameters())
    found, wanted = (torch.autograd.grad((each * weight).sum(), parameters) for each in (features, expected))
    for (name, _), one, other in zip(encoder.named_parameters(), found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-9), name
        assert one.abs().max() > 0, name


@variants
def test_no_token_changes_the_state_of_an_earlier_one(options: dict[str, Any]) -> None:
    encoder = build({**options, "depth": 2})
    encoder.reads_newest_at_last = False
    states: list[list[Tensor]] = [[], []]
    for index in range(2):
        hooks = [
            block.register_forward_hook(lambda *given, kept=states[index]: kept.append(given[-1]))
            for block in encoder.blocks
        ]
        histories = batch()
        histories[:, 2] += index  # the third of four
        encoder(histories)
        for hook in hooks:
            hook.remove()
    for before, after in zip(*states, strict=True):
        changed = (before != after).any(-1)
        assert not changed[:, :2].any()
        assert changed[:, 2:].all()


@pytest.mark.parametrize("options", [{}, {"update": "residual", "positions": "rotary"}])
def test_the_last_block_gives_the_same_features_from_the_newest_token_alone(options: dict[str, Any]) -> None:
    encoder = build(options)
    features = encoder(batch())
    assert encoder.reads_newest_at_last
    encoder.reads_newest_at_last = False
    assert torch.allclose(encoder(batch()), features, atol=1e-12)


@variants
def test_a_history_of_one_observation_attends_to_itself(options: dict[str, Any]) -> None:
    encoder = build(options, length=1)
    spec = HistoryEncoderSpec(**{"width": 16, "attention_heads": 2, "hidden": 10, **options})
    histories = batch(length=1)
    expected = torch.stack([reference(encoder, spec, history) for history in histories])
    assert torch.allclose(encoder(histories), expected, atol=1e-10)


def test_attention_has_second_derivatives() -> None:
    """TRPO differentiates twice."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(3, 2, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]
    assert torch.autograd.gradgradcheck(causal_attention, given)


def test_rotated_products_depend_on_the_distance_only() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(4, dtype=torch.float64, generator=generator).expand(5, 4) for _ in range(2))
    products = rotated(q) @ rotated(k).t()
    for distance in range(5):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal))
    assert products[0].unique().numel() == 5


def test_a_token_compressor_starts_as_the_identity_and_is_a_causal_depthwise_convolution() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3)
    compressor = TokenCompressor(3, 4)
    assert torch.equal(compressor(x), x)
    nn.init.normal_(compressor.kernel)
    padded = functional.pad(x.transpose(1, 2), (3, 0))
    expected = functional.conv1d(padded, compressor.kernel.unsqueeze(1), groups=3).transpose(1, 2)
    assert torch.allclose(compressor(x), expected, atol=1e-6)


# What a policy makes of it


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_gates_and_compressors_start_as_they_should_in_a_policy(algorithm: Any) -> None:
    """PPO initialises every Linear again."""
    options = {"kind": "history", "width": 16, "beta_init": 0.3, "token_compression": 2}
    model = make(BY_ALGORITHM[algorithm], options)
    for encoder in encoders(model.policy).values():
        assert encoder.gated_blocks()
        for block in encoder.gated_blocks():
            state = torch.randn(3, 4, 16)
            record = block.observe(state, block(state))  # type: ignore[operator]
            assert record.beta.shape == (12, 1)
            assert torch.allclose(record.beta, torch.tensor(0.3))
            [(write, rows)] = gate_rows(block).items()
            assert (write.weight[rows] == 0).all()


def test_a_block_shows_its_tokens_as_rows() -> None:
    encoder: Encoder = build({"heads": 2})
    state = torch.randn(3, LENGTH, 16, dtype=torch.float64)
    block: Any = encoder.gated_blocks()[0]
    record = block.observe(state, block(state))
    k, source = block.direction(state)
    _, beta = block.value_and_gate(source)
    assert torch.equal(record.beta.view(3, LENGTH, 2), beta.squeeze(-1))
    assert torch.equal(record.k.view(3, LENGTH, 2, 8), k)
    moved = (block(state) - state).norm(dim=-1) / state.norm(dim=-1)
    assert torch.allclose(record.update_ratio.view(3, LENGTH), moved)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"attention_heads": 3},
            "encoder.attention_heads: 3 heads do not divide width 64; use one of 1, 2, 4, ",
        ),
        (
            {"positions": "rotary", "width": 4, "attention_heads": 4},
            "encoder.positions: rotary turns pairs of features",
        ),
        ({"heads": 5}, "encoder.heads: 5 heads do not divide width 64"),
        ({"beta_init": 2.0}, "encoder.beta_init: expected beta_init strictly between 0 and beta_max = 2"),
        ({"update": "residual", "beta_init": 0.5}, "encoder.beta_init: beta_init has no effect with update residual"),
        ({"update": "lerp"}, "encoder.update: "),
        ({"token_compression": 1}, "encoder.token_compression: "),
        ({"norm": "batch_renorm"}, "encoder.norm: "),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_encoder({"kind": "history", **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sizes_of_the_delta_and_the_residual_encoder_can_be_made_equal() -> None:
    delta, residual = HistoryEncoderSpec(), HistoryEncoderSpec(update="residual")
    space = spaces.Box(-1, 1, (16, 5))
    sizes = [sum(p.numel() for p in spec.build(space).parameters()) for spec in (delta, residual, delta.scaled(0.94))]
    assert sizes[0] > sizes[1]
    assert abs(sizes[2] / sizes[1] - 1) < 0.01
    assert all(spec.least_weights < size for spec, size in zip((delta, residual), sizes, strict=False))
