"""Blocks compared with their formulas, and their initialisation."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import torch
from reference import DELTA_OPTIONS, SMALL, STACKS, StackSpec, derivatives_are_right, name_of, scramble, weights_of

from deltarl import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, Torso
from deltarl.torsos import DeltaBlock, ResidualBlock
from deltarl.torsos.delta_blocks import AdditiveBlock, LerpBlock
from deltarl.torsos.erasing_blocks import ResidualEraseBlock
from deltarl.torsos.layers import ACTIVATIONS, BatchRenorm, ChannelCompressor, Sublayer, make_norm
from deltarl.torsos.residual_blocks import PlainBlock

GATES: list[dict[str, Any]] = [
    {},
    {"heads": 2},
    {"gate_layers": 2},
    {"gate_layers": 2, "heads": 2},
    {"channels": 3},
    {"direction": "generator"},
    {"update": "write_only"},
    {"gate": "fixed"},
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def state_for(spec: StackSpec, batch: int = 4) -> torch.Tensor:
    channels = spec.channels if isinstance(spec, DeltaTorsoSpec) else 1
    shape = (batch, spec.width) if channels == 1 else (batch, spec.width, channels)
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("spec", STACKS, ids=name_of)
def test_a_block_has_the_values_and_gradients_of_its_formula(spec: StackSpec) -> None:
    block = scramble(spec.make_block())
    x = state_for(spec).requires_grad_()
    leaves = [x, *block.parameters()]
    expected = reference.block(weights_of(block), spec, x)
    torch.testing.assert_close(block(x), expected)
    direction = torch.randn_like(x)
    ours, theirs = (torch.autograd.grad((out * direction).sum(), leaves) for out in (block(x), expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("spec", STACKS, ids=name_of)
def test_first_and_second_derivatives_of_a_block_are_right(spec: StackSpec) -> None:
    assert derivatives_are_right(scramble(spec.make_block()), state_for(spec, batch=2))


def test_the_residual_block_adds_what_the_plain_block_computes() -> None:
    residual, plain = ResidualBlock(ResidualTorsoSpec(**SMALL)), PlainBlock(PlainTorsoSpec(**SMALL))
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(4, 8)
    torch.testing.assert_close(plain(x), plain.sublayer(plain.norm(x)))
    torch.testing.assert_close(residual(x), x + plain(x))


@pytest.mark.parametrize("options", GATES, ids=name_of)
@pytest.mark.parametrize(("beta_init", "beta_max"), [(1.0, 2.0), (0.05, 2.0), (1.9, 2.0), (0.5, 1.0)])
def test_every_gate_starts_at_beta_init_whatever_the_input(
    options: dict[str, Any], beta_init: float, beta_max: float
) -> None:
    torso = Torso(3, DeltaTorsoSpec(**SMALL, **options, beta_init=beta_init, beta_max=beta_max))
    for block in torso.blocks:
        assert isinstance(block, DeltaBlock)
        v, beta = block.value_and_gate(100 * torch.randn(16, 8))
        assert v.shape == (16, block.heads, block.channels)
        torch.testing.assert_close(beta, torch.full((16, block.heads, 1), beta_init), rtol=1e-6, atol=0)


def test_resetting_a_trained_block_puts_its_gates_back() -> None:
    block = DeltaBlock(DeltaTorsoSpec(**SMALL, gate_layers=2, beta_init=0.3))
    assert block.gate_out is not None
    torch.nn.init.normal_(block.gate_out.weight)
    block.reset_parameters()
    _, beta = block.value_and_gate(torch.randn(16, 8))
    torch.testing.assert_close(beta, torch.full((16, 1, 1), 0.3))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gate_layers", [1, 2])
def test_one_linear_gives_gate_and_value(channels: int, gate_layers: int) -> None:
    block = DeltaBlock(DeltaTorsoSpec(width=16, heads=2, channels=channels, gate_layers=gate_layers))
    gate_width = 2 if gate_layers == 1 else 4
    assert block.write.weight.shape == (gate_width + 2 * channels, 16)
    outside = {type(m) for name, m in block.named_children() if name not in ("write", "gate_out")}
    assert torch.nn.Linear not in outside


def test_a_sigmoid_value_is_between_zero_and_four() -> None:
    block = DeltaBlock(DeltaTorsoSpec(**SMALL, value="sigmoid"))
    v, _ = block.value_and_gate(3 * torch.randn(256, 8))
    assert ((v > 0) & (v < 4)).all()
    assert v.min() < 1
    assert v.max() > 3


@pytest.mark.parametrize("options", [{}, {"gate": "fixed"}, {"gate_layers": 2}, {"value_start": 1.0}], ids=name_of)
@pytest.mark.parametrize("heads", [1, 4])
def test_a_linear_value_starts_around_the_norm_of_the_sublayer(options: dict[str, Any], heads: int) -> None:
    block = DeltaBlock(DeltaTorsoSpec(width=256, heads=heads, **options))
    context = torch.nn.functional.layer_norm(torch.randn(256, 256), [256])
    v, _ = block.value_and_gate(context)
    norms = block.sublayer(context).unflatten(-1, (heads, -1)).norm(dim=-1)
    start = options.get("value_start", 0.25) * norms.square().mean().sqrt()
    # The value's weights add a standard deviation of about 0.6 to each of the 256 values averaged per head.
    torch.testing.assert_close(v.mean(), start, rtol=0.05, atol=0.1)
    assert block.write.bias[block.gate_width :].unique().numel() == 1


def test_channels_start_apart() -> None:
    """This holds for equal copies, too: their differences are as large as their common part."""
    for block in (DeltaBlock, AdditiveBlock):
        update = "additive" if block is AdditiveBlock else "delta"
        gate = {} if block is AdditiveBlock else {"beta_init": 1.0}
        spec = DeltaTorsoSpec(width=64, heads=4, channels=4, update=update, value_start=1.0, **gate)
        state = torch.randn(64, 64, 1).expand(-1, -1, 4)
        moved = block(spec)(state)
        between = (moved - moved.mean(-1, keepdim=True)).norm() / moved.norm()
        assert between > 0.5


def test_a_sigmoid_value_starts_around_its_middle() -> None:
    v, _ = DeltaBlock(DeltaTorsoSpec(width=256, value="sigmoid")).value_and_gate(torch.randn(256, 256))
    torch.testing.assert_close(v.mean(), torch.tensor(2.0), rtol=0.1, atol=0)


@pytest.mark.parametrize("spec", [DeltaTorsoSpec(**{**SMALL, **o}) for o in DELTA_OPTIONS], ids=name_of)
def test_a_block_keeps_the_shape_of_its_state(spec: DeltaTorsoSpec) -> None:
    block = spec.make_block().double().eval()
    x = state_for(spec, batch=6)
    batched = block(x)
    assert batched.shape == x.shape
    torch.testing.assert_close(block(x.unflatten(0, (2, 3))), batched.unflatten(0, (2, 3)))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_each_head_moves_its_own_features_along_one_direction(heads: int) -> None:
    block = scramble(DeltaBlock(DeltaTorsoSpec(width=16, heads=heads, channels=3)))
    x = torch.randn(16, 3, dtype=torch.float64)
    for change in (block(x) - x).unflatten(0, (heads, -1)):
        assert torch.linalg.matrix_rank(change, atol=1e-12) == 1


@pytest.mark.parametrize("heads", [1, 2])
def test_a_block_that_erases_is_the_residual_block_where_its_gate_is_zero(heads: int) -> None:
    erasing = DeltaTorsoSpec(**SMALL, update="residual_erase", heads=heads).make_block()
    residual = ResidualBlock(ResidualTorsoSpec(**SMALL))
    assert isinstance(erasing, ResidualEraseBlock)
    assert erasing.write is not None
    residual.load_state_dict({name: w for name, w in erasing.state_dict().items() if not name.startswith("write")})
    x = torch.randn(64, 8)
    assert not torch.equal(erasing(x), residual(x))
    torch.nn.init.constant_(erasing.write.bias, -torch.inf)
    assert torch.equal(erasing(x), residual(x))


@pytest.mark.parametrize("options", [{}, {"heads": 2}, {"gate": "fixed", "beta_init": 1.5}], ids=name_of)
def test_what_a_residual_block_erases_is_shown_as_a_delta_blocks(options: dict[str, Any]) -> None:
    block = scramble(DeltaTorsoSpec(**{**SMALL, "update": "residual_erase", **options}).make_block())
    assert isinstance(block, ResidualEraseBlock)
    x = torch.randn(5, 8, dtype=torch.float64)
    record = block.observe(x, block(x))
    assert record.v is not None
    assert record.beta is not None
    assert record.readout is not None
    beta = record.beta.unsqueeze(-1)
    # The guard in the direction's norm, 1e-5, changes what is written.
    torch.testing.assert_close(
        record.readout_after, (1 - beta) * record.readout + beta * record.v, rtol=1e-6, atol=1e-8
    )
    assert record.erase_share is not None
    assert ((record.erase_share > 0) & (record.erase_share < 1)).all()
    assert len(block.gate_rows()) == (options.get("gate") != "fixed")


def test_an_orthogonal_block_moves_the_state_at_right_angles() -> None:
    block = scramble(DeltaTorsoSpec(**SMALL, update="orthogonal").make_block())
    x = torch.randn(16, 8, dtype=torch.float64)
    moved = block(x) - x
    assert (moved.norm(dim=-1) > 0.1).all()
    assert ((moved * x).sum(-1).abs() < 1e-4).all()


@pytest.mark.parametrize("update", ["delta", "write_only"])
@pytest.mark.parametrize("heads", [1, 2])
def test_on_a_sphere_the_state_has_its_radius_and_no_value_is_longer(update: str, heads: int) -> None:
    block = scramble(DeltaBlock(DeltaTorsoSpec(width=16, heads=heads, update=update, sphere=True)))
    x = 100 * torch.randn(32, 16, dtype=torch.float64)
    torch.testing.assert_close(block(x).norm(dim=-1), torch.full((32,), 4.0, dtype=torch.float64), rtol=1e-6, atol=0)
    v, _ = block.value_and_gate(100 * torch.randn(256, 16, dtype=torch.float64))
    assert v.abs().max() <= (16 / heads) ** 0.5
    assert v.abs().max() > 0.99 * (16 / heads) ** 0.5


@pytest.mark.parametrize("update", ["delta", "write_only"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("products", [1, 2])
def test_products_are_updates_in_a_row_and_nothing_else(update: str, channels: int, products: int) -> None:
    """All read the same context, and the result is theirs bit for bit."""
    options = {**SMALL, "update": update, "heads": 2, "channels": channels}
    block = scramble(DeltaTorsoSpec(**options, products=products).make_block())
    assert isinstance(block, DeltaBlock)
    x = state_for(DeltaTorsoSpec(**options))
    k, source = block.direction(x)
    v, beta = block.value_and_gate(source)
    state = block.split_heads(x)
    for part in (slice(0, 2), slice(2, 4))[:products]:
        state = block.update(state, k[:, part], v[:, part], beta[:, part])
    assert torch.equal(block(x), state.reshape(x.shape))


@pytest.mark.parametrize("heads", [1, 2])
def test_a_record_shows_each_product_on_the_state_before_it(heads: int) -> None:
    block = scramble(DeltaTorsoSpec(**SMALL, heads=heads, products=3).make_block())
    x = torch.randn(5, 8, dtype=torch.float64)
    record = block.observe(x, block(x))
    assert record.k is not None
    assert record.k.shape == (5, 3 * heads, 8 // heads)
    assert record.readout is not None
    assert record.v is not None
    beta = record.beta.unsqueeze(-1)
    expected = (1 - beta) * record.readout + beta * record.v
    torch.testing.assert_close(record.readout_after, expected, rtol=1e-6, atol=1e-8)


def test_with_as_many_products_a_block_starts_by_writing_as_much() -> None:
    writes = [DeltaBlock(DeltaTorsoSpec(width=16, products=n)).write.bias[n:] for n in (1, 4)]
    torch.testing.assert_close(writes[0].square().sum(), writes[1].square().sum())


STEPPING: list[StackSpec] = [
    ResidualTorsoSpec(**SMALL, drop_path=0.5),
    DeltaTorsoSpec(**SMALL, drop_path=0.5, channels=2),
    DeltaTorsoSpec(**SMALL, drop_path=0.5, update="residual_erase", residual_scale=0.5),
]


@pytest.mark.parametrize("spec", STEPPING, ids=name_of)
def test_stochastic_depth_leaves_samples_out_in_training_alone(spec: StackSpec) -> None:
    block = scramble(spec.make_block())
    x = state_for(spec, batch=256)
    step = block(x) - x
    state = torch.get_rng_state()
    assert torch.equal(block(x) - x, step)
    assert torch.equal(torch.get_rng_state(), state), "evaluation drew random numbers"
    left = (block.train()(x) - x).flatten(1)
    is_out = (left == 0).all(-1)
    assert 0.4 < is_out.double().mean() < 0.6
    torch.testing.assert_close(left[~is_out], 2 * step.flatten(1)[~is_out])
    torch.set_rng_state(state)
    torch.testing.assert_close((block(x) - x).flatten(1), left)


@pytest.mark.parametrize("spec", [ResidualTorsoSpec(**SMALL), DeltaTorsoSpec(**SMALL, heads=2)], ids=name_of)
def test_a_scale_starts_at_its_option_and_shrinks_the_step(spec: StackSpec) -> None:
    blocks = []
    for scale in (None, 0.125):
        torch.manual_seed(1)
        blocks.append(spec.model_copy(update={"residual_scale": scale}).make_block().double())
    x = state_for(spec)
    torch.testing.assert_close(blocks[1](x) - x, 0.125 * (blocks[0](x) - x))


def test_the_options_of_all_stacks_at_their_defaults_leave_nothing_in_a_block() -> None:
    for spec in STACKS:
        if not {"norm_position", "residual_scale", "drop_path"} & spec.model_fields_set:
            block = spec.make_block()
            assert block.join is None
            assert not any("join" in name for name, _ in block.named_modules())


def test_sublayers_are_groups_of_linear_norm_and_activation() -> None:
    one = ResidualTorsoSpec(**SMALL, sublayers=1)
    assert [type(module).__name__ for module in one.make_sublayer()] == ["Linear", "ReLU", "Linear"]
    spec = ResidualTorsoSpec(**SMALL, sublayers=3, activation="silu", norm_position="sandwich")
    kinds = [type(module).__name__ for module in spec.make_sublayer()]
    assert kinds == ["Linear", "LayerNorm", "SiLU"] * 3 + ["LayerNorm"]
    linears = [module for module in spec.make_sublayer() if isinstance(module, torch.nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == [(12, 8), (12, 12), (8, 12)]


def test_the_compressor_keeps_the_size_of_the_state_and_tells_its_channels_apart() -> None:
    compress = ChannelCompressor(256, 3)
    for x in (torch.randn(64, 256, 3), torch.randn(64, 256, 1).expand(-1, -1, 3)):
        torch.testing.assert_close(compress(x).square().mean(), x.square().mean(), rtol=0.2, atol=0)
    assert compress.kernel.unique().numel() == 256 * 3


def test_a_residual_block_starts_as_small_as_its_spec_says() -> None:
    blocks = []
    for scale in (1.0, 0.25):
        torch.manual_seed(1)
        blocks.append(ResidualBlock(ResidualTorsoSpec(**SMALL, init_scale=scale)))
    x = torch.randn(4, 8)
    torch.testing.assert_close(blocks[1](x) - x, 0.25 * (blocks[0](x) - x))


def test_an_additive_block_starts_at_the_norm_of_the_sublayer() -> None:
    spec = DeltaTorsoSpec(width=256, heads=4, update="additive", value_start=1.0)
    block = AdditiveBlock(spec)
    parts = block.sublayer(block.norm(torch.randn(256, 256))).unflatten(-1, (4, -1))
    torch.testing.assert_close(block.magnitude.mean(), parts.norm(dim=-1).mean(), rtol=0.05, atol=0)
    assert block.magnitude.unique().numel() == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_a_lerp_block_starts_at_the_rate_one_over_depth_plus_one(depth: int) -> None:
    block = LerpBlock(DeltaTorsoSpec(width=8, depth=depth, update="lerp"))
    x = torch.randn(4, 8)
    branch = block.sublayer(block.norm(x))
    torch.testing.assert_close(block(x), x + (branch - x) / (depth + 1))


def test_a_sublayer_starts_with_he_weights_and_zero_biases() -> None:
    first, _, second = Sublayer(128, 512, "relu")
    for linear in (first, second):
        torch.testing.assert_close(linear.weight.std().item(), (2 / linear.in_features) ** 0.5, rtol=0.02, atol=0)
        assert not linear.bias.any()


def test_every_activation_of_a_spec_has_a_module() -> None:
    choices = DeltaTorsoSpec.model_json_schema()["properties"]["activation"]["enum"]
    assert set(choices) == set(ACTIVATIONS)


def test_batch_renorm_standardises_a_batch_and_follows_its_statistics() -> None:
    norm = BatchRenorm(8, eps=1e-5)
    x = 3 * torch.randn(64, 8) + 2
    torch.testing.assert_close(norm(x), (x - x.mean(0)) / torch.sqrt(x.var(0) + 1e-5))
    torch.testing.assert_close(norm.running_mean, 0.01 * x.mean(0))
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * x.var(0))
    assert norm.steps == 1


def test_batch_renorm_in_evaluation_uses_the_statistics_and_leaves_them() -> None:
    norm = BatchRenorm(8, eps=1e-5).eval()
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    x = torch.randn(1, 8)
    before = {name: item.clone() for name, item in norm.state_dict().items()}
    torch.testing.assert_close(norm(x), (x - 1) / 2, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], item) for name, item in norm.state_dict().items())


def test_batch_renorm_leaves_the_warm_up_for_its_running_statistics() -> None:
    norm = BatchRenorm(8, eps=1e-5)
    norm.steps.fill_(norm.warmup_steps + 1)
    x = 1.5 * torch.randn(64, 8) + 1
    torch.testing.assert_close(norm(x), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_renorm_in_training_refuses_fewer_than_two_rows(rows: int) -> None:
    norm = BatchRenorm(8, eps=1e-5)
    with pytest.raises(ValueError, match=f"batch_renorm needs at least 2 rows in training mode, got {rows}"):
        norm(torch.randn(rows, 8))
    assert norm.steps == 0


def test_a_block_prints_what_it_was_made_with() -> None:
    block = DeltaBlock(DeltaTorsoSpec(width=16, heads=2, channels=3, beta_init=0.5))
    assert "heads=2, channels=3, eps=1e-05, beta_init=0.5, beta_max=2" in repr(block)
    assert "ChannelCompressor(width=16, channels=3)" in repr(block)


def test_batch_renorm_normalises_over_every_leading_dimension() -> None:
    norm = make_norm("batch_renorm", 8, eps=1e-5)
    rows = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm(rows.reshape(2, 3, 8)), norm(rows).reshape(2, 3, 8))
    with pytest.raises(ValueError, match="at least 2 rows in training mode, got 1"):
        norm(rows[0])
    assert norm.eval()(rows[0]).shape == (8,)
