"""Matches the sizes of arms: inner widths that give every arm the parameters or FLOPs of the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deltarl.agents import build_policy
from deltarl.envs import EnvSpec, build_envs
from deltarl.errors import ConfigError
from deltarl.gates.encoders import encoders
from deltarl.gates.measure import networks
from deltarl.library import ROLES
from deltarl.torsos import Torso
from deltarl.training.build import one_message
from deltarl.training.spec import RunSpec

# What may have an inner width.
PARTS = (*ROLES, "encoder")
MOST_MISMATCH = 0.02
MOST_TRIALS = 12
Match = Literal["width", "parameters", "flops"]


@dataclass(frozen=True)
class Size:
    """The size of an arm's networks.

    Attributes:
        parameters: trainable parameters of the policy, without target networks.
        flops: FLOPs of one forward pass of every network for one observation: twice the multiplications of all matrix
            products, as PyTorch counts them, without elementwise operations such as the rank-1 update.
        inner: inner width of the actor's, the critic's and the encoder's blocks, or widths of an MLP's layers; an
            encoder without inner width is left out.
        mismatch: relative excess over the reference in the matched quantity; None if nothing is matched.
    """

    parameters: int
    flops: int
    inner: dict[str, int | tuple[int, ...] | None]
    mismatch: float | None


@dataclass(frozen=True)
class Counted:
    """A run, with `parameters` and `flops` of its networks as in `Size`."""

    spec: RunSpec
    parameters: int
    flops: int


def parameters_of(policy: BasePolicy) -> int:
    """Number of trainable parameters; those of target networks are not counted."""
    found = {
        id(parameter): parameter.numel()
        for name, parameter in policy.named_parameters()
        if not name.split(".")[0].endswith("_target")
    }
    return sum(found.values())


def flops_of(policy: BasePolicy) -> int:
    """FLOPs of one forward pass of every network and encoder for one observation, without SB3's own extractors."""
    policy.set_training_mode(False)
    total = 0
    for network in networks(policy).values():
        first = next(module for module in network.trunk.modules() if isinstance(module, nn.Linear | Torso))
        inputs = next(first.parameters()).new_zeros(1, first.in_features)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.head(network.trunk(inputs))
        total += counter.get_total_flops()
    for encoder in encoders(policy).values():
        observation = torch.zeros(1, *policy.observation_space.shape or (), device=policy.device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encoder(observation)
        total += counter.get_total_flops()
    return total


def match_sizes(
    arms: Mapping[str, RunSpec], reference: str, match: Match, parts: Sequence[str] | None = None
) -> tuple[dict[str, RunSpec], dict[str, Size]]:
    """Choose the inner widths of one task's arms; return their runs and sizes.

    One factor scales the inner widths of those among an arm's actor, critic and encoder that differ from the
    reference's: arms that differ only in their critics keep the same actor. An MLP without `net_arch` is
    Stable-Baselines3's own and stays as it is, whatever its size.

    Args:
        arms: runs of one task by arm.
        reference: the arm that the others are matched to.
        match: the quantity to match.
        parts: among actor_torso, critic_torso and encoder, those whose inner widths may be chosen; default: those that
            differ from the reference's.

    Raises:
        ConfigError: if an arm cannot come within 2% of the reference, or only one of its torsos has inner widths; if
            the environment or a policy cannot be built.
    """
    amount = partial(_amount, match=match)
    with _measuring(next(iter(arms.values())).env) as measured:
        found = {arm: measured(spec) for arm, spec in arms.items()}
        goal = amount(found[reference])
        if match != "width":
            for arm, start in found.items():
                base = found[reference].spec
                differing = [part for part in PARTS if getattr(start.spec, part) != getattr(base, part)]
                scaled = differing if parts is None else parts
                if arm != reference and _is_scalable(arm, start.spec, scaled):
                    found[arm] = _solve(start, _scalable(start.spec, scaled), measured, amount, goal)
                    if abs(left := amount(found[arm]) / goal - 1) > MOST_MISMATCH:
                        raise ConfigError(
                            f"arm {arm}: its {match} cannot come closer to those of {reference} than {left:+.1%}, but "
                            f"at most {MOST_MISMATCH:.0%} is allowed; give other widths or match: width"
                        )
    return {arm: counted.spec for arm, counted in found.items()}, _sizes(found, reference, match)


def sizes_of(arms: Mapping[str, RunSpec], reference: str, match: Match) -> dict[str, Size]:
    """The sizes of one task's arms as they stand; arguments and errors as for `match_sizes`."""
    return _sizes(counted_of(arms), reference, match)


def _sizes(arms: Mapping[str, Counted], reference: str, match: Match) -> dict[str, Size]:
    goal = _amount(arms[reference], match)
    return {
        arm: Size(
            counted.parameters,
            counted.flops,
            _inner(counted.spec),
            None if match == "width" else _amount(counted, match) / goal - 1,
        )
        for arm, counted in arms.items()
    }


def _amount(counted: Counted, match: Match) -> int:
    return counted.flops if match == "flops" else counted.parameters


def counted_of(runs: Mapping[str, RunSpec]) -> dict[str, Counted]:
    """The parameters and FLOPs of runs of one task, as they stand.

    Raises:
        ConfigError: if the environment or a policy cannot be built.
    """
    with _measuring(next(iter(runs.values())).env) as measured:
        return {name: measured(spec) for name, spec in runs.items()}


@contextmanager
def _measuring(env: EnvSpec) -> Iterator[Callable[[RunSpec], Counted]]:
    """Counts the parameters and FLOPs of runs in an environment."""
    with one_message(f"env: {env.id} cannot be built from the config"):
        envs = build_envs(env, 0, 1)
    known: dict[Any, tuple[int, int]] = {}  # arms that differ only in how they learn have the same networks

    def measured(spec: RunSpec) -> Counted:
        networks_of = (spec.agent.algorithm, spec.agent.policy, *(getattr(spec, part) for part in PARTS))
        if networks_of not in known:
            known[networks_of] = counted(spec)
        return Counted(spec, *known[networks_of])

    def counted(spec: RunSpec) -> tuple[int, int]:
        with one_message(f"agent: {spec.agent.algorithm} cannot be built for {env.id}"):
            policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs, spec.encoder)
        return parameters_of(policy), flops_of(policy)

    with closing(envs):
        yield measured


