"""The paper's formulas, sample by sample with explicit matrices, and the specs compared with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from deltarl import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec

StackSpec = DeltaTorsoSpec | PlainTorsoSpec | ResidualTorsoSpec
Weights = Mapping[str, Tensor]

SMALL: dict[str, Any] = {"width": 8, "hidden": 12, "depth": 2}
WRITING_OPTIONS: list[dict[str, Any]] = [
    {},
    {"heads": 2},
    {"channels": 3},
    {"channels": 3, "expand": "linear", "output_scale": 0.3},
    {"head_width": 4, "channels": 3},
    {"beta_init": 0.3, "beta_max": 1.0},
    {"gate": "fixed", "beta_init": 2.0},
    {"gate_layers": 2},
    {"gate_layers": 2, "heads": 2},
    {"value": "sigmoid"},
    {"direction": "generator"},
    {"heads": 2, "channels": 3, "gate_layers": 2, "value": "sigmoid", "direction": "generator"},
    {"update": "write_only"},
    {"update": "write_only", "heads": 2, "channels": 3, "gate": "fixed", "value": "sigmoid"},
]
DELTA_OPTIONS: list[dict[str, Any]] = [
    *WRITING_OPTIONS,
    {"update": "additive"},
    {"update": "additive", "heads": 2, "channels": 3},
    {"update": "lerp"},
    {"update": "lerp", "depth": 3},
    {"update": "residual_erase"},
    {"update": "residual_erase", "heads": 2, "gate_layers": 2, "beta_init": 0.3},
    {"update": "residual_erase", "gate": "fixed", "beta_init": 2.0},
    {"update": "orthogonal"},
    {"sphere": True},
    {"sphere": True, "update": "write_only", "heads": 2, "value_start": 0.5, "direction": "generator"},
    {"direction": "linear", "hidden": 16},
    {"norm": "rms"},
    {"norm": "batch_renorm", "channels": 2},
    {"hidden": 5, "eps": 0.1},
    {"products": 2, "residual_scale": 0.3, "norm_position": "post", "sublayers": 2},
    {"products": 3, "heads": 2, "channels": 3, "gate_layers": 2, "residual_scale": 0.5, "norm_position": "sandwich"},
    {"products": 2, "direction": "generator", "value": "sigmoid", "sublayers": 3, "drop_path": 0.5},
    {"products": 2, "sphere": True, "residual_scale": 0.5},
    {"direction": "linear", "norm_position": "sandwich", "hidden": 16},
    {"update": "residual_erase", "norm": "rms", "norm_position": "sandwich", "residual_scale": 0.5},
    {"update": "orthogonal", "norm": "none", "residual_scale": 0.5, "sublayers": 2},
    {"update": "additive", "residual_scale": 0.5, "channels": 3},
    {"update": "lerp", "norm_position": "post", "drop_path": 0.1},
    *({"activation": name} for name in ("tanh", "gelu", "silu", "elu")),
]
STACKS: list[StackSpec] = [
    *(DeltaTorsoSpec(**{**SMALL, **options}) for options in DELTA_OPTIONS),
    *(spec(**SMALL, norm=norm) for spec in (ResidualTorsoSpec, PlainTorsoSpec) for norm in ("layer", "batch_renorm")),
    ResidualTorsoSpec(**SMALL, init_scale=0.25, output_scale="mlp"),
    ResidualTorsoSpec(**SMALL, norm="none", residual_scale=0.5),
    ResidualTorsoSpec(**SMALL, norm_position="sandwich", sublayers=4, activation="silu"),
    PlainTorsoSpec(**SMALL, norm_position="post", sublayers=2),
]


def name_of(value: Any) -> str:
    """A test's id: the options that a spec or a dict sets."""
    options = value if isinstance(value, dict) else {"kind": value.kind, **value.model_dump(exclude_unset=True)}
    told = {key: item for key, item in options.items() if SMALL.get(key) != item}
    return ",".join(f"{key}={item}" for key, item in told.items()) or "default"


