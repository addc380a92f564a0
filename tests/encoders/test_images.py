"""Encoders of images: the Delta form against explicit matrices, and every algorithm that takes images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.envs import FakeImageEnv
from torch import Tensor

from deltarl import ConfigError, GateCallback
from deltarl.encoders import ConvEncoderSpec, ImpalaEncoderSpec, parse_encoder
from deltarl.encoders.encoder import Encoder
from deltarl.gates import Batch, read_record
from deltarl.gates.encoders import encoders, measure_encoders
from deltarl.torsos.block import gate_rows
from tests.policies.matrix import SUBJECTS, actions, make, sample_observations

BY_ALGORITHM = {subject.algorithm: subject for subject in SUBJECTS}
SMALL: dict[str, dict[str, Any]] = {
    "conv": {"kind": "conv", "channels": [4, 8], "heads": 1, "width": 8},
    "impala": {"kind": "impala", "channels": [6, 6], "width": 8},
}
TORSO = {"kind": "delta", "width": 8, "depth": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "delta": {"heads": 2, "beta_init": 0.7},
    "delta-deep": {"heads": 1, "depth": 2, "norm": "rms", "hidden_scale": 0.75},
    "residual": {"update": "residual"},
    "plain": {"update": "plain", "norm": "none", "activation": "tanh"},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def build(options: dict[str, Any], size: tuple[int, int, int] = (2, 9, 6)) -> Any:
    """In double precision, with random numbers for everything that starts at a special value."""
    torch.manual_seed(0)
    encoder = spec_of(options).build(spaces.Box(0, 1, size)).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return encoder


def spec_of(options: dict[str, Any]) -> ConvEncoderSpec:
    return ConvEncoderSpec(**{"channels": (8, 12), "width": 5, **options})


# A slow, obvious copy: one position at a time, with explicit matrices. Maps are {(row, column): vector}.

Map = dict[tuple[int, int], Tensor]


def convolved(layer: Any, pixels: Map) -> Map:
    height, width = (max(place) + 1 for place in zip(*pixels, strict=True))
    size, stride, pad = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    found: Map = {}
    for row in range((height + 2 * pad - size) // stride + 1):
        for column in range((width + 2 * pad - size) // stride + 1):
            total = layer.bias
            for i in range(size):
                for j in range(size):
                    place = (row * stride + i - pad, column * stride + j - pad)
                    if place in pixels:
                        total = total + layer.weight[:, :, i, j] @ pixels[place]
            found[row, column] = total
    return found


def rewritten(block: Any, spec: ConvEncoderSpec, state: Map) -> Map:
    contexts = {place: block.norm(x) for place, x in state.items()}
    inner = {place: block.sublayer.activation(x) for place, x in convolved(block.sublayer.first, contexts).items()}
    found = convolved(block.sublayer.second, inner)
    return {place: updated(block, spec, x, contexts[place], found[place]) for place, x in state.items()}


def updated(block: Any, spec: ConvEncoderSpec, x: Tensor, context: Tensor, h: Tensor) -> Tensor:
    if spec.update != "delta":
        return h if spec.update == "plain" else x + h
    written = block.write.weight @ context + block.write.bias
    parts = []
    for head, (own, direction) in enumerate(zip(x.chunk(block.heads), h.chunk(block.heads), strict=True)):
        k = direction / torch.sqrt(direction @ direction + spec.eps**2)
        beta = 2 * torch.sigmoid(written[head])
        operator = torch.eye(len(k), dtype=k.dtype) - beta * torch.outer(k, k)
        parts.append(operator @ own + beta * written[block.heads + head] * k)
    return torch.cat(parts)


def reference(encoder: Any, spec: ConvEncoderSpec, image: Tensor) -> Tensor:
    _, height, width = image.shape
    state = convolved(encoder.stem, {(i, j): image[:, i, j] for i in range(height) for j in range(width)})
    for index, stage in enumerate(encoder.stages):
        if index:
            state = convolved(encoder.downs[index - 1], state)
        for block in stage:
            state = rewritten(block, spec, state)
    read = torch.cat([encoder.norm(state[place]) for place in sorted(state)])
    result: Tensor = encoder.activation(encoder.out.weight @ read + encoder.out.bias)
    return result


@variants
def test_features_and_gradients_are_those_of_explicit_matrices(options: dict[str, Any]) -> None:
    encoder, spec = build(options), spec_of(options)
    images = torch.rand(2, 2, 9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features = encoder(images)
    expected = torch.stack([reference(encoder, spec, image) for image in images])
    assert torch.allclose(features, expected, atol=1e-10)
    weight = torch.randn_like(features)
    parameters = list(encoder.parameters())
    found, wanted = (torch.autograd.grad((each * weight).sum(), parameters) for each in (features, expected))
    for (name, _), one, other in zip(encoder.named_parameters(), found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-9), name
        assert one.abs().max() > 0, name


def test_impala_has_the_layers_of_its_paper() -> None:
    """Figure 3: three stages of a convolution, pooling and two residual blocks, then a layer of 256."""
    encoder = ImpalaEncoderSpec().build(spaces.Box(0, 255, (3, 72, 96), np.uint8))
    blocks = sum(9 * one * other + other for one, other in ((3, 16), (16, 32), (32, 32)))
    blocks += 4 * sum(9 * channels**2 + channels for channels in (16, 32, 32))
    assert sum(p.numel() for p in encoder.parameters()) == blocks + 9 * 12 * 32 * 256 + 256
    assert encoder(torch.rand(2, 3, 72, 96)).shape == (2, 256)
    step = encoder.stages[2]
    x = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        step.second.weight.zero_()
        step.second.bias.zero_()
    assert torch.equal(step(x), x)


# In policies


@dataclass(frozen=True)
class Trained:
    """A trained model, with the weights of its encoders from before training."""

    model: Any
    before: dict[str, dict[str, Tensor]]


def encoders_in(policy: Any) -> dict[str, Encoder]:
    return {name: module for name, module in policy.named_modules() if isinstance(module, Encoder)}


def cases() -> list[Any]:
    """By default each algorithm that takes images has one of the encoders; the others are slow."""
    return [
        pytest.param((subject, kind), id=f"{subject.name}-{kind}", marks=[] if (i + j) % 2 else pytest.mark.slow)
        for i, subject in enumerate(each for each in SUBJECTS if "image" in each.observations)
        for j, kind in enumerate(SMALL)
    ]


@pytest.fixture(scope="module", params=cases())
def trained(request: pytest.FixtureRequest) -> Trained:
    subject, kind = request.param
    model = make(subject, "image", torso=TORSO, encoder=SMALL[kind])
    before = {
        path: {name: tensor.detach().clone() for name, tensor in each.named_parameters()}
        for path, each in encoders_in(model.policy).items()
    }
    return Trained(model.learn(32), before)


def test_training_reaches_every_encoder(trained: Trained) -> None:
    found = encoders_in(trained.model.policy)
    assert found
    for path, encoder in found.items():
        parameters = dict(encoder.named_parameters())
        assert all(parameter.isfinite().all() for parameter in parameters.values())
        changed = [not torch.equal(parameter, trained.before[path][name]) for name, parameter in parameters.items()]
        assert all(changed), path


def test_a_reloaded_model_and_a_reloaded_policy_act_the_same(trained: Trained, tmp_path: Path) -> None:
    model = trained.model
    batch = sample_observations(model)
    model.save(tmp_path / "model.zip")
    model.policy.save(tmp_path / "policy.zip")
    for each in (
        type(model).load(tmp_path / "model.zip", device="cpu"),
        type(model.policy).load(tmp_path / "policy.zip", device="cpu"),
    ):
        assert np.array_equal(actions(each, batch), actions(model, batch))


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_gates_start_as_they_should_at_every_position_and_are_measured(algorithm: Any) -> None:
    """PPO initialises every convolution and Linear again."""
    model = make(BY_ALGORITHM[algorithm], "image", torso=TORSO, encoder={**SMALL["conv"], "beta_init": 0.3})
    for encoder in encoders(model.policy).values():
        for block in encoder.gated_blocks():
            [(write, rows)] = gate_rows(block).items()
            assert (write.weight[rows] == 0).all()
    batch = torch.as_tensor(sample_observations(model))
    given = torch.zeros(len(batch), model.action_space.shape[0]) if algorithm is SAC else None
    records = measure_encoders(model.policy, Batch(batch, given))
    assert set(records) == set(encoders(model.policy))
    for record in records.values():
        first, second = (block.beta for block in record.blocks)
        assert first is not None
        assert second is not None
        assert (len(first), len(second)) == (5 * 10 * 10, 5 * 5 * 5)  # 36 pixels through the stem, then halved
        assert torch.allclose(first, torch.tensor(0.3))
        assert record.beta_by_token() is None


def test_stages_with_different_numbers_of_heads_are_recorded(tmp_path: Path) -> None:
    encoder = {"kind": "conv", "channels": [4, 32], "width": 8}
    model = make(BY_ALGORITHM[PPO], "image", torso=TORSO, encoder=encoder)
    model.learn(16, callback=GateCallback(every=16, rows=8, path=tmp_path / "gates.npz"))
    counts = read_record(tmp_path / "gates.npz")["gates/encoder/beta_counts"]
    assert counts.shape[1:3] == (2, 2)  # blocks, heads
    assert (counts.sum(-1) > 0)[0].tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("shape", [(3, 40, 37), (40, 37, 3)])
def test_images_with_channels_first_or_last_are_read(kind: str, shape: tuple[int, ...]) -> None:
    env = FakeImageEnv(screen_height=40, screen_width=37, n_channels=3, discrete=False, channel_first=shape[0] == 3)
    assert env.observation_space.shape == shape
    options = {**BY_ALGORITHM[PPO].options, "n_steps": 8}
    kwargs = {"torso": TORSO, "encoder": SMALL[kind]}
    model = PPO("DeltaCnnPolicy", env, policy_kwargs=kwargs, device="cpu", seed=0, **options).learn(8)
    assert model.observation_space.shape == (3, 40, 37)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 9, 64, 84])
def test_images_of_every_size_are_read(kind: str, size: int) -> None:
    for height, width in ((size, size), (1, size), (size, 1)):
        encoder = parse_encoder(SMALL[kind]).build(spaces.Box(0, 255, (3, height, width), np.uint8))
        assert encoder is not None
        assert encoder(torch.rand(2, 3, height, width)).shape == (2, 8)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("observation", ["Box", "Dict"])
def test_observations_that_are_no_images_are_refused(kind: str, observation: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^encoder: {kind} reads images, Box observations \[C, H, W\]; got "
    ) as caught:
        make(BY_ALGORITHM[SAC], observation, encoder=SMALL[kind])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "encoder.heads: 3 heads do not divide width 32"),
        ({"channels": []}, "encoder.channels: "),
        ({"channels": [32, 2]}, "encoder.channels.1: input should be greater than or equal to 4"),
        ({"update": "plain", "heads": 2}, "encoder.heads: heads has no effect with update plain; leave it out"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_encoder({"kind": "conv", **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sizes_of_the_delta_and_the_residual_encoder_can_be_made_equal() -> None:
    delta, residual = ConvEncoderSpec(), ConvEncoderSpec(update="residual")
    space = spaces.Box(0, 255, (3, 84, 84), np.uint8)
    sizes = [sum(p.numel() for p in spec.build(space).parameters()) for spec in (delta, residual, delta.scaled(0.99))]
    assert sizes[2] < sizes[0]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02
    assert all(spec.least_weights < size for spec, size in zip((delta, residual), sizes, strict=False))