def _is_scalable(arm: str, spec: RunSpec, parts: Sequence[str]) -> bool:
    """Whether a run has inner widths to choose; an MLP without `net_arch` has none."""
    given = [getattr(spec, role).inner is not None for role in parts if role in ROLES]
    if any(given) and not all(given):
        raise ConfigError(
            f"arm {arm}: one torso is an mlp without a given size; give its net_arch, or set match: width"
        )
    return bool(_scalable(spec, parts))


def _inner(spec: RunSpec) -> dict[str, int | tuple[int, ...] | None]:
    found = {part: getattr(spec, part).inner for part in PARTS}
    return found if found["encoder"] is not None else {role: found[role] for role in ROLES}


def _scalable(spec: RunSpec, parts: Sequence[str]) -> list[str]:
    return [part for part in parts if getattr(spec, part).inner is not None]


def _scaled(spec: RunSpec, parts: Sequence[str], factor: float) -> RunSpec:
    """The run with the inner widths of these parts multiplied by a factor, and at least 1."""

    return spec.model_copy(update={part: getattr(spec, part).scaled(factor) for part in parts})


def _solve(
    start: Counted,
    parts: Sequence[str],
    measured: Callable[[RunSpec], Counted],
    amount: Callable[[Counted], int],
    goal: int,
) -> Counted:
    """Find the run closest to the goal, with the secant method over the factor of the inner widths.

    Sizes are linear in the inner width of a block, and nearly quadratic in the widths of an MLP.
    """
    tried = {tuple(_widths(start.spec)): start}
    before, factor = (0.0, 0), 1.0
    for _ in range(MOST_TRIALS):
        scaled = _scaled(start.spec, parts, factor)
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
    for part in PARTS:
        inner = getattr(spec, part).inner
        found += [inner] if isinstance(inner, int) else list(inner or ())
    return found
