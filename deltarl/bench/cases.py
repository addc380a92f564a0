"""The benchmark's cases: algorithms and networks, in the implementations of Stable-Baselines3, deltarl and SBX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_args

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from deltarl.agents.base import LeanSpec
from deltarl.agents.off_policy import OffPolicyAgentSpec
from deltarl.agents.on_policy import OnPolicyAgentSpec, OnPolicySpec
from deltarl.comparison.matching import match_sizes
from deltarl.errors import ConfigError, nearest
from deltarl.fast.vec_env import DummyVecEnv
from deltarl.library import load_config

TASK = "HalfCheetah-v5"
# Those with lean steps, off-policy first.
ALGORITHMS: Mapping[str, type[LeanSpec]] = {
    spec.model_fields["algorithm"].default: spec
    for spec in get_args(OffPolicyAgentSpec | OnPolicyAgentSpec)
    if issubclass(spec, LeanSpec)
}
ON_POLICY = {name for name, spec in ALGORITHMS.items() if issubclass(spec, OnPolicySpec)}
IN_SBX = {"sac", "td3", "ddpg", "tqc", "crossq", "ppo"}
NETWORKS = ("mlp", "residual", "delta", "delta at the mlp's FLOPs")
WIDTHS = dict.fromkeys(ON_POLICY, 64)  # of Stable-Baselines3's own networks; else 256
# Of whole trainings from the first gradient step on, with Stable-Baselines3's other defaults.
OPTIONS: Mapping[str, Any] = {"learning_starts": 100, "buffer_size": 100_000, "batch_size": 256}
ON_POLICY_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    name: {"n_steps": 256} if name == "ppo" else {} for name in ON_POLICY
}
ENVS = {name: 8 if name in ON_POLICY else 1 for name in ALGORITHMS}


@dataclass(frozen=True)
class Case:
    """One algorithm with one network."""

    algorithm: str
    network: str

    @property
    def ways(self) -> tuple[str, ...]:
        """The implementations that are timed against each other."""
        if self.network == NETWORKS[-1]:
            return ("deltarl",)
        return ("sb3", "deltarl", "sbx") if self.network == "mlp" and has_sbx(self.algorithm) else ("sb3", "deltarl")


def chosen(names: list[str]) -> list[Case]:
    """The cases of the named algorithms, or of all.

    Raises:
        ConfigError: for an unknown name.
    """
    for name in names:
        if name not in ALGORITHMS:
            raise ConfigError(
                f"bench: no algorithm '{name}'{nearest(name, ALGORITHMS)}; it times {', '.join(ALGORITHMS)}"
            )
    return [Case(name, network) for name in (names or ALGORITHMS) for network in NETWORKS]


def has_sbx(algorithm: str) -> bool:
    """Whether SBX is installed and has the algorithm."""
    return find_spec("sbx") is not None and algorithm in IN_SBX


def build(case: Case, way: str, device: str) -> BaseAlgorithm:
    """Build the algorithm as a script would, and take the first of its random steps."""
    spec = ALGORITHMS[case.algorithm]
    on_policy = case.algorithm in ON_POLICY
    options: dict[str, Any] = dict(ON_POLICY_OPTIONS[case.algorithm] if on_policy else OPTIONS)
    env = make_vec_env(TASK, ENVS[case.algorithm], seed=0, vec_env_cls=DummyVecEnv if way == "deltarl" else None)
    if way == "sbx":
        # Optional, and slow to import.
        algorithm: Any = getattr(import_module("sbx"), spec.stock.__name__)
        # SBX's own networks have other widths in these algorithms.
        kwargs = {"net_arch": [400, 300]} if case.algorithm in {"td3", "ddpg"} else {}
        model = algorithm("MlpPolicy", env, seed=0, policy_kwargs=kwargs, **options)
    else:
        algorithm = spec.stock if way == "sb3" else spec.lean
        policy, kwargs = ("MlpPolicy", {}) if case.network == "mlp" else ("DeltaPolicy", torsos(case))
        model = algorithm(policy, env, seed=0, device=device, policy_kwargs=kwargs, **options)
    model.set_logger(Logger(None, []))
    if isinstance(model, OffPolicyAlgorithm):
        model.learn(OPTIONS["learning_starts"])
    assert isinstance(model, BaseAlgorithm)
    return model


def torsos(case: Case) -> dict[str, Any]:
    """`policy_kwargs` of the case's torsos."""
    width = WIDTHS.get(case.algorithm, 256)
    norm = {"norm": "batch_renorm"} if case.algorithm == "crossq" else {}
    if case.network != NETWORKS[-1]:
        return {"torso": {"kind": case.network, "width": width, **norm}}
    spec = load_config("half_cheetah_sac", f"agent={case.algorithm}", f"env.n_envs={ENVS[case.algorithm]}", "torso=mlp")
    # One block, so that little but the matrix products grows with the FLOPs; of the widths tried, the fastest in SAC.
    torso = {"kind": "delta", "width": width * 3 // 8, "depth": 1, **norm}
    narrower = load_config("half_cheetah_sac", f"agent={case.algorithm}", f"torso={torso}")
    matched, _ = match_sizes({"mlp": spec, "delta": narrower}, "mlp", "flops")
    found = matched["delta"]
    return {"actor_torso": found.actor_torso.model_dump(), "critic_torso": found.critic_torso.model_dump()}
