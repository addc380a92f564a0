"""What the gates of a policy's networks do on a batch of observations.

Measuring changes nothing: no parameter, buffer, gradient, mode or random state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Normal

from deltarl.gates.gradients import Gradients, recorded, root_mean_squares, squares
from deltarl.torsos import BlockRecord, Torso
from deltarl.torsos.block import observe
from deltarl.torsos.layers import ACTIVATIONS

Observations = Tensor | Mapping[str, Tensor]
_ACTIVATIONS = tuple(ACTIVATIONS.values())
MOST_OUTPUTS = 16  # maximum number of outputs whose gradients are computed one by one
ACTING = ("policy", "actor", "q")  # the networks that choose actions; the others are value networks
ACTOR_CRITICS = (ActorCriticPolicy, MaskableActorCriticPolicy)


@dataclass(frozen=True)
class Batch:
    """A batch to measure a policy on.

    Attributes:
        observations: as the policy sees them: normalised, images channel-first.
        actions: as the critics see them, scaled to [-1, 1]; only for off-policy algorithms with continuous actions.
        lstm_states: for recurrent policies, `[layers, batch, hidden]` each.
        episode_starts: for recurrent policies, `[batch]`, 1 where an episode starts.
        training: further inputs of the training loss for these rows (see `deltarl.gates.batches`), by name.
    """

    observations: Observations
    actions: Tensor | None = None
    lstm_states: RNNStates | None = None
    episode_starts: Tensor | None = None
    training: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NetworkRecord:
    """One network on a batch of N.

    Attributes:
        blocks: records of its torso's blocks, in order; empty for an MLP.
        gradients: for each block, the root mean square over samples and outputs (at most 16, evenly spread) of the norm
            of an output's gradient with respect to the weights and biases of the block's Linears.
        gate_gradients: the same for its gate; NaN without a learned gate.
        weight_norms: for each block, the Euclidean norm of all its parameters.
        features: the input of the network's head, `[N, features]`.
        output: the output of the head, `[N, outputs]`.
        dormant: fraction of dormant units of its activations; None if no module is an activation.
        weight_norm: Euclidean norm of all parameters.
        action_gradient: mean norm of dQ/da over the batch; only for critics that take actions.
        policy: for the network that chooses actions, the parameters of its distributions: `mean` and `std` (before any
            squashing), `logits`, or `logits0`, ... for several choices; None if actions are not sampled.
    """

    blocks: tuple[BlockRecord, ...]
    gradients: tuple[float, ...]
    gate_gradients: tuple[float, ...]
    weight_norms: tuple[float, ...]
    features: Tensor
    output: Tensor
    dormant: float | None
    weight_norm: float
    action_gradient: float | None = None
    policy: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Network:
    """A network between its features and its head, as Stable-Baselines3 builds it."""

    whole: nn.Module  # takes the features
    trunk: nn.Sequential
    head: nn.Module


def networks(policy: BasePolicy) -> dict[str, Network]:
    """The networks of a policy by name: policy and value; actor, qf0, qf1, ...; or q. Target networks are omitted."""
    if isinstance(policy, ACTOR_CRITICS):
        extractor = policy.mlp_extractor
        return {
            "policy": Network(extractor.policy_net, extractor.policy_net, policy.action_net),
            "value": Network(extractor.value_net, extractor.value_net, policy.value_net),
        }
    for name in ("q_net", "quantile_net"):
        if (found := getattr(policy, name, None)) is not None:
            return {"q": _split(getattr(found, name))}
    actor: Any = policy.actor
    trunk = getattr(actor, "latent_pi", None)
    own = _split(actor.mu) if trunk is None else Network(trunk, trunk, actor.mu)
    return {"actor": own} | {f"qf{index}": _split(network) for index, network in enumerate(policy.critic.q_networks)}  # type: ignore[union-attr,arg-type]


def _split(network: nn.Sequential) -> Network:
    """Split a network before its head: the last Linear and whatever follows it."""
    last = max(index for index, child in enumerate(network) if isinstance(child, nn.Linear))
    trunk = network[:last]
    assert isinstance(trunk, nn.Sequential)
    return Network(network, trunk, network[last:])


def measure(policy: BasePolicy, batch: Batch) -> dict[str, NetworkRecord]:
    """Measure every network of `policy` on `batch`.

    Args:
        policy: a policy of any algorithm, with or without torsos.
        batch: the batch, on the policy's device.

    Returns:
        One record per network, by the names of `networks`. All tensors are detached. Critics are omitted if the batch
        has no actions for them.
    """
    found = networks(policy)
    with evaluating(policy):
        with torch.no_grad(), _inputs(found) as inputs:
            distribution = run_through(policy, batch)
        return {
            name: _network(
                network,
                inputs[name],
                _width_of_action(name, batch),
                _parameters(distribution) if name in ACTING else None,
            )
            for name, network in found.items()
            if name in inputs
        }


def run_through(policy: BasePolicy, batch: Batch) -> Any:
    """Call every network once through the policy's own code, without sampling an action.

    Returns PyTorch's distribution of actions before any squashing, a list if there are several, or None.
    """
    observations: Any = batch.observations
    if isinstance(policy, RecurrentActorCriticPolicy):
        states: Any = batch.lstm_states
        starts = batch.episode_starts
        assert states is not None
        assert starts is not None
        distribution, _ = policy.get_distribution(observations, states.pi, starts)
        policy.predict_values(observations, states.vf, starts)
        return distribution.distribution
    if isinstance(policy, ACTOR_CRITICS):
        found: Any = policy.get_distribution(observations)
        policy.predict_values(observations)
        return getattr(found, "distribution", None) or getattr(found, "distributions", None)
    policy._predict(observations, deterministic=True)
    if (critic := getattr(policy, "critic", None)) is not None and batch.actions is not None:
        critic(observations, batch.actions)
    return getattr(getattr(getattr(policy, "actor", None), "action_dist", None), "distribution", None)


def _parameters(distribution: Any) -> dict[str, Tensor] | None:
    """The parameters of normal, categorical and Bernoulli distributions."""
    if isinstance(distribution, Normal):
        return {"mean": distribution.mean, "std": distribution.stddev}
    if isinstance(distribution, Bernoulli):  # each a choice between two
        return {"logits": torch.stack([torch.zeros_like(distribution.logits), distribution.logits], -1)}
    if isinstance(distribution, Categorical):
        return {"logits": distribution.logits}
    if isinstance(distribution, list):
        return {f"logits{index}": each.logits for index, each in enumerate(distribution)}
    return None


def _network(
    network: Network, features: Tensor, actions: int, policy: dict[str, Tensor] | None = None
) -> NetworkRecord:
    torso = next((child for child in network.trunk if isinstance(child, Torso)), None)
    stack = () if torso is None else tuple(torso.blocks)
    with torch.no_grad(), passes(stack) as states, _activations(network.trunk) as activity:
        latent = network.trunk(features)
        output = network.head(latent)
    blocks = tuple(observe(block, *states[block]) for block in stack)
    action_gradient = None
    if actions:
        with torch.enable_grad():
            through = features.detach().clone().requires_grad_()
            [gradient] = torch.autograd.grad(network.head(network.trunk(through)).mean(-1).sum(), through)
        action_gradient = float(gradient[..., -actions:].norm(dim=-1).mean())
    gradients = Gradients((), ()) if torso is None else _gradients(network, torso, features)
    return NetworkRecord(
        blocks=blocks,
        gradients=gradients.blocks,
        gate_gradients=gradients.gates,
        weight_norms=() if torso is None else tuple(_norm(block) for block in torso.blocks),
        features=latent,
        output=output,
        dormant=_dormant(activity),
        weight_norm=_norm(nn.ModuleList([network.trunk, network.head])),
        action_gradient=action_gradient,
        policy=policy,
    )


def _norm(module: nn.Module) -> float:
    return float(torch.stack([p.detach().norm() for p in module.parameters()] or [torch.zeros(())]).norm())


def _gradients(network: Network, torso: Torso, features: Tensor) -> Gradients:
    """Gradients of single outputs for single rows."""
    with torch.enable_grad(), recorded([torso]) as calls:
        output = network.head(network.trunk(features)).flatten(1)
    linears = list(calls)
    columns = torch.linspace(0, output.shape[1] - 1, min(output.shape[1], MOST_OUTPUTS)).round().int().tolist()
    total = torch.zeros(2, len(torso.blocks), dtype=torch.float64)
    for column in columns:
        # Not backward: what the parameters' own .grad holds is the optimizer's.
        found = torch.autograd.grad(
            output[:, column].sum(), [calls[each][1] for each in linears], retain_graph=True, allow_unused=True
        )
        total += squares(torso, calls, dict(zip(linears, found, strict=True)))
    return root_mean_squares(torso, total, len(features) * len(columns))


def _dormant(activity: list[Tensor], threshold: float = 0.025) -> float | None:
    """Fraction of units with a mean |activation| of at most `threshold` of their layer's (Sokar et al., 2302.12902)."""
    if not activity:
        return None
    units = torch.cat([each / each.mean() for each in activity])
    return float((~(units > threshold)).float().mean())


