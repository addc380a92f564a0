"""Lean updates stay on the device of the networks, and can be captured in a CUDA graph.

Tensors on `meta` have a shape, a dtype and a device, but no values: asking for one, as `item()` and `if` do, raises,
and so does a copy to the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples, RolloutBufferSamples
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deltarl.fast.optim import Step
from tests.fast.test_algorithms import make
from tests.fast.test_equality import STOCK

META = torch.device("meta")
TORSOS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp"},
    "plain": {"kind": "plain", "width": 8},
    "residual": {"kind": "residual", "width": 8},
    "bronet": {"kind": "bronet", "width": 8},
    "simbav2": {"kind": "simbav2", "width": 8},
    "hyper": {"kind": "hyper", "width": 8},
    **{
        update: {"kind": "delta", "width": 8, "update": update}
        for update in ("delta", "write_only", "residual_erase", "orthogonal")
    },
    "sphere": {"kind": "delta", "width": 8, "sphere": True},
    "channels": {"kind": "delta", "width": 8, "channels": 2},
    "products": {"kind": "delta", "width": 8, "products": 2},
    "post-norm": {"kind": "delta", "width": 8, "residual_scale": 0.5, "norm_position": "post"},
    "batch_renorm": {"kind": "residual", "width": 8, "norm": "batch_renorm"},
}


class Only(TorchDispatchMode):
    """Raises where an operation takes or makes a tensor on another device, even a single number."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, found)):
            if isinstance(each, Tensor) and each.device != META:
                raise RuntimeError(f"{func} has a tensor on {each.device}")
        return found


def move(model: Any) -> None:
    """Make parameters, statistics and optimizers anew on `meta`, as far as an update uses them."""

    def moved(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=META)

    model.device = META
    for module in model.policy.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                module.register_parameter(key, nn.Parameter(moved(parameter)))
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module.register_buffer(key, moved(buffer))
    for module in (model.policy, getattr(model, "actor", None), getattr(model, "critic", None)):
        if hasattr(module, "optimizer"):
            module.optimizer = type(module.optimizer)(module.parameters(), 1e-3)
    if getattr(model, "ent_coef_optimizer", None) is not None:
        model.log_ent_coef = moved(model.log_ent_coef).requires_grad_()
        model.ent_coef_optimizer = torch.optim.Adam([model.log_ent_coef], 1e-3)
    for key in [key for key in vars(model) if "batch_norm_stats" in key]:
        setattr(model, key, [moved(each) for each in getattr(model, key)])


def update_on_meta(model: Any, updates: int) -> list[Tensor]:
    """Everything that the updates return."""
    observations, actions = model.observation_space.shape[0], model.action_space.shape[0]
    found: list[Tensor] = []
    with torch.no_grad():
        move(model)
        states, taken, column = (torch.empty(6, width, device=META) for width in (observations, actions, 1))
        with Only():
            update = model.update_class(model)
            for index in range(updates):
                if isinstance(model, OffPolicyAlgorithm):
                    batch = ReplayBufferSamples(states, taken, states, column, column)
                    found += update(batch, update.draw(batch), index).values()
                    continue
                rollout = RolloutBufferSamples(states, taken, *[column.view(-1)] * 4)
                if not hasattr(update, "gradients"):
                    found += update(rollout).values()
                    continue
                gradients, noted = update.gradients(rollout, 0.2, 0.2)
                update.learn(gradients)
                found.append(update.metrics([noted], 0.2))
    return found


@pytest.mark.parametrize("name", STOCK)
def test_an_update_asks_for_no_value_and_touches_no_other_device(name: str) -> None:
    """Three updates: TD3's actor learns in every second, CrossQ's in every third."""
    assert len(update_on_meta(make(name, policy="DeltaPolicy"), 3)) >= 3


@pytest.mark.parametrize("torso", TORSOS)
@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_neither_does_an_update_of_any_torso(name: str, torso: str) -> None:
    assert update_on_meta(make(name, policy="DeltaPolicy", policy_kwargs={"torso": TORSOS[torso]}), 1)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_steps_that_were_counted_on_the_cpu_are_counted_on_the_device(optimizer: Any) -> None:
    """Stable-Baselines3's optimizers count on the CPU, and so does a checkpoint."""
    weight = nn.Parameter(torch.empty(3, device=META))
    averages = {name: torch.empty(3, device=META) for name in ("exp_avg", "exp_avg_sq", "square_avg")}
    theirs = optimizer([weight], 1e-3)
    theirs.state[weight] |= {"step": torch.tensor(5.0), **averages}
    with torch.no_grad():
        Step(theirs, [weight])([torch.empty(3, device=META)])
    assert theirs.state[weight]["step"].device == META


def test_a_tensor_on_another_device_is_noticed() -> None:
    """PyTorch accepts a single number on the CPU."""
    with Only(), pytest.raises(RuntimeError, match="has a tensor on cpu"):
        torch.empty(2, device=META) + torch.tensor(1.0)
