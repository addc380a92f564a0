"""Torsos: values, gradients, parameter names, and use as PyTorch modules."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from reference import SMALL, STACKS, WRITING_OPTIONS, StackSpec, name_of, scramble, weights_of
from torch import Tensor, nn

from deltarl import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, Torso
from deltarl.torsos import DeltaBlock, HyperTorsoSpec, undecayed_parameters

IN_FEATURES = 3
SHALLOW: dict[str, Any] = {**SMALL, "depth": 1}
COMPILED: list[StackSpec] = [
    DeltaTorsoSpec(**SHALLOW),
    DeltaTorsoSpec(**SHALLOW, heads=2, channels=3, gate_layers=2, value="sigmoid", direction="generator"),
    DeltaTorsoSpec(**SHALLOW, gate="fixed", norm="rms"),
    DeltaTorsoSpec(**SHALLOW, update="write_only", norm="batch_renorm"),
    DeltaTorsoSpec(**SHALLOW, update="additive", heads=2),
    DeltaTorsoSpec(**SHALLOW, update="lerp"),
    ResidualTorsoSpec(**SHALLOW),
    PlainTorsoSpec(**SHALLOW),
]
stacks = pytest.mark.parametrize("spec", STACKS, ids=name_of)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def gradients(torso: Callable[[Tensor], Tensor], module: nn.Module, features: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of a fixed function of it by parameter."""
    module.zero_grad(set_to_none=True)
    out = torso(features)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    (out * weight).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    return {"out": out.detach(), **{name: p.grad.clone() for name, p in module.named_parameters()}}


@stacks
def test_a_torso_has_the_values_of_its_formula(spec: StackSpec) -> None:
    torso = scramble(Torso(IN_FEATURES, spec))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    torch.testing.assert_close(torso(features), reference.torso(weights_of(torso), spec, features))


@stacks
def test_a_torso_maps_features_to_its_width_in_any_batch_shape(spec: StackSpec) -> None:
    torso = Torso(IN_FEATURES, spec).double().eval()
    features = torch.randn(6, IN_FEATURES, dtype=torch.float64)
    out = torso(features)
    assert out.shape == (6, spec.width)
    torch.testing.assert_close(torso(features[:1]), out[:1])
    torch.testing.assert_close(torso(features.unflatten(0, (2, 3))), out.unflatten(0, (2, 3)))
    assert torso(features[:0]).shape == (0, spec.width)


@stacks
def test_rows_do_not_see_each_other_in_evaluation(spec: StackSpec) -> None:
    torso = scramble(Torso(IN_FEATURES, spec))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    changed = features.clone()
    changed[1:] += 1
    torch.testing.assert_close(torso(changed)[0], torso(features)[0])
    assert not torch.allclose(torso(changed)[1], torso(features)[1])


@stacks
def test_every_parameter_gets_a_gradient(spec: StackSpec) -> None:
    torso = Torso(IN_FEATURES, spec).eval()
    features = torch.randn(32, IN_FEATURES)
    silent = {name for name, gradient in gradients(torso, torso, features).items() if not gradient.any()}
    if isinstance(spec, DeltaTorsoSpec) and (spec.update, spec.gate_layers) == ("residual_erase", 2):
        # The first layer of a gate has no gradient until the last one has left 0.
        silent = {name for name in silent if ".write." not in name}
    assert not silent


@pytest.mark.parametrize("options", [o for o in WRITING_OPTIONS if o.get("gate") != "fixed"], ids=name_of)
def test_every_row_of_the_gate_gets_a_gradient_though_its_last_weights_start_at_zero(options: dict[str, Any]) -> None:
    torso = Torso(IN_FEATURES, DeltaTorsoSpec(**SMALL, **options))
    features = torch.randn(32, IN_FEATURES)
    for block in torso.blocks:
        assert isinstance(block, DeltaBlock)
        last = block.write.weight[: block.gate_width] if block.gate_out is None else block.gate_out.weight
        assert not last.any()
    before = gradients(torso, torso, features)
    torch.optim.SGD(torso.parameters(), lr=1e-2).step()
    after = gradients(torso, torso, features)
    for path, block in torso.blocks.named_children():
        write = f"blocks.{path}.write.weight"
        if block.gate_out is not None:
            assert before[f"blocks.{path}.gate_out.weight"].all()
        else:
            assert before[write].all()
        assert after[write].all()


@stacks
def test_zero_features_give_finite_values_and_gradients(spec: StackSpec) -> None:
    torso = Torso(IN_FEATURES, spec)
    features = torch.randn(4, IN_FEATURES)
    features[1:3] = 0
    assert all(item.isfinite().all() for item in gradients(torso, torso, features).values())


