"""Sizes of a run's networks."""

from __future__ import annotations

from contextlib import closing

from deltarl.agents.build import build_policy, roles_of
from deltarl.envs import build_envs
from deltarl.gates.encoders import encoders
from deltarl.gates.measure import ACTING, networks
from deltarl.training.build import one_message
from deltarl.training.spec import RunSpec


def parameters_by_role(spec: RunSpec) -> dict[str, int]:
    """Count the trainable parameters of each role's networks, heads included, and of the encoders.

    They are summed over critics and over encoders. Target networks, Stable-Baselines3's features extractors and
    parameters outside the networks, such as a standard deviation, are left out.

    Raises:
        ConfigError: if the environment or the policy cannot be built.
    """
    with one_message(f"env: {spec.env.id} cannot be built from the config"):
        envs = build_envs(spec.env, 0, 1)
    with closing(envs), one_message(f"agent: {spec.agent.algorithm} cannot be built for {spec.env.id}"):
        policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs, spec.encoder)
    roles = roles_of(spec.agent)
    counts = dict.fromkeys(roles, 0)
    for name, network in networks(policy).items():
        parts = (network.whole, network.head)
        found = {id(parameter): parameter.numel() for part in parts for parameter in part.parameters()}
        counts[roles[0] if name in ACTING else roles[-1]] += sum(found.values())
    own = [parameter for encoder in encoders(policy).values() for parameter in encoder.parameters()]
    return {**counts, "encoder": sum(parameter.numel() for parameter in own)} if own else counts
