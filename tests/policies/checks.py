"""What the tests of policies look at and compare."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from deltarl.torsos import DeltaBlock, Torso
from tests.policies.matrix import CONTINUOUS_CRITICS, SUBJECTS, Subject, actions, sample_observations

name_of = attrgetter("name")
every_algorithm = pytest.mark.parametrize("subject", SUBJECTS, ids=name_of)
critics_of_actions = pytest.mark.parametrize("subject", CONTINUOUS_CRITICS, ids=name_of)


def torsos(model: BaseAlgorithm) -> list[Torso]:
    return [module for module in model.policy.modules() if isinstance(module, Torso)]


def delta_blocks(model: BaseAlgorithm) -> list[DeltaBlock]:
    return [module for module in model.policy.modules() if isinstance(module, DeltaBlock)]


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """All parameters; those of gates and values, which share a Linear, are separate entries."""
    tensors = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for name, block in module.named_modules():
        if isinstance(block, DeltaBlock):
            for part in ("weight", "bias"):
                whole = tensors.pop(f"{name}.write.{part}")
                tensors[f"{name}.gate.{part}"] = whole[: block.gate_width]
                tensors[f"{name}.write.{part}"] = whole[block.gate_width :]
    return tensors


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def in_turn(options: Iterable[str]) -> list[Any]:
    """Pairs of algorithm and option: by default each algorithm with every third option; the others are slow."""
    return [
        pytest.param(subject, option, id=f"{subject.name}-{option}", marks=[] if (i + j) % 3 == 0 else pytest.mark.slow)
        for i, subject in enumerate(SUBJECTS)
        for j, option in enumerate(options)
    ]


def assert_loads_the_same(model: Any, subject: Subject, folder: Path) -> None:
    """Assert that both ways of loading restore weights, torsos and actions, bit for bit."""
    model.save(folder / "model.zip")
    model.policy.save(folder / "policy.pt")
    whole = subject.algorithm.load(folder / "model.zip", device="cpu")
    alone = type(model.policy).load(folder / "policy.pt", device="cpu")
    batch = sample_observations(model)
    for policy in (whole.policy, alone):
        assert [getattr(policy, role) for role in policy.roles] == [
            getattr(model.policy, role) for role in policy.roles
        ]
        assert same_weights(policy, model.policy)
        assert np.array_equal(actions(policy, batch), actions(model, batch))


def optimizers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    return [module.optimizer for module in owners(model)]


def owners(model: BaseAlgorithm) -> list[Any]:
    """The modules that hold an optimizer: the policy, or actor and critic."""
    return [module for module in model.policy.modules() if hasattr(module, "optimizer")]
