"""The one mechanism that puts torsos into Stable-Baselines3's policies.

Stable-Baselines3 builds each network as a Sequential that starts with `Linear, activation`. The mixin asks for a
single hidden layer of the torso's width, so that every head behind it is sized right, and then puts the torso in that
layer's place: inside the method that makes the network, before optimizers and target copies are taken from it, and
in the same Sequential, because critics keep a plain list of theirs. Critics see observation and action in their
input, so a torso there sees both.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.optim import Optimizer

from deltarl.blocks import ACTIVATIONS
from deltarl.errors import ConfigError, Spec, suggestion
from deltarl.specs import AnyTorsoSpec, MLPTorsoSpec, merge_torso, parse_torso
from deltarl.torso import Torso, undecayed_parameters

TorsoLike = str | Mapping[str, Any] | Spec

# SB3's options that a torso replaces: what it has in their place, and how to have them all the same.
REPLACED = {
    "net_arch": ("width, depth and hidden", "'net_arch': [64, 64]"),
    "activation_fn": ("activation", "'activation': 'tanh'"),
}


class TorsoMixin:
    """Policy options `torso`, `actor_torso` and `critic_torso`; stands before an SB3 policy class among the bases.

    Args:
        torso: the torso of every role, as a kind (`"residual"`), as plain data
            (`{"kind": "delta", "width": 256, "depth": 2}`) or as a spec. Delta by default.
        actor_torso: what differs for the policy network, laid over `torso`.
        critic_torso: what differs for the value or Q networks, laid over `torso`.
        kwargs: the SB3 policy's own options, except `net_arch` and `activation_fn`, which the torso replaces.

    Raises:
        ConfigError: for an unknown option, a value out of its range, or an option that the torso replaces.
    """

    critic_key: ClassVar[str]  # SB3's name for the critic's entry in `net_arch`
    mlp_widths: ClassVar[tuple[int, ...]]  # SB3's default, which it does not reveal when only one role is an MLP

    def __init__(
        self,
        *args: Any,
        torso: TorsoLike | None = None,
        actor_torso: TorsoLike | None = None,
        critic_torso: TorsoLike | None = None,
        **kwargs: Any,
    ) -> None:
        known = inspect.signature(super().__init__).parameters
        _check_options(kwargs, list(known))
        given = inspect.signature(super().__init__).bind_partial(*args, **kwargs).arguments
        extractor = given.get("features_extractor_class", known["features_extractor_class"].default)
        if isinstance(given.get("observation_space"), spaces.Dict) and extractor is FlattenExtractor:
            raise ConfigError(f'{type(self).__name__}: Dict observations need "DeltaMultiInputPolicy"')
        self.actor_torso = _role_torso(torso, actor_torso, "actor_torso")
        self.critic_torso = _role_torso(torso, critic_torso, "critic_torso")
        others = {option: value for option, value in kwargs.items() if option not in REPLACED}
        super().__init__(*args, **others, **self._sb3_network_options())

    def _sb3_network_options(self) -> dict[str, Any]:
        """`net_arch` and `activation_fn` for SB3: the real ones of an MLP, one layer to be replaced of a torso."""
        specs = (self.actor_torso, self.critic_torso)
        mlps = [spec for spec in specs if isinstance(spec, MLPTorsoSpec)]
        options: dict[str, Any] = {}
        if len(mlps) < 2 or any(spec.net_arch is not None for spec in mlps):
            actor, critic = (
                list(self.mlp_widths if spec.net_arch is None else spec.net_arch)
                if isinstance(spec, MLPTorsoSpec)
                else [spec.width]
                for spec in specs
            )
            options["net_arch"] = {"pi": actor, self.critic_key: critic}
        activations = {spec.activation for spec in mlps}
        if len(activations) > 1:
            raise ConfigError(
                "actor_torso.activation and critic_torso.activation: Stable-Baselines3's policies have one activation "
                "for both roles, so two mlp torsos must name the same one"
            )
        for activation in activations - {None}:
            options["activation_fn"] = ACTIVATIONS[str(activation)]
        return options

    def _build(self, lr_schedule: Any) -> None:
        """SB3's `_build`, and then no weight decay for the gates, norms and biases of networks that hold a torso."""
        super()._build(lr_schedule)  # type: ignore[misc]
        assert isinstance(self, nn.Module)
        for module in self.modules():
            optimizer = getattr(module, "optimizer", None)
            if isinstance(optimizer, Optimizer) and any(isinstance(child, Torso) for child in module.modules()):
                _spare_from_weight_decay(optimizer, module)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """What `policy.load` rebuilds the policy from: SB3's own list, the torsos, and what SB3's list leaves out."""
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        del data["net_arch"], data["activation_fn"]
        return {
            **data,
            "share_features_extractor": self.share_features_extractor,  # type: ignore[attr-defined]
            "actor_torso": self.actor_torso.model_dump(mode="json"),
            "critic_torso": self.critic_torso.model_dump(mode="json"),
        }


def install(network: nn.Sequential, spec: Spec) -> None:
    """Replace the first Linear of `network`, and the activation behind it, by a torso; an MLP stays as it is."""
    if isinstance(spec, MLPTorsoSpec):
        return
    index, linear = next((i, child) for i, child in enumerate(network) if isinstance(child, nn.Linear))
    network[index] = Torso(linear.in_features, spec).to(linear.weight.device)  # type: ignore[arg-type]
    del network[index + 1]


def _role_torso(torso: TorsoLike | None, role_torso: TorsoLike | None, role: str) -> AnyTorsoSpec:
    """The torso of one role; a complaint names the option that the user gave."""
    merged: dict[str, Any] = {"kind": "delta"}
    option = "torso"
    for name, change in (("torso", torso), (role, role_torso)):
        if change is not None:
            option = name
            merged = merge_torso(merged, change)
    return parse_torso(merged, option)


def _check_options(given: Mapping[str, Any], known: list[str]) -> None:
    for option, (instead, example) in REPLACED.items():
        if given.get(option) is not None:
            raise ConfigError(
                f"{option}: a torso has {instead} in its place; for a plain MLP give torso={{'kind': 'mlp', {example}}}"
            )
    for option in given:
        if option not in known:
            names = ["torso", "actor_torso", "critic_torso", *known]
            raise ConfigError(f"policy_kwargs: unknown option '{option}'{suggestion(option, names)}")


def _spare_from_weight_decay(optimizer: Optimizer, network: nn.Module) -> None:
    """Move what must not decay into a parameter group of its own; nothing happens where there is no decay."""
    spared = undecayed_parameters(network)
    ids = {id(parameter) for name, parameter in network.named_parameters() if name in spared}
    for group in list(optimizer.param_groups):
        if not group.get("weight_decay"):
            continue
        kept = [parameter for parameter in group["params"] if id(parameter) not in ids]
        moved = [parameter for parameter in group["params"] if id(parameter) in ids]
        group["params"] = kept
        optimizer.add_param_group({**group, "params": moved, "weight_decay": 0.0})
