"""The mechanism that puts torsos into Stable-Baselines3's policies.

Stable-Baselines3 builds each network as a Sequential with hidden layers between features and head. The mixin requests a
single hidden layer of the torso's width, so that every head gets the right size, and then replaces that layer by the
torso. It does so within the method that creates the network, before optimizers and target copies are made from it, and
in the same Sequential, because critics keep their networks in a plain list. Critics take observation and action as
input, so a torso there sees both.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from torch import nn
from torch.optim import Optimizer

from deltarl.encoders import Encoder, EncoderSpec, FlatEncoderSpec, parse_encoder
from deltarl.errors import ConfigError, Spec, suggestion
from deltarl.torsos import Torso, TorsoSpec, merge_torso, parse_torso, pickled_data, undecayed_parameters
from deltarl.torsos.block import ids

TorsoLike = str | Mapping[str, Any] | Spec
Widths = Mapping[str, tuple[int, ...]]

# SB3's options that a torso replaces: the torso's options for it, and an example of how to set the original.
REPLACED = {
    "net_arch": ("width, depth and hidden", "'net_arch': [64, 64]"),
    "activation_fn": ("activation", "'activation': 'tanh'"),
}

_POSITIONAL = {"observation_space", "action_space", "lr_schedule"}


class TorsoMixin:
    """Adds the policy options `torso`, `actor_torso`, `critic_torso` and `encoder`.

    It is listed before an SB3 policy among the bases.

    Args:
        torso: the torso of every role, as a kind (`"residual"`), as plain data
            (`{"kind": "delta", "width": 256, "depth": 2}`) or as a spec. Delta by default.
        actor_torso: changes for the policy network, merged over `torso`.
        critic_torso: changes for the value or Q networks, merged over `torso`.
        encoder: the encoder before the torsos, in the same three forms; SB3's own features extractor (`flat`) by
            default. SB3's `share_features_extractor` applies to it.
        kwargs: the SB3 policy's own options, except `net_arch` and `activation_fn`, which the torso replaces.

    Raises:
        ConfigError: for an unknown option, a value out of range, an option that the torso or the encoder replaces, a
            torso for a role that the policy does not have, observations that the encoder cannot read, or Dict
            observations that need another policy.
    """

    roles: ClassVar[tuple[str, ...]] = ("actor_torso", "critic_torso")
    # For each role SB3's key in `net_arch`, and its default, which SB3 does not reveal when only one role is an MLP.
    mlp_widths: ClassVar[Widths]
    default_torso: ClassVar[Mapping[str, Any]] = {"kind": "delta"}
    encoder: EncoderSpec
    dict_advice: ClassVar[str] = 'Dict observations need "DeltaMultiInputPolicy"'

    def __init__(
        self,
        *args: Any,
        torso: TorsoLike | None = None,
        actor_torso: TorsoLike | None = None,
        critic_torso: TorsoLike | None = None,
        encoder: TorsoLike | None = None,
        **kwargs: Any,
    ) -> None:
        signature = inspect.signature(super().__init__)
        _check_options(kwargs, [*self.roles, "encoder", *signature.parameters])
        bound = signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        flat = given["features_extractor_class"] is FlattenExtractor
        if flat and isinstance(given.get("observation_space"), spaces.Dict):
            raise ConfigError(f"{type(self).__name__}: {self.dict_advice}")
        for role, change in (("actor_torso", actor_torso), ("critic_torso", critic_torso)):
            if role in self.roles:
                setattr(self, role, _role_torso(self.default_torso, torso, change, role))
            elif change is not None:
                raise ConfigError(f"{role}: {type(self).__name__} has no such network; it takes {self.roles[0]}")
        self.encoder = FlatEncoderSpec() if encoder is None else parse_encoder(encoder)
        extractor = signature.parameters["features_extractor_class"].default
        if self.encoder.kind != "flat" and given["features_extractor_class"] is not extractor:
            raise ConfigError("features_extractor_class: an encoder stands in its place; give one of the two")
        for option in REPLACED:
            given.pop(option, None)
        super().__init__(*bound.args, **bound.kwargs, **self._sb3_network_options())
        # For `_get_constructor_parameters`, whose own list has the spaces, and a dummy instead of the schedule.
        self._options = {option: given[option] for option in given.keys() - _POSITIONAL}
        # Here and not in `_build`, because recurrent policies create another optimizer after it.
        assert isinstance(self, nn.Module)
        for module in self.modules():
            optimizer = getattr(module, "optimizer", None)
            if isinstance(optimizer, Optimizer) and any(isinstance(each, Torso | Encoder) for each in module.modules()):
                _spare_from_weight_decay(optimizer, module)
        project_after_steps(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        # Copying an optimizer drops its hooks.
        assert isinstance(self, nn.Module)
        project_after_steps(self)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        built = self.encoder.build(self.observation_space)  # type: ignore[attr-defined]
        if built is not None:
            return built
        return super().make_features_extractor()  # type: ignore[misc, no-any-return]

    def _sb3_network_options(self) -> dict[str, Any]:
        """`net_arch` and `activation_fn` for SB3: an MLP's real ones, or a single layer for the torso to replace."""
        specs: list[TorsoSpec] = [getattr(self, role) for role in self.roles]
        options: dict[str, Any] = {}
        if any(spec.layers is not None for spec in specs):
            widths = [
                list(default if spec.layers is None else spec.layers)
                for spec, default in zip(specs, self.mlp_widths.values(), strict=True)
            ]
            options["net_arch"] = dict(zip(self.mlp_widths, widths, strict=True)) if len(widths) > 1 else widths[0]
        activations = {activation for spec in specs for activation in spec.layer_activations}
        if len(activations) > 1:
            raise ConfigError(
                "actor_torso.activation and critic_torso.activation: Stable-Baselines3's policies have one activation "
                "for both roles, so two mlp torsos must name the same one"
            )
        for activation in activations - {None}:
            options["activation_fn"] = activation
        return options

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """The arguments from which `policy.load` rebuilds the policy: SB3's own list, all given options, and torsos.

        SB3's list lacks options that change the networks, such as `share_features_extractor` and the sizes of an LSTM.
        """
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        del data["net_arch"], data["activation_fn"]
        encoder = {} if self.encoder.kind == "flat" else {"encoder": self.encoder.model_dump(mode="json")}
        # As dicts, which the constructor validates into specs again: SB3 pickles these arguments, as it does a model's
        # `policy_kwargs`, and a pickled spec would tie the file to the class of this version.
        return {**data, **self._options, **{role: pickled_data(getattr(self, role)) for role in self.roles}, **encoder}


