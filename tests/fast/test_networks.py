"""Hand-written gradients equal PyTorch's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from deltarl import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, Torso
from deltarl.fast.blocks import Chain, Delta, Residual, Scaled
from deltarl.fast.layers import Layer, Recorded
from deltarl.fast.networks import chain_of, network_of
from deltarl.torsos import BroNetTorsoSpec, StackSpec

INPUTS, WIDTH, OUTPUTS, ROWS = 5, 16, 3, 7


def behind(spec: StackSpec) -> nn.Sequential:
    return nn.Sequential(Torso(INPUTS, spec), nn.Linear(WIDTH, OUTPUTS))


def mlp(activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Linear(INPUTS, WIDTH), activation(), nn.Linear(WIDTH, OUTPUTS), activation())


MODULES = {
    "relu": lambda: mlp(nn.ReLU),
    "tanh": lambda: mlp(nn.Tanh),
    "gelu": lambda: mlp(nn.GELU),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.ReLU(), nn.Linear(INPUTS, OUTPUTS)),
    "no bias": lambda: nn.Sequential(nn.Linear(INPUTS, OUTPUTS, bias=False)),
    "plain": lambda: behind(PlainTorsoSpec(width=WIDTH)),
    "residual": lambda: behind(ResidualTorsoSpec(width=WIDTH)),
    "residual, small": lambda: behind(ResidualTorsoSpec(width=WIDTH, init_scale=0.5)),
    "residual, rms": lambda: behind(ResidualTorsoSpec(width=WIDTH, norm="rms")),
    "delta": lambda: behind(DeltaTorsoSpec(width=WIDTH)),
    "delta, 4 heads": lambda: behind(DeltaTorsoSpec(width=WIDTH, heads=4, beta_init=0.5, beta_max=1.5)),
    "delta, tanh": lambda: behind(DeltaTorsoSpec(width=WIDTH, activation="tanh")),
    "write only": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="write_only", heads=2)),
    "delta, scaled": lambda: behind(DeltaTorsoSpec(width=WIDTH, output_scale=0.3, value_start=0.5, head_width=4)),
    "2 channels": lambda: behind(DeltaTorsoSpec(width=WIDTH, channels=2)),
    "fixed gate": lambda: behind(DeltaTorsoSpec(width=WIDTH, gate="fixed")),
    "gate of 2 layers": lambda: behind(DeltaTorsoSpec(width=WIDTH, gate_layers=2)),
    "generator": lambda: behind(DeltaTorsoSpec(width=WIDTH, direction="generator")),
    "additive": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="additive")),
    "erasing": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="residual_erase", beta_init=0.5)),
    "erasing, 4 heads": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="residual_erase", heads=4, beta_max=1.5)),
    "erasing, fixed gate": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="residual_erase", gate="fixed")),
    "linear direction": lambda: behind(DeltaTorsoSpec(width=WIDTH, direction="linear")),
    "sphere": lambda: behind(DeltaTorsoSpec(width=WIDTH, sphere=True, heads=2)),
    "orthogonal": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="orthogonal")),
    "no norm": lambda: behind(ResidualTorsoSpec(width=WIDTH, norm="none")),
    "delta, no norm": lambda: behind(DeltaTorsoSpec(width=WIDTH, norm="none", heads=2)),
    "sandwich": lambda: behind(ResidualTorsoSpec(width=WIDTH, norm_position="sandwich")),
    "erasing, sandwich": lambda: behind(DeltaTorsoSpec(width=WIDTH, norm_position="sandwich", update="residual_erase")),
    "sublayers": lambda: behind(DeltaTorsoSpec(width=WIDTH, sublayers=2)),
    "plain, sublayers": lambda: behind(PlainTorsoSpec(width=WIDTH, sublayers=3, norm_position="sandwich")),
    "post": lambda: behind(ResidualTorsoSpec(width=WIDTH, norm_position="post")),
    "plain, post": lambda: behind(PlainTorsoSpec(width=WIDTH, norm_position="post")),
    "residual scale": lambda: behind(DeltaTorsoSpec(width=WIDTH, residual_scale=0.5)),
    "erasing, residual scale": lambda: behind(DeltaTorsoSpec(width=WIDTH, residual_scale=0.5, update="residual_erase")),
    "products": lambda: behind(DeltaTorsoSpec(width=WIDTH, products=2, heads=2)),
    "sphere, write only": lambda: behind(DeltaTorsoSpec(width=WIDTH, sphere=True, update="write_only")),
    "sphere, scaled": lambda: behind(DeltaTorsoSpec(width=WIDTH, sphere=True, residual_scale=0.5, beta_init=0.5)),
    "orthogonal, scaled": lambda: behind(
        DeltaTorsoSpec(width=WIDTH, update="orthogonal", residual_scale=0.5, norm_position="post")
    ),
    "stochastic depth": lambda: behind(ResidualTorsoSpec(width=WIDTH, drop_path=0.5)).eval(),
    "bronet": lambda: behind(BroNetTorsoSpec(width=WIDTH)),
    "bronet, scaled": lambda: behind(BroNetTorsoSpec(width=WIDTH, residual_scale=0.5, norm="none")),
    "lerp": lambda: behind(DeltaTorsoSpec(width=WIDTH, update="lerp")),
}
BY_HAND = {"relu", "tanh", "activation first", "no bias", "plain", "residual", "delta", "delta, 4 heads"} | {
    "delta, tanh",
    "delta, scaled",
    "erasing",
    "erasing, 4 heads",
    "linear direction",
    "residual, small",
    "write only",
    "no norm",
    "delta, no norm",
    "sandwich",
    "erasing, sandwich",
    "sublayers",
    "plain, sublayers",
    "post",
    "plain, post",
    "residual scale",
    "erasing, residual scale",
    "orthogonal",
    "orthogonal, scaled",
    "sphere",
    "sphere, write only",
    "sphere, scaled",
    "bronet",
    "bronet, scaled",
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A module whose parameters all differ from their initial values, and an input."""
    torch.manual_seed(0)
    module = MODULES[name]().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module, torch.randn(ROWS, INPUTS, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
def test_output_and_gradients_are_those_of_the_module(name: str) -> None:
    module, x = made(name)
    wanted_x = x.clone().requires_grad_()
    y = module(wanted_x)
    by_output = torch.randn_like(y)
    by_x, *by_parameters = torch.autograd.grad(y, [wanted_x, *module.parameters()], by_output)

    network = network_of(module)
    with torch.no_grad():
        own, saved = network.forward(x)
        given = by_output.clone()
        own_by_x, own_by_parameters = network.backward(saved, given, inputs=slice(1, 3))
    assert torch.equal(given, by_output), "the gradient was changed"
    torch.testing.assert_close(own, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own_by_x, by_x[:, 1:3], rtol=1e-12, atol=1e-12)
    expected = dict(zip(map(id, module.parameters()), by_parameters, strict=True))
    assert {id(parameter) for parameter in network.parameters} == expected.keys()
    for parameter, gradient in zip(network.parameters, own_by_parameters, strict=True):
        torch.testing.assert_close(gradient, expected[id(parameter)], rtol=1e-12, atol=1e-12)
    assert torch.equal(x, wanted_x), "the input was changed"


@pytest.mark.parametrize("name", MODULES)
def test_only_the_requested_gradients_are_computed(name: str) -> None:
    module, x = made(name)
    network = network_of(module)
    with torch.no_grad():
        y, saved = network.forward(x)
        by_x, by_parameters = network.backward(saved, torch.ones_like(y), inputs=slice(None), parameters=False)
        assert by_parameters == []
        assert by_x is not None
        assert by_x.shape == x.shape
        _, saved = network.forward(x)
        by_x, by_parameters = network.backward(saved, torch.ones_like(y))
        assert by_x is None
        assert len(by_parameters) == len(network.parameters)


@pytest.mark.parametrize("name", MODULES)
def test_the_shipped_networks_are_by_hand(name: str) -> None:
    assert network_of(made(name)[0]).has_modes == (name not in BY_HAND)


def test_a_module_that_is_hooked_into_is_recorded() -> None:
    module, _ = made("residual")
    module.register_forward_hook(lambda *_: None)
    assert isinstance(network_of(module), Recorded)


def test_a_subclass_is_recorded() -> None:
    """A subclass may compute anything."""

    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    module = Doubled(INPUTS, OUTPUTS)
    x = torch.randn(ROWS, INPUTS)
    assert isinstance(network_of(module), Recorded)
    torch.testing.assert_close(network_of(module)(x), module(x))


@pytest.mark.parametrize("name", [name for name in MODULES if name in BY_HAND and "first" not in name])
@pytest.mark.parametrize("kind", ["attribute", "parameter", "buffer", "child"])
def test_a_module_with_an_option_that_its_gradient_does_not_name_is_recorded(name: str, kind: str) -> None:
    """Checks each inner module, so that a new option of a block cannot be without its gradient."""
    module, _ = made(name)
    for path, each in module.named_modules():
        if isinstance(each, nn.Sequential | nn.ModuleList | nn.Identity):
            continue
        added = {
            "attribute": lambda: 0.5,
            "parameter": lambda: nn.Parameter(torch.ones(())),
            "buffer": lambda: torch.ones(()),
            "child": nn.Identity,
        }[kind]()
        (each.register_buffer if kind == "buffer" else partial(setattr, each))("new_option", added)
        assert each in recorded(network_of(module)), path
        delattr(each, "new_option")
    assert not recorded(network_of(module))


def recorded(network: Layer) -> list[nn.Module]:
    """All modules that a network leaves to PyTorch, including nested ones."""
    if isinstance(network, Recorded):
        return list(network.module.modules())
    if isinstance(network, Residual):
        return recorded(network.inner)
    if isinstance(network, Scaled):
        return recorded(network.block)
    parts = network.parts if isinstance(network, Chain) else []
    if isinstance(network, Delta):
        parts = [network.norm, network.sublayer]
    return [module for part in parts for module in recorded(part)]


def test_a_torso_with_an_option_that_nobody_names_is_recorded_away_from_the_default() -> None:
    class Scaled(ResidualTorsoSpec):
        new_option: float = 1.0

    for value, expected in ((1.0, Chain), (0.5, Recorded)):
        torso = Torso(INPUTS, ResidualTorsoSpec(width=WIDTH))
        torso.spec = Scaled(width=WIDTH, new_option=value)
        assert type(network_of(torso)) is expected


def test_a_parameter_that_a_module_does_not_use_has_no_gradient() -> None:
    """As in PyTorch, its gradient is None, so that optimizers skip it."""

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(INPUTS, OUTPUTS), nn.Linear(INPUTS, OUTPUTS)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.used(x)
            return found

    network = network_of(Idle())
    with torch.no_grad():
        y, saved = network.forward(torch.ones(ROWS, INPUTS))
        _, gradients = network.backward(saved, torch.ones_like(y))
    assert [gradient is None for gradient in gradients] == [False, False, True, True]


class Halving(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5)


@pytest.mark.parametrize("activation", [nn.ELU(inplace=True), Halving()], ids=["an option", "a user's own"])
def test_a_module_that_writes_over_its_input_is_recorded_with_a_copy(activation: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(INPUTS, WIDTH), activation, nn.Linear(WIDTH, OUTPUTS))
    network, x = network_of(module), torch.randn(ROWS, INPUTS)
    expected = torch.autograd.grad(module(x).sum(), list(module.parameters()))
    with torch.no_grad():
        y, saved = network.forward(x)
        torch.testing.assert_close(network(x), y)
        _, gradients = network.backward(saved, torch.ones_like(y))
        given = x.clone()
        network_of(activation)(x)
    torch.testing.assert_close(gradients, list(expected))
    torch.testing.assert_close(x, given)


def test_a_parametrized_layer_is_recorded() -> None:
    """PyTorch recomputes its weight at each call."""
    module, x = made("delta")
    for layer in (module[0].blocks[0].write, module[0].blocks[1].sublayer[0], module[1]):
        nn.utils.parametrizations.spectral_norm(layer)
    network = network_of(module.eval())
    assert isinstance(network, Chain)
    assert [isinstance(part, Recorded) for part in network.parts] == [False, True, False, False, True]
    with torch.no_grad():
        torch.testing.assert_close(network(x), module(x))


def test_parameters_are_read_when_they_are_used() -> None:
    """Optimizers and loading therefore need not notify the network."""
    module, x = made("delta")
    network = network_of(module)
    other, _ = made("delta")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
        module.load_state_dict(other.state_dict())
        torch.testing.assert_close(network(x), module(x))


def test_a_chain_of_modules_leaves_out_what_does_nothing() -> None:
    chain = chain_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Identity(), nn.Sequential(), nn.Linear(2, 1))
    assert len(chain.parts) == 3
