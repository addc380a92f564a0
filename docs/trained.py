"""Tables of learning results, from the committed results."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deltarl.agents import (
    build_policy,
)
from deltarl.agents.build import roles_of
from deltarl.comparison.statistics import mean
from deltarl.envs import EnvSpec, ScoreSpec, build_envs
from deltarl.export.scores import known_scores
from deltarl.library import read_yaml
from deltarl.training import RunSpec, packed

ROOT = Path(__file__).resolve().parent.parent
LEARNING = ROOT / "results" / "learning"


def quickstart_table() -> str:
    """The results of `make train`, by seed."""
    rows = [
        f"| {result['seed']} | {result['final_return_mean']:,.0f} ± {result['final_return_std']:,.0f} "
        f"| {_minutes(result['wall_seconds'])} |"
        for result in results_of("quickstart", "delta")
    ]
    spec = _spec("quickstart", "delta")
    random, episodes = spec.env.random_score, spec.eval.episodes
    assert random is not None
    return "\n".join(
        [
            f"Results on {spec.env.id} after {spec.total_timesteps:,} steps (± is the standard deviation over "
            f"{episodes} episodes; random actions score {random.mean:,.0f}). Each seed ran on one thread of a 2-core "
            "machine that was also doing other work:",
            "",
            "| seed | return | training |",
            "|---|---|---|",
            *rows,
        ]
    )


def agents_table() -> str:
    """The packed agents that come with deltarl, from their files."""
    rows = []
    for name, path in packed.shipped().items():
        pack = packed.read_pack(path)
        spec = RunSpec.model_validate(yaml.safe_load(pack.files["config.yaml"]))
        seeds = list(csv.DictReader(io.StringIO(pack.files["seeds.csv"].decode())))
        [own] = (row for row in seeds if int(row["seed"]) == pack.manifest.seed)
        each = mean(np.array([float(row["return_mean"]) for row in seeds]))
        known = [_number(score.mean) for score in known_scores(spec.env).values()]
        rows.append(
            f"| `{name}` | {spec.env.id} | {spec.agent.algorithm} | {spec.actor_torso.label()} | {int(own['steps']):,} "
            f"| {_number(float(own['return_mean']))} ± {_number(float(own['return_std']))} "
            f"| {_number(each.estimate)} [{_number(each.low or 0)}, {_number(each.high or 0)}], {len(seeds)} seeds "
            f"| {' | '.join(known)} |"
        )
    return "\n".join(
        [
            "| name | task | algorithm | torso | steps | return of the packed policy (± over episodes) "
            "| mean over seeds (95% interval) | random | published |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def learning_tables() -> str:
    """Final returns of every kind in every study, and published scores."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from learning import STUDIES  # noqa: PLC0415  (the scripts are no package)

    return "\n\n".join(_study(study) for study in sorted(STUDIES, key=lambda study: study.folder)).rstrip()


def _study(study: Any) -> str:
    spec = _spec(study.folder, study.kinds[0])
    her = " with hindsight replay" if getattr(spec.agent, "her", None) else ""
    random = _random_score(spec)
    success = "" if random.success_rate is None else f", with a success rate of {random.success_rate:.2f}"
    return "\n".join(
        [
            f"### {spec.agent.algorithm.upper()}{her} on {spec.env.id}, {spec.total_timesteps:,} steps",
            "",
            f"Config `{study.config}`; random actions score {random.mean:,.0f}{success}. Parameters are of the whole "
            "policy, critics and targets included.",
            *([f"Published: {study.published}."] if study.published else []),
            "",
            f"| torso | return, one number a seed | mean |{' success rate |' if success else ''} the last training "
            "episodes | parameters |",
            f"|---|---|---|{'---|' if success else ''}---|---|",
            *(_learning_row(study.folder, kind, bool(success)) for kind in study.kinds),
        ]
    )


def _random_score(spec: RunSpec) -> ScoreSpec:
    """The random score in the environment's file, which may have been measured after the run."""
    envs = (EnvSpec.model_validate(read_yaml(path).data) for path in sorted((ROOT / "envs").glob("*.yaml")))
    score = next(env.random_score for env in envs if (env.id, env.wrappers) == (spec.env.id, spec.env.wrappers))
    assert score is not None
    return score


def _learning_row(study: str, kind: str, with_success: bool) -> str:
    results = results_of(study, kind)
    returns = [result["final_return_mean"] for result in results]
    training = ", ".join(_number(_training_return(folder)) for folder in _folders(study, kind))
    rates = ", ".join(f"{result['success_rate']:.2f}" for result in results if with_success)
    success = f" {rates} |" if with_success else ""
    spec = _spec(study, kind)
    parameters, name = _parameters(spec), kind
    if kind == "delta" and getattr(spec, roles_of(spec.agent)[0]).heads == 1:
        name = "delta, one head"
    return f"| {name} | {_returns(results)} | {_number(np.mean(returns))} |{success} {training} | {parameters:,} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 50 else f"{value:.1f}"


def _training_return(folder: Path) -> float:
    """Mean return of the last training episodes (at most 100), with exploration noise."""
    with (folder / "progress.csv").open(newline="") as file:
        return [float(row["rollout/ep_rew_mean"]) for row in csv.DictReader(file) if row["rollout/ep_rew_mean"]][-1]


def _returns(results: list[dict[str, Any]]) -> str:
    return ", ".join(_number(result["final_return_mean"]) for result in results)


def results_of(study: str, kind: str) -> list[dict[str, Any]]:
    return [json.loads((folder / "result.json").read_text()) for folder in _folders(study, kind)]


def _folders(study: str, kind: str) -> list[Path]:
    return sorted((LEARNING / study / kind).glob("seed-*"))


def _spec(study: str, kind: str) -> RunSpec:
    folder = next((LEARNING / study / kind).glob("seed-*"))
    return RunSpec.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))


def _parameters(spec: RunSpec) -> int:
    envs = build_envs(spec.env, seed=0, n_envs=1)
    policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs, spec.encoder)
    return sum(parameter.numel() for parameter in policy.parameters())


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