def install(network: nn.Sequential, spec: TorsoSpec) -> None:
    """Replace the hidden layer of `network` by a torso; an MLP stays as it is.

    The layer is everything from the first Linear to the head (the second Linear) or to the end. Modules before it are
    kept, such as CrossQ's normalisation of the input.
    """
    linears = [index for index, child in enumerate(network) if isinstance(child, nn.Linear)]
    if not linears:  # SB3's network after convolutions, which has no hidden layer
        return
    first, head = (*linears, len(network))[:2]
    layer = network[first]
    assert isinstance(layer, nn.Linear)
    if (torso := spec.build(layer.in_features)) is not None:
        network[first] = torso.to(layer.weight.device)
        del network[first + 1 : head]


class Projection:
    """Optimizer hook that calls `project_` of some modules after each step.

    A PyTorch hook runs in every algorithm's step, lean or not, before target networks are updated.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.modules: tuple[Any, ...] = tuple(modules)

    def __call__(self, *_: Any) -> None:
        for module in self.modules:
            module.project_()


def project_after_steps(policy: nn.Module) -> None:
    """Register a `Projection` on each optimizer in `policy` that steps parameters of modules with a `project_` method.

    Optimizers without such modules get no hook. Target networks are not stepped and so not projected.
    """
    for module in policy.modules():
        optimizer = getattr(module, "optimizer", None)
        if not isinstance(optimizer, Optimizer):
            continue
        stepped = ids(parameter for group in optimizer.param_groups for parameter in group["params"])
        found = [
            child
            for child in module.modules()
            if callable(getattr(child, "project_", None)) and ids(child.parameters()) & stepped
        ]
        if found:
            optimizer.register_step_post_hook(Projection(found))


def _role_torso(
    default: Mapping[str, Any], torso: TorsoLike | None, role_torso: TorsoLike | None, role: str
) -> TorsoSpec:
    """The torso of one role; errors name the option that the user gave."""
    merged = dict(default)
    option = "torso"
    for name, change in (("torso", torso), (role, role_torso)):
        if change is not None:
            option = name
            merged = merge_torso(merged, change)
    return parse_torso(merged, option)


def _check_options(given: Mapping[str, Any], known: Iterable[str]) -> None:
    for option, (instead, example) in REPLACED.items():
        if given.get(option) is not None:
            raise ConfigError(
                f"{option}: a torso has {instead} in its place; for a plain MLP give torso={{'kind': 'mlp', {example}}}"
            )
    names = ["torso", *known]
    for option in given:
        if option not in names:
            raise ConfigError(f"policy_kwargs: unknown option '{option}'{suggestion(option, names)}")


def _spare_from_weight_decay(optimizer: Optimizer, network: nn.Module) -> None:
    """Move parameters that must not decay into a separate parameter group; without weight decay, do nothing."""
    spared = undecayed_parameters(network)
    ids = {id(parameter) for name, parameter in network.named_parameters() if name in spared}
    for group in list(optimizer.param_groups):
        if not group.get("weight_decay"):
            continue
        kept = [parameter for parameter in group["params"] if id(parameter) not in ids]
        moved = [parameter for parameter in group["params"] if id(parameter) in ids]
        group["params"] = kept
        optimizer.add_param_group({**group, "params": moved, "weight_decay": 0.0})
