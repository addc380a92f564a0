"""Arms of equal size: the inner widths that give every arm the parameters, or the FLOPs, of the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deltarl.agents import build_policy
from deltarl.envs import build_envs
from deltarl.errors import ConfigError
from deltarl.gates.measure import networks
from deltarl.library import ROLES
from deltarl.torsos import Torso, TorsoSpec
from deltarl.training.build import one_message
from deltarl.training.spec import RunSpec

MOST_MISMATCH = 0.02
MOST_TRIALS = 12
Match = Literal["width", "parameters", "flops"]


@dataclass(frozen=True)
class Size:
    """How large an arm's networks are.

    Attributes:
        parameters: trainable parameters of the policy, target networks left out.
        flops: of one forward pass of every network, for one observation: twice the multiplications of all matrix
            products, as PyTorch counts them; what is done elementwise, the rank-1 update too, is not in it.
        inner: inner width of the actor's and the critic's blocks, or widths of an MLP's layers.
        mismatch: how much larger than the reference it is in what is matched; None where nothing is.
    """

    parameters: int
    flops: int
    inner: dict[str, int | tuple[int, ...] | None]
    mismatch: float | None


@dataclass(frozen=True)
class Counted:
    """A run, and the size of its networks; as in `Size`."""

    spec: RunSpec
    parameters: int
    flops: int


def parameters_of(policy: BasePolicy) -> int:
    """Trainable parameters, each once; those of target networks follow others and are left out."""
    found = {
        id(parameter): parameter.numel()
        for name, parameter in policy.named_parameters()
        if not name.split(".")[0].endswith("_target")
    }
    return sum(found.values())


def flops_of(policy: BasePolicy) -> int:
    """FLOPs of one forward pass of every network for one observation, features extractors apart."""
    policy.set_training_mode(False)
    total = 0
    for network in networks(policy).values():
        first = next(module for module in network.trunk.modules() if isinstance(module, nn.Linear | Torso))
        inputs = next(first.parameters()).new_zeros(1, first.in_features)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.head(network.trunk(inputs))
        total += counter.get_total_flops()
    return total


def match_sizes(
    arms: Mapping[str, RunSpec], reference: str, match: Match
) -> tuple[dict[str, RunSpec], dict[str, Size]]:
    """The runs of one task's arms, their inner widths chosen, and how large they then are.

    One factor scales the inner widths of an arm's actor and critic, of those that are other than the reference's: arms
    that differ in their critics alone have the same actor. An MLP whose `net_arch` is not given is
    Stable-Baselines3's own and stays as it is, whatever its size.

    Args:
        arms: runs of one task by arm.
        reference: the arm that the others are matched to.
        match: what they are to have in common.

    Raises:
        ConfigError: if an arm cannot come within 2% of the reference, or has inner widths in one of its torsos alone;
            if the environment or a policy cannot be made.
    """
    env = next(iter(arms.values())).env
    with one_message(f"env: {env.id} cannot be built from the config"):
        envs = build_envs(env, 0, 1)
    with closing(envs):
        known: dict[Any, tuple[int, int]] = {}  # arms that differ in how they learn alone have the same networks

        def measured(spec: RunSpec) -> Counted:
            networks_of = (spec.agent.algorithm, spec.agent.policy, spec.actor_torso, spec.critic_torso)
            if networks_of not in known:
                known[networks_of] = counted(spec)
            return Counted(spec, *known[networks_of])

        def counted(spec: RunSpec) -> tuple[int, int]:
            with one_message(f"agent: {spec.agent.algorithm} cannot be built for {env.id}"):
                policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs)
            return parameters_of(policy), flops_of(policy)

        def amount(counted: Counted) -> int:
            return counted.flops if match == "flops" else counted.parameters

        found = {arm: measured(spec) for arm, spec in arms.items()}
        goal = amount(found[reference])
        if match != "width":
            for arm, start in found.items():
                roles = [role for role in ROLES if getattr(start.spec, role) != getattr(found[reference].spec, role)]
                if arm != reference and _is_scalable(arm, start.spec, roles):
                    found[arm] = _solve(start, roles, measured, amount, goal)
                    if abs(left := amount(found[arm]) / goal - 1) > MOST_MISMATCH:
                        raise ConfigError(
                            f"arm {arm}: its {match} cannot come nearer to those of {reference} than {left:+.1%}, and "
                            f"{MOST_MISMATCH:.0%} is the most; give other widths or match: width"
                        )
    sizes = {
        arm: Size(
            counted.parameters,
            counted.flops,
            {role: getattr(counted.spec, role).inner for role in ROLES},
            None if match == "width" else amount(counted) / goal - 1,
        )
        for arm, counted in found.items()
    }
    return {arm: counted.spec for arm, counted in found.items()}, sizes


def _is_scalable(arm: str, spec: RunSpec, roles: Sequence[str]) -> bool:
    """Whether it has inner widths to choose: an MLP whose widths are not given has none."""
    given = [getattr(spec, role).inner is not None for role in roles]
    if any(given) and not all(given):
        raise ConfigError(f"arm {arm}: one torso is an mlp of no given size; give its net_arch, or set match: width")
    return bool(given) and all(given)


def _torsos(spec: RunSpec) -> tuple[TorsoSpec, ...]:
    return tuple(getattr(spec, role) for role in ROLES)


def _scaled(spec: RunSpec, roles: Sequence[str], factor: float) -> RunSpec:
    """The run with the inner widths of these roles times a factor, and at least 1."""

    return spec.model_copy(update={role: getattr(spec, role).scaled(factor) for role in roles})


def _solve(
    start: Counted,
    roles: Sequence[str],
    measured: Callable[[RunSpec], Counted],
    amount: Callable[[Counted], int],
    goal: int,
) -> Counted:
    """What comes nearest to the goal, by the secant method over the factor of the inner widths.

    Sizes are linear in the inner width of a block, and all but quadratic in the widths of an MLP.
    """
    tried = {tuple(_widths(start.spec)): start}
    before, factor = (0.0, 0), 1.0
    for _ in range(MOST_TRIALS):
        scaled = _scaled(start.spec, roles, factor)
        widths = tuple(_widths(scaled))
        new = widths not in tried
        if new:
            tried[widths] = measured(scaled)
        size = amount(tried[widths])
        if size in (goal, before[1]) or not (new or factor == 1.0):
            break
        slope = (size - before[1]) / (factor - before[0])
        before, factor = (factor, size), max(factor + (goal - size) / slope, factor / 4)
    return min(tried.values(), key=lambda counted: abs(amount(counted) - goal))


def _widths(spec: RunSpec) -> list[int]:
    found: list[int] = []
    for torso in _torsos(spec):
        found += [torso.inner] if isinstance(torso.inner, int) else list(torso.inner or ())
    return found