@stacks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_low_precision_gives_finite_values_and_gradients(spec: StackSpec, dtype: torch.dtype, scale: float) -> None:
    torso = Torso(IN_FEATURES, spec).to(dtype)
    found = gradients(torso, torso, (scale * torch.randn(4, IN_FEATURES)).to(dtype))
    assert {item.dtype for item in found.values()} == {dtype}
    assert all(item.isfinite().all() for item in found.values())


@pytest.mark.parametrize("spec", [s for s in STACKS if s.norm != "batch_renorm"], ids=name_of)
@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_no_and_of_one_row_train(spec: StackSpec, rows: int) -> None:
    torso = Torso(IN_FEATURES, spec)
    found = gradients(torso, torso, torch.randn(rows, IN_FEATURES))
    assert found["out"].shape == (rows, spec.width)
    assert all(item.isfinite().all() for item in found.values())


@pytest.mark.parametrize("kind", [DeltaTorsoSpec, ResidualTorsoSpec, PlainTorsoSpec])
def test_batch_renorm_trains_on_batches_and_evaluates_single_rows(kind: type[StackSpec]) -> None:
    torso = Torso(IN_FEATURES, kind(**SMALL, norm="batch_renorm"))
    with pytest.raises(ValueError, match="at least 2 rows in training mode, got 1"):
        torso(torch.randn(1, IN_FEATURES))
    before = copy.deepcopy(dict(torso.named_buffers()))
    torso(torch.randn(8, IN_FEATURES))
    still = {name for name, buffer in torso.named_buffers() if torch.equal(buffer, before[name])}
    assert not still
    assert torso.eval()(torch.randn(1, IN_FEATURES)).isfinite().all()


@stacks
def test_names_suit_target_networks_and_policy_optimisers(spec: StackSpec) -> None:
    torso = Torso(IN_FEATURES, spec)
    assert not [name for name, _ in torso.named_parameters() if "value" in name]
    buffers = {name.rsplit(".", 1)[-1] for name, _ in torso.named_buffers()}
    assert {name for name in buffers if not name.startswith("running_")} <= {"steps"}


@pytest.mark.parametrize("norm", ["layer", "rms", "batch_renorm"])
def test_the_kinds_share_stem_norms_and_sublayers(norm: str) -> None:
    delta, residual, plain = (
        {name: item.shape for name, item in Torso(IN_FEATURES, kind(**SMALL, norm=norm)).state_dict().items()}
        for kind in (DeltaTorsoSpec, ResidualTorsoSpec, PlainTorsoSpec)
    )
    assert residual == plain
    assert {name: shape for name, shape in delta.items() if ".write." not in name} == residual
    assert set(delta) - set(residual) == {f"blocks.{i}.write.{name}" for i in range(2) for name in ("weight", "bias")}


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("heads", [1, None])
def test_a_head_costs_twice_the_width_of_parameters(width: int, depth: int, heads: int | None) -> None:
    spec = DeltaTorsoSpec(width=width, depth=depth, **({} if heads is None else {"heads": heads}))
    delta, residual = (
        sum(p.numel() for p in Torso(17, each).parameters())
        for each in (spec, ResidualTorsoSpec(width=width, depth=depth))
    )
    assert delta - residual == depth * spec.heads * 2 * (width + 1)
    assert delta <= (1.01 if heads == 1 else 1.035) * residual


@pytest.mark.parametrize("in_features", [1, 3, 20])
def test_the_stem_starts_orthogonal_with_zero_bias(in_features: int) -> None:
    stem = Torso(in_features, ResidualTorsoSpec(**SMALL)).stem
    weight = stem.weight if in_features > 8 else stem.weight.T
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)))
    assert not stem.bias.any()


def test_a_delta_torso_with_equal_channels_starts_as_copies_of_the_stem() -> None:
    torso = Torso(IN_FEATURES, DeltaTorsoSpec(**SMALL, channels=3, expand="copy"))
    states: list[Tensor] = []
    torso.blocks[0].register_forward_pre_hook(lambda _, arguments: states.append(arguments[0]))
    features = torch.randn(4, IN_FEATURES)
    torso(features)
    torch.testing.assert_close(states[0], torch.stack([torso.stem(features)] * 3, dim=-1))