def scramble(module: nn.Module) -> nn.Module:
    """Move every weight and running statistic off its initial value, in float64 and evaluation mode."""
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.add_(0.5 * torch.rand_like(buffer))
    return module


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, still the leaves that gradients reach."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def derivatives_are_right(module: nn.Module, x: Tensor) -> bool:
    """Compare first and second derivatives with finite differences, by the input and all parameters.

    Each check takes one random direction, so its time does not depend on the number of parameters.
    """
    names = [name for name, _ in module.named_parameters()]

    def of_leaves(x: Tensor, *parameters: Tensor) -> Tensor:
        result: Tensor = functional_call(module, dict(zip(names, parameters, strict=True)), (x,))
        return result

    leaves = [x.requires_grad_(), *module.parameters()]
    first, second = (check(of_leaves, leaves, fast_mode=True) for check in (gradcheck, gradgradcheck))
    return first and second


def shortcut(k: Tensor, beta: Tensor) -> Tensor:
    """`A = I - beta k k^T` of one sample."""
    return torch.eye(len(k), dtype=k.dtype) - beta * torch.outer(k, k)


def delta_update(x: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """`A X + beta k v^T` for states `[..., d]` or `[..., d, d_v]`."""
    d, channels = k.shape[-1], v.shape[-1]
    samples = zip(x.reshape(-1, d, channels), k.reshape(-1, d), v.reshape(-1, channels), beta.flatten(), strict=True)
    return torch.stack([shortcut(k, beta) @ X + beta * torch.outer(k, v) for X, k, v, beta in samples]).reshape(x.shape)


def torso(weights: Weights, spec: StackSpec, features: Tensor) -> Tensor:
    """A torso in evaluation mode, `[batch, in_features]` to `[batch, width]`."""
    return torch.stack([_torso(weights, spec, row) for row in features])


def block(weights: Weights, spec: StackSpec, x: Tensor) -> Tensor:
    """A block in evaluation mode, on states `[batch, width]` or `[batch, width, channels]`."""
    return torch.stack([_block(weights, spec, row) for row in x])


def _torso(weights: Weights, spec: StackSpec, features: Tensor) -> Tensor:
    x = _linear(_part(weights, "stem"), features)
    channels = spec.channels if isinstance(spec, DeltaTorsoSpec) else 1
    if channels > 1:
        parts = x.split(spec.width) if spec.expand == "linear" else [x] * channels
        x = torch.stack(tuple(parts), dim=1)
    for index in range(spec.depth):
        x = _block(_part(weights, f"blocks.{index}"), spec, x)
    scale = {None: 1.0, "mlp": 0.5}.get(spec.output_scale, spec.output_scale)
    return scale * _norm(_part(weights, "norm"), spec, _compress(weights, x))


def _block(weights: Weights, spec: StackSpec, x: Tensor) -> Tensor:
    """The state after a block, with the options that all stacks have for its step."""
    new = _formula(weights, spec, x)
    if spec.residual_scale is not None:
        new = x + weights["join.scale"] * (new - x)
    if spec.kind == "delta" and spec.sphere:
        return math.sqrt(spec.width) * new / torch.sqrt(new @ new + spec.eps**2)
    return _norm(_part(weights, "join.norm"), spec, new) if spec.norm_position == "post" else new


def _formula(weights: Weights, spec: StackSpec, x: Tensor) -> Tensor:
    context = _compress(weights, x)
    if spec.norm_position != "post":
        context = _norm(_part(weights, "norm"), spec, context)
    branch = _branch(_part(weights, "sublayer"), spec, context)
    if spec.kind != "delta":
        return branch if spec.kind == "plain" else x + branch
    if spec.update == "lerp":
        rate = _sigmoid(weights["rate_logit"])
        return (1 - rate) * x + rate * branch
    if spec.update == "orthogonal":
        projector = torch.eye(len(x), dtype=x.dtype) - torch.outer(x, x) / (x @ x + spec.eps)
        return x + projector @ branch
    h, source = branch, context
    if spec.direction == "generator":
        h, source = _sublayer(_part(weights, "generator"), spec.activation, context), branch
    states = x.reshape(spec.heads, -1, spec.channels)
    rows = h.reshape(spec.products * spec.heads, -1)
    directions = [part / torch.sqrt(part @ part + spec.eps**2) for part in rows]
    if spec.update == "additive":
        new = [X + torch.outer(k, s) for X, k, s in zip(states, directions, weights["magnitude"], strict=True)]
        return torch.stack(new).reshape(x.shape)
    if spec.update == "residual_erase":
        _, gates = _value_and_gate(weights, spec, source)
        added = h.reshape(spec.heads, -1, 1)
        new = [shortcut(k, beta) @ X + F for X, k, F, beta in zip(states, directions, added, gates, strict=True)]
        return torch.stack(new).reshape(x.shape)
    new = list(states)
    for index, (k, v, beta) in enumerate(zip(directions, *_value_and_gate(weights, spec, source), strict=True)):
        X = new[index % spec.heads]
        kept = X if spec.update == "write_only" else shortcut(k, beta) @ X
        new[index % spec.heads] = kept + beta * torch.outer(k, v)
    return torch.stack(new).reshape(x.shape)


def _value_and_gate(weights: Weights, spec: DeltaTorsoSpec, source: Tensor) -> tuple[Tensor, Tensor]:
    """v `[heads, channels]` and beta `[heads]`; in `write`, the gate's rows come first."""
    has_rows = "write.weight" in weights
    rows = _linear(_part(weights, "write"), source) if has_rows else source.new_empty(0)
    values = 0 if spec.update == "residual_erase" else spec.products * spec.heads * spec.channels
    gate_rows = len(rows) - values
    v = rows[gate_rows:].reshape(-1, spec.channels)
    if spec.sphere:
        radius = math.sqrt(spec.width / spec.heads)
        v = radius * torch.tanh(v / radius)
    if spec.value == "sigmoid":
        v = 4 * _sigmoid(v)
    if spec.gate == "fixed":
        return v, torch.full((spec.products * spec.heads,), spec.beta_init, dtype=v.dtype)
    logits = rows[:gate_rows]
    if spec.gate_layers == 2:
        logits = _linear(_part(weights, "gate_out"), torch.tanh(logits))
    return v, spec.beta_max * _sigmoid(logits)


def _part(weights: Weights, path: str) -> Weights:
    return {name.removeprefix(f"{path}."): item for name, item in weights.items() if name.startswith(f"{path}.")}


def _linear(weights: Weights, x: Tensor) -> Tensor:
    return weights["weight"] @ x + weights["bias"]


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def _activation(name: str, x: Tensor) -> Tensor:
    return {
        "relu": torch.where(x > 0, x, 0 * x),
        "tanh": torch.tanh(x),
        "gelu": x / 2 * (1 + torch.erf(x / math.sqrt(2))),
        "silu": x * _sigmoid(x),
        "elu": torch.where(x > 0, x, torch.exp(x) - 1),
    }[name]


def _sublayer(weights: Weights, activation: str, x: Tensor) -> Tensor:
    if "weight" in weights:  # a single Linear
        return _linear(weights, x)
    return _linear(_part(weights, "2"), _activation(activation, _linear(_part(weights, "0"), x)))


def _branch(weights: Weights, spec: StackSpec, x: Tensor) -> Tensor:
    """F(c), with several sublayers and a norm after it if the spec asks for them."""
    is_linear = spec.kind == "delta" and spec.direction == "linear"
    if spec.sublayers == 1:
        after = 1 if is_linear else 3
        x = _sublayer(
            _part(weights, "0") if is_linear and spec.norm_position == "sandwich" else weights, spec.activation, x
        )
    else:
        step = 2 if spec.norm == "none" else 3
        after = step * spec.sublayers
        for first in range(0, after, step):
            x = _linear(_part(weights, str(first)), x)
            x = _norm(_part(weights, str(first + 1)), spec, x) if step == 3 else x
            x = _activation(spec.activation, x)
    return _norm(_part(weights, str(after)), spec, x) if spec.norm_position == "sandwich" else x


def _compress(weights: Weights, x: Tensor) -> Tensor:
    if x.ndim == 1:
        return x
    return torch.stack([row @ mix for row, mix in zip(x, weights["compress.kernel"], strict=True)])


def _norm(weights: Weights, spec: StackSpec, x: Tensor) -> Tensor:
    if spec.norm == "none":
        return x
    if spec.norm == "rms":
        return x / torch.sqrt((x**2).mean() + spec.eps) * weights["weight"]
    if spec.norm == "layer":
        centred = x - x.mean()
        return centred / torch.sqrt((centred**2).mean() + spec.eps) * weights["weight"] + weights["bias"]
    scaled = (x - weights["running_mean"]) / torch.sqrt(weights["running_var"] + spec.eps)
    return scaled * weights["scale"] + weights["bias"]