def _width_of_action(name: str, batch: Batch) -> int:
    """For a critic, how many of its last inputs are the action."""
    return 0 if batch.actions is None or not name.startswith("qf") else int(batch.actions.shape[-1])


@contextmanager
def evaluating(policy: BasePolicy) -> Iterator[None]:
    """Evaluation mode within the context; each module's own mode is restored afterwards."""
    modes = [(module, module.training) for module in policy.modules()]
    try:
        policy.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _inputs(found: Mapping[str, Network]) -> Iterator[dict[str, Tensor]]:
    """Record the input of each network within the context."""
    inputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, args: inputs.__setitem__(name, args[0].detach())

    handles = [network.whole.register_forward_pre_hook(keep(name)) for name, network in found.items()]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def passes(blocks: Iterable[nn.Module]) -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Record the input and output of each block within the context."""
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(block: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found[block] = (args[0].detach(), output.detach())

    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _activations(trunk: nn.Module) -> Iterator[list[Tensor]]:
    """Record the mean |activation| of each unit within the context, one tensor per layer."""
    activity: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        del module, args
        activity.append(output.detach().abs().reshape(-1, output.shape[-1]).mean(0))

    handles = [module.register_forward_hook(keep) for module in trunk.modules() if isinstance(module, _ACTIVATIONS)]
    try:
        yield activity
    finally:
        for handle in handles:
            handle.remove()