def test_linear_expansion_gives_each_channel_a_projection_of_its_own() -> None:
    torso = Torso(IN_FEATURES, DeltaTorsoSpec(**SMALL, channels=2, expand="linear"))
    states: list[Tensor] = []
    torso.blocks[0].register_forward_pre_hook(lambda _, arguments: states.append(arguments[0]))
    features = torch.randn(4, IN_FEATURES)
    torso(features)
    for channel, projection in enumerate(torso.stem.weight.split(8)):
        torch.testing.assert_close(states[0][..., channel], features @ projection.T)
        torch.testing.assert_close(projection.T @ projection, torch.eye(IN_FEATURES))


@stacks
def test_equal_seeds_give_equal_torsos_and_other_seeds_others(spec: StackSpec) -> None:
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(Torso(IN_FEATURES, spec).state_dict())
    assert all(torch.equal(weights[0][name], item) for name, item in weights[1].items())
    assert not torch.equal(weights[0]["stem.weight"], weights[2]["stem.weight"])
    sublayer = next(name for name in weights[0] if name.startswith("blocks.0.sublayer.") and name.endswith("weight"))
    assert not torch.equal(weights[0][sublayer], weights[2][sublayer])


@stacks
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda torso: pickle.loads(pickle.dumps(torso))])
def test_a_copy_is_equal_and_its_own(spec: StackSpec, copied: Callable[[nn.Module], nn.Module]) -> None:
    torso = scramble(Torso(IN_FEATURES, spec))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    before = torso(features)
    twin = copied(torso)
    assert torch.equal(twin(features), before)
    scramble(twin)
    assert not torch.equal(twin(features), before)
    assert torch.equal(torso(features), before)


@stacks
def test_functional_calls_take_everything_from_the_weights_they_are_given(spec: StackSpec) -> None:
    torso, other = (scramble(Torso(IN_FEATURES, spec)) for _ in range(2))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    assert torch.equal(torch.func.functional_call(torso, other.state_dict(), (features,)), other(features))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("spec", COMPILED, ids=name_of)
def test_a_compiled_torso_is_one_graph_with_equal_values_and_gradients(spec: StackSpec) -> None:
    torso = scramble(Torso(IN_FEATURES, spec))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    compiled = torch.compile(torso, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(compiled, torso, features), gradients(torso, torso, features))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("spec", COMPILED, ids=name_of)
def test_inductor_compiles_a_torso_to_equal_values_and_gradients(spec: StackSpec) -> None:
    torso = scramble(Torso(IN_FEATURES, spec))
    features = torch.randn(4, IN_FEATURES, dtype=torch.float64)
    compiled = torch.compile(torso, fullgraph=True)
    torch.testing.assert_close(gradients(compiled, torso, features), gradients(torso, torso, features))


@pytest.mark.parametrize(
    ("spec", "decayed"),
    [
        (ResidualTorsoSpec(**SMALL), set()),
        (PlainTorsoSpec(**SMALL, norm="batch_renorm"), set()),
        (DeltaTorsoSpec(**SMALL), set()),
        (DeltaTorsoSpec(**SMALL, gate_layers=2, norm="rms"), set()),
        (DeltaTorsoSpec(**SMALL, update="lerp"), set()),
        (DeltaTorsoSpec(**SMALL, direction="generator"), {"generator.0.weight", "generator.2.weight"}),
        (HyperTorsoSpec(**SMALL, channels=2), set()),
        (HyperTorsoSpec(**SMALL, channels=2, connections="dynamic"), {"connections.read.weight"}),
    ],
    ids=lambda value: name_of(value) if not isinstance(value, set) else "",
)
def test_weight_decay_leaves_biases_norms_and_gates_alone(spec: StackSpec, decayed: set[str]) -> None:
    """This includes the constants of hyper-connections; weights that read the state decay to the constants."""
    torso = Torso(IN_FEATURES, spec)
    in_blocks = {"sublayer.0.weight", "sublayer.2.weight", *decayed}
    expected = {"stem.weight", *(f"blocks.{i}.{name}" for i in range(spec.depth) for name in in_blocks)}
    assert {name for name, _ in torso.named_parameters()} - undecayed_parameters(torso) == expected
    nested = nn.ModuleDict({"actor": torso})
    assert undecayed_parameters(nested) == {f"actor.{name}" for name in undecayed_parameters(torso)}


def test_a_block_alone_names_its_undecayed_parameters_without_a_prefix() -> None:
    names = undecayed_parameters(DeltaBlock(DeltaTorsoSpec(**SMALL, gate_layers=2)))
    assert {"write.weight", "write.bias", "gate_out.weight", "gate_out.bias", "norm.weight"} <= names
