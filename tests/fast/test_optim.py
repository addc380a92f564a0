"""Optimizer steps from lists of gradients equal the optimizers' own."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn

from deltarl.fast.optim import Follow, Step, clip

OPTIMIZERS: dict[str, Callable[[list[Any]], torch.optim.Optimizer]] = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, eps=1e-5),
    "adam with decay": lambda parameters: torch.optim.Adam(parameters, lr=0.01, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.8, 0.95)),
    "groups": lambda parameters: torch.optim.AdamW(
        [{"params": parameters[:1], "weight_decay": 0.2}, {"params": parameters[1:], "weight_decay": 0.0}], lr=0.01
    ),
    "decoupled adam": lambda parameters: torch.optim.Adam(
        parameters, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True
    ),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, alpha=0.9, eps=1e-5),
    "rmsprop with decay": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, weight_decay=0.1),
    "rmsprop with momentum": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, momentum=0.9),
    "centered rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, centered=True),
    "rmsprop of stable-baselines3": lambda parameters: RMSpropTFLike(parameters, lr=0.01),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
}


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in ((4, 3), (4,))]


def gradients(seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn_like(parameter) for parameter in parameters()]


def their_step(optimizer: torch.optim.Optimizer, own: list[nn.Parameter], seed: int) -> None:
    for parameter, gradient in zip(own, gradients(seed), strict=True):
        parameter.grad = gradient
    optimizer.step()


def assert_same(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    assert mine["state"].keys() == theirs["state"].keys()
    for index, state in theirs["state"].items():
        assert state.keys() == mine["state"][index].keys()
        for name, value in state.items():
            torch.testing.assert_close(mine["state"][index][name], value, rtol=1e-12, atol=1e-12)
    for group, their_group in zip(one.param_groups, other.param_groups, strict=True):
        for parameter, their_parameter in zip(group["params"], their_group["params"], strict=True):
            torch.testing.assert_close(parameter, their_parameter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_state_and_options_are_the_optimizers_own(name: str) -> None:
    mine, theirs = parameters(), parameters()
    optimizer, reference = OPTIMIZERS[name](mine), OPTIMIZERS[name](theirs)
    step = Step(optimizer, mine)
    for seed in range(5):
        for each in (optimizer, reference):
            each.param_groups[0]["lr"] = 0.01 / (seed + 1)  # as a schedule does
        with torch.no_grad():
            step(gradients(seed))
        their_step(reference, theirs, seed)
    assert_same(optimizer, reference)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_continue_from_a_loaded_state(name: str) -> None:
    mine, theirs = parameters(), parameters()
    optimizer, reference = OPTIMIZERS[name](mine), OPTIMIZERS[name](theirs)
    step = Step(optimizer, mine)
    with torch.no_grad():
        step(gradients(0))  # the loaded state replaces it
    their_step(reference, theirs, 1)
    with torch.no_grad():
        for parameter, their_parameter in zip(mine, theirs, strict=True):
            parameter.copy_(their_parameter)
    optimizer.load_state_dict(deepcopy(reference.state_dict()))
    for seed in (2, 3):
        with torch.no_grad():
            step(gradients(seed))
        their_step(reference, theirs, seed)
    assert_same(optimizer, reference)


def test_a_step_that_is_hooked_into_is_the_optimizers_own() -> None:
    mine = parameters()
    optimizer = torch.optim.Adam(mine)
    seen: list[Any] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    Step(optimizer, mine)(gradients(0))
    assert seen == [1]


@pytest.mark.parametrize("name", ["adamw", "rmsprop with decay", "sgd"])
def test_a_parameter_without_a_gradient_stays(name: str) -> None:
    mine, theirs = parameters(), parameters()
    optimizer, reference = OPTIMIZERS[name](mine), OPTIMIZERS[name](theirs)
    step = Step(optimizer, mine)
    for seed in range(4):
        own: list[Tensor | None] = [*gradients(seed)]
        own[1] = own[1] if seed % 2 else None
        clip(own, 1.0)
        for parameter, gradient in zip(theirs, own, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        with torch.no_grad():
            step(own)
        reference.step()
    assert_same(optimizer, reference)


def test_parameters_that_the_optimizer_does_not_hold_are_left_alone() -> None:
    mine = parameters()
    before = mine[1].detach().clone()
    with torch.no_grad():
        Step(torch.optim.Adam(mine[:1]), mine)(gradients(0))
    assert torch.equal(mine[1], before)


@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_gradients_are_clipped_to_a_norm_over_all(largest: float) -> None:
    own, mine = parameters(), gradients(0)
    for parameter, gradient in zip(own, gradients(0), strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(own, largest)
    clip(mine, largest)
    for parameter, gradient in zip(own, mine, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize("tau", [0.005, 1.0])
def test_targets_follow(tau: float) -> None:
    sources, mine, theirs = gradients(0), gradients(1), gradients(1)
    Follow(sources, mine)(tau)
    polyak_update(sources, theirs, tau)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-14)


def test_no_targets_are_no_trouble() -> None:
    Follow([], [])(1.0)
