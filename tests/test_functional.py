"""The operator compared with explicit matrices, and the properties that the paper proves."""

from __future__ import annotations

from functools import partial

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from deltarl.functional import (
    delta_update,
    gate,
    orthogonal_update,
    residual_erase_update,
    sinkhorn,
    unit_direction,
    write_only_update,
)

BATCHES = [(), (3,), (2, 3)]
quickly = settings(derandomize=True, deadline=None, max_examples=40, database=None)


def inputs(
    batch: tuple[int, ...] = (4,), d: int = 5, channels: int = 1, *, expanded: bool = False, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, a unit k, v, and beta in [0, 2], in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*batch, d, channels, generator=generator, dtype=torch.float64)
    k = torch.randn(*batch, d, generator=generator, dtype=torch.float64)
    v = torch.randn(*batch, channels, generator=generator, dtype=torch.float64)
    beta = 2 * torch.rand(*batch, 1, generator=generator, dtype=torch.float64)
    return x if expanded else x.squeeze(-1), k / k.norm(dim=-1, keepdim=True), v, beta


def read(x: Tensor, k: Tensor) -> Tensor:
    """The readout k^T X of an expanded state."""
    return torch.einsum("...d,...dc->...c", k, x)


cases = st.fixed_dictionaries(
    {
        "batch": st.lists(st.integers(1, 3), max_size=3).map(tuple),
        "d": st.integers(1, 9),
        "channels": st.integers(1, 4),
        "seed": st.integers(0, 2**32),
    }
)
betas = st.floats(0, 2)


@quickly
@given(cases, st.booleans(), st.floats(0, 3))
def test_values_are_those_of_the_explicit_matrices(case: dict, expanded: bool, length: float) -> None:
    x, k, v, beta = inputs(**{**case, "channels": case["channels"] if expanded else 1}, expanded=expanded)
    k = length * k
    torch.testing.assert_close(delta_update(x, k, v, beta), reference.delta_update(x, k, v, beta))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_gradients_are_those_of_the_explicit_matrices(batch: tuple[int, ...], channels: int | None) -> None:
    arguments = [a.requires_grad_() for a in inputs(batch, channels=channels or 1, expanded=channels is not None)]
    target = torch.randn_like(arguments[0])
    ours, explicit = (
        torch.autograd.grad(((update(*arguments) - target) ** 2).sum(), arguments)
        for update in (delta_update, reference.delta_update)
    )
    torch.testing.assert_close(ours, explicit)


@pytest.mark.parametrize("update", [delta_update, write_only_update])
@pytest.mark.parametrize("channels", [None, 2])
def test_first_and_second_derivatives_of_the_updates_are_right(update, channels: int | None) -> None:
    arguments = [a.requires_grad_() for a in inputs((2,), 3, channels or 1, expanded=channels is not None)]
    assert gradcheck(update, arguments)
    assert gradgradcheck(update, arguments)


def test_first_and_second_derivatives_of_steps_that_erase_are_right() -> None:
    x, h, k = (torch.randn(2, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    beta = torch.rand(2, 1, dtype=torch.float64).requires_grad_()
    for update, leaves in ((residual_erase_update, (x, h, k, beta)), (partial(orthogonal_update, eps=1e-5), (x, h))):
        assert gradcheck(update, leaves)
        assert gradgradcheck(update, leaves)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_residual_step_that_erases_is_a_delta_update_towards_what_it_adds(batch: tuple[int, ...]) -> None:
    x, k, v, beta = inputs(batch)
    h = v * k
    torch.testing.assert_close(residual_erase_update(x, h, k, beta), reference.delta_update(x, k, v / beta, beta))
    assert torch.equal(residual_erase_update(x, h, k, 0 * beta), x + h)


@pytest.mark.parametrize("batch", BATCHES)
def test_an_orthogonal_step_leaves_out_what_lies_along_the_state(batch: tuple[int, ...]) -> None:
    x, h, _, _ = inputs(batch)
    moved = orthogonal_update(x, h, 1e-12) - x
    torch.testing.assert_close((moved * x).sum(-1), torch.zeros(batch, dtype=x.dtype))
    torch.testing.assert_close(moved.square().sum(-1), h.square().sum(-1) - ((h * x).sum(-1) / x.norm(dim=-1)) ** 2)


@quickly
@given(st.integers(1, 5), st.integers(0, 2**32), st.floats(0, 2))
def test_sinkhorn_makes_any_matrix_doubly_stochastic(n: int, seed: int, spread: float) -> None:
    logits = spread * torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = sinkhorn(logits, 200)
    assert (found > 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, n, dtype=torch.float64))
    torch.testing.assert_close(found.sum(-2), torch.ones(2, n, dtype=torch.float64), rtol=0.02, atol=0)
    torch.testing.assert_close(sinkhorn(torch.log(found), 1), found, rtol=0.05, atol=0)


def test_first_and_second_derivatives_of_sinkhorn_are_right() -> None:
    logits = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda logits: sinkhorn(logits, 3), logits)
    assert gradgradcheck(lambda logits: sinkhorn(logits, 3), logits)


@pytest.mark.parametrize("rows", [[[0.6, -0.3, 1.1], [0.0, 0.0, 0.0]]])
def test_first_and_second_derivatives_of_the_direction_are_right(rows: list[list[float]]) -> None:
    h = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda h: unit_direction(h, 0.5), h)
    assert gradgradcheck(lambda h: unit_direction(h, 0.5), h)


def test_first_and_second_derivatives_of_the_gate_are_right() -> None:
    logits = torch.linspace(-4, 4, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda logits: gate(logits, 1.7), logits)
    assert gradgradcheck(lambda logits: gate(logits, 1.7), logits)


@quickly
@given(cases)
def test_the_shortcut_has_eigenvalue_one_but_for_one_minus_beta_along_k(case: dict) -> None:
    _, k, _, beta = inputs(**{**case, "batch": ()})
    basis = torch.eye(case["d"], dtype=torch.float64)
    matrix = delta_update(basis, k, torch.zeros_like(basis[0]), beta)
    expected = torch.tensor([1.0] * (case["d"] - 1) + [1 - beta.item()], dtype=torch.float64).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(matrix), expected)
    torch.testing.assert_close(torch.linalg.det(matrix), (1 - beta).squeeze())


@quickly
@given(cases)
def test_beta_zero_is_the_identity(case: dict) -> None:
    x, k, v, beta = inputs(**case, expanded=True)
    assert torch.equal(delta_update(x, k, v, 0 * beta), x)


@quickly
@given(cases)
def test_beta_one_overwrites_the_readout_and_nothing_else(case: dict) -> None:
    x, k, v, beta = inputs(**case, expanded=True)
    new = delta_update(x, k, v, torch.ones_like(beta))
    torch.testing.assert_close(read(new, k), v)
    change = new - x
    torch.testing.assert_close(change, k.unsqueeze(-1) * read(change, k).unsqueeze(-2))


@quickly
@given(cases)
def test_beta_two_is_a_householder_reflection(case: dict) -> None:
    x, k, v, beta = inputs(**case, expanded=True)
    zero, two = torch.zeros_like(v), torch.full_like(beta, 2)
    reflected = delta_update(x, k, zero, two)
    torch.testing.assert_close(read(reflected, k), -read(x, k))
    torch.testing.assert_close(delta_update(reflected, k, zero, two), x)
    torch.testing.assert_close(reflected.mT @ reflected, x.mT @ x)


@quickly
@given(cases, betas)
def test_the_readout_error_shrinks_by_one_minus_beta(case: dict, step: float) -> None:
    x, k, v, beta = inputs(**case, expanded=True)
    new = delta_update(x, k, v, torch.full_like(beta, step))
    torch.testing.assert_close(read(new, k) - v, (1 - step) * (read(x, k) - v))


@quickly
@given(cases, betas)
def test_a_write_alone_adds_beta_v_to_the_readout(case: dict, step: float) -> None:
    x, k, v, beta = inputs(**case, expanded=True)
    beta = torch.full_like(beta, step)
    new = write_only_update(x, k, v, beta)
    torch.testing.assert_close(read(new, k), read(x, k) + step * v)
    torch.testing.assert_close(new - x, delta_update(torch.zeros_like(x), k, v, beta))


@pytest.mark.parametrize("update", [delta_update, write_only_update])
@pytest.mark.parametrize("batch", BATCHES)
def test_a_plain_state_is_a_state_with_one_channel(update, batch: tuple[int, ...]) -> None:
    x, k, v, beta = inputs(batch)
    torch.testing.assert_close(update(x, k, v, beta), update(x.unsqueeze(-1), k, v, beta).squeeze(-1))


@pytest.mark.parametrize("update", [delta_update, write_only_update])
@pytest.mark.parametrize("channels", [None, 3])
def test_an_empty_batch_stays_empty(update, channels: int | None) -> None:
    x, k, v, beta = inputs((0,), channels=channels or 1, expanded=channels is not None)
    assert update(x, k, v, beta).shape == x.shape


@pytest.mark.parametrize(
    "shapes",
    [
        {"x": [3, 4], "k": [3, 5], "v": [3, 1], "beta": [3, 1]},
        {"x": [3, 4], "k": [4], "v": [3, 1], "beta": [3, 1]},
        {"x": [3, 4], "k": [3, 4], "v": [3, 2], "beta": [3, 1]},
        {"x": [3, 4], "k": [3, 4], "v": [3, 1], "beta": [3, 4]},
        {"x": [3, 4, 2], "k": [3, 4], "v": [3, 1], "beta": [3, 1]},
        {"x": [3, 4, 2], "k": [3, 2], "v": [3, 2], "beta": [3, 1]},
        {"x": [4], "k": [3, 4], "v": [3, 1], "beta": [3, 1]},
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_by_name(shapes: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="delta_update takes") as caught:
        delta_update(**{name: torch.zeros(shape) for name, shape in shapes.items()})
    assert str(caught.value).endswith("got " + ", ".join(f"{name} {shape}" for name, shape in shapes.items()))


@quickly
@given(cases, st.floats(1e-6, 0.1), st.floats(0, 100))
def test_a_direction_is_its_input_over_the_guarded_norm(case: dict, eps: float, length: float) -> None:
    _, unit, _, _ = inputs(**case)
    k = unit_direction(length * unit, eps)
    torch.testing.assert_close(k, unit * length / (length**2 + eps**2) ** 0.5)
    assert (k.norm(dim=-1) <= 1 + 1e-12).all()


@pytest.mark.parametrize("length", [0.0, 1e-3, 1.0, 1e3])
def test_a_direction_is_shorter_than_one(length: float) -> None:
    h = torch.full((4,), length / 2, dtype=torch.float64)
    assert 0 <= unit_direction(h, 1e-3).norm() < 1


@pytest.mark.parametrize("eps", [1e-8, 1e-5, 1e-1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_rows_have_direction_zero_and_finite_derivatives(eps: float, dtype: torch.dtype) -> None:
    h = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.5]], dtype=dtype, requires_grad=True)
    k = unit_direction(h, eps)
    assert torch.equal(k[0], torch.zeros(3, dtype=dtype))
    (first,) = torch.autograd.grad(k[:, 0].sum(), h, create_graph=True)
    torch.testing.assert_close(first[0], torch.tensor([1 / eps, 0, 0], dtype=dtype))
    (second,) = torch.autograd.grad(first.sum(), h)
    assert torch.equal(second[0], torch.zeros(3, dtype=dtype))
    assert second.isfinite().all()


@quickly
@given(st.lists(st.floats(-30, 30), min_size=1), st.floats(0.01, 2))
def test_a_gate_is_between_zero_and_beta_max(logits: list[float], beta_max: float) -> None:
    logit = torch.tensor(logits, dtype=torch.float64)
    beta = gate(logit, beta_max)
    assert ((beta > 0) & (beta < beta_max)).all()
    torch.testing.assert_close(torch.log(beta / (beta_max - beta)), logit, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(("name", "shape"), [("v", (3, 1)), ("v", (5, 1)), ("beta", (5, 1)), ("beta", ())])
def test_values_and_gates_of_another_batch_are_refused_not_broadcast(name: str, shape: tuple[int, ...]) -> None:
    state = {"x": torch.zeros(4), "k": torch.zeros(4), "v": torch.zeros(1), "beta": torch.zeros(1)}
    with pytest.raises(ValueError, match="delta_update takes x"):
        delta_update(**{**state, name: torch.zeros(shape)})
