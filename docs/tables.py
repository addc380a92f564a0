"""Write the tables of README and docs from the committed results and the specs: no number in them is typed.

    python docs/tables.py

A table stands between `<!-- name:begin -->` and `<!-- name:end -->`.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import yaml
from pydantic_core import PydanticUndefined

from deltarl.agents import build_policy
from deltarl.envs import build_envs
from deltarl.specs import TORSO_KINDS, DeltaTorsoSpec, MLPTorsoSpec, Spec
from deltarl.training import RunSpec

ROOT = Path(__file__).resolve().parent.parent
LEARNING = ROOT / "results" / "learning"


def quickstart_table() -> str:
    """What `make train` gave, seed by seed."""
    rows = [
        f"| {result['seed']} | {result['final_return_mean']:,.0f} ± {result['final_return_std']:,.0f} "
        f"| {_minutes(result['wall_seconds'])} |"
        for result in _results("quickstart", "delta")
    ]
    spec = _spec("quickstart", "delta")
    random, episodes = spec.env.random_score, spec.eval.episodes
    assert random is not None
    return "\n".join(
        [
            f"What it gave on {spec.env.id} after {spec.total_timesteps:,} steps (± is the standard deviation over "
            f"{episodes} episodes; random actions score {random.mean:,.0f}), each seed on one thread of a 2-core "
            "machine that had other work beside it:",
            "",
            "| seed | return | training |",
            "|---|---|---|",
            *rows,
        ]
    )


def learning_tables() -> str:
    """Final returns of every kind in every study, and the time they took."""
    parts = []
    for study in sorted(path.name for path in LEARNING.iterdir()):
        kinds = [kind for kind in TORSO_KINDS if _results(study, kind)]
        spec = _spec(study, kinds[0])
        random = spec.env.random_score
        assert random is not None
        parts += [
            f"### {spec.agent.algorithm.upper()} on {spec.env.id}, {spec.total_timesteps:,} steps",
            "",
            f"Config `{study}`; random actions score {random.mean:,.0f}. Parameters are of the whole policy, critics "
            "and targets included.",
            "",
            "| torso | return, one number a seed | mean | the last training episodes | parameters |",
            "|---|---|---|---|---|",
            *(_learning_row(study, kind) for kind in kinds),
            "",
        ]
    return "\n".join(parts).rstrip()


def _learning_row(study: str, kind: str) -> str:
    results = _results(study, kind)
    returns = [result["final_return_mean"] for result in results]
    training = ", ".join(f"{_training_return(folder):,.0f}" for folder in _folders(study, kind))
    parameters = _parameters(_spec(study, kind))
    return f"| {kind} | {_returns(results)} | {np.mean(returns):,.0f} | {training} | {parameters:,} |"


def _training_return(folder: Path) -> float:
    """Mean return of the last episodes (at most 100) of the training, with the noise that it explores with."""
    with (folder / "progress.csv").open(newline="") as file:
        return [float(row["rollout/ep_rew_mean"]) for row in csv.DictReader(file) if row["rollout/ep_rew_mean"]][-1]


def value_start_table() -> str:
    """Torsos at initialisation, and the quickstart, with the value at its start and near 0."""
    report = json.loads((ROOT / "results" / "value_start.json").read_text())
    starts = report["initialisation"]
    trained = {
        "at the sublayer's norm": _results("quickstart", "delta"),
        "near 0": report["quickstart with values that start near 0"],
    }
    return "\n".join(
        [
            f"Mean ± standard deviation over {len(starts['delta']['linear_share'])} initialisations:",
            "",
            "| torso | features linear in the observation, share of variance | first block moves the state by |",
            "|---|---|---|",
            *(
                f"| {name} | {_spread(start['linear_share'])} | {_spread(start['update_ratio'])} times its norm |"
                for name, start in starts.items()
            ),
            "",
            "| quickstart, value starts | return, one number a seed |",
            "|---|---|",
            *(f"| {start} | {_returns(results)} |" for start, results in trained.items()),
        ]
    )


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def _returns(results: list[dict[str, Any]]) -> str:
    return ", ".join(f"{result['final_return_mean']:,.0f}" for result in results)


def options_table() -> str:
    """Every option of a torso, with its range and default."""
    rows = [
        f"| `{name}` | {_values(field.annotation, field.metadata)} | {_default(name, field)} | {field.description} |"
        for name, field in DeltaTorsoSpec.model_fields.items()
        if name != "kind"
    ]
    rows += [
        f"| `{name}` | {_values(field.annotation, field.metadata)} | null | {field.description} (`mlp` alone) |"
        for name, field in MLPTorsoSpec.model_fields.items()
        if name != "kind"
    ]
    shared = ", ".join(f"`{name}`" for name in _shared_options() if name != "kind")
    return "\n".join(
        [
            "| option | values | default | |",
            "|---|---|---|---|",
            *rows,
            "",
            f"{shared} are options of `delta`, `residual` and `plain`; the others, but for the last two, of `delta`.",
        ]
    )


def _shared_options() -> list[str]:
    (base,) = (cls for cls in DeltaTorsoSpec.__bases__ if issubclass(cls, Spec))
    return list(base.model_fields)


def _values(annotation: Any, metadata: list[Any]) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in {types.UnionType, Union}:
        return ", ".join(_values(part, []) for part in get_args(annotation) if part is not type(None)) + ", null"
    if get_origin(annotation) is tuple:
        return "list of integers, each ≥ 1"
    limits = {symbol: getattr(item, name) for item in metadata for name, symbol in _LIMITS if hasattr(item, name)}
    kind = "integer" if annotation is int else "number"
    return ", ".join([kind, *(f"{symbol} {limit:g}" for symbol, limit in limits.items())])


_LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def _default(name: str, field: Any) -> str:
    return "2 · width" if field.default is PydanticUndefined and name == "hidden" else f"`{field.default}`"


def _results(study: str, kind: str) -> list[dict[str, Any]]:
    return [json.loads((folder / "result.json").read_text()) for folder in _folders(study, kind)]


def _folders(study: str, kind: str) -> list[Path]:
    return sorted((LEARNING / study / kind).glob("seed-*"))


def _spec(study: str, kind: str) -> RunSpec:
    folder = next((LEARNING / study / kind).glob("seed-*"))
    return RunSpec.model_validate(yaml.safe_load((folder / "config.yaml").read_text()))


def _parameters(spec: RunSpec) -> int:
    envs = build_envs(spec.env, seed=0, n_envs=1)
    policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs)
    return sum(parameter.numel() for parameter in policy.parameters())


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def support_table() -> str:
    """Algorithms, observations and kinds of torso, as the tests have them."""
    sys.path.insert(0, str(ROOT / "tests" / "policies"))
    from matrix import ALIASES, KINDS, SUBJECTS, matrix  # noqa: PLC0415  (the tests are no package)

    cells = list(matrix())
    rows = []
    for subject in SUBJECTS:
        own = [case for case in cells if case.subject is subject]
        aliases = [
            f'"{subject.observations[observation]}"' if any(case.observation == observation for case in own) else "—"
            for observation in ALIASES
        ]
        kinds = ", ".join(kind for kind in KINDS if any(case.kind == kind for case in own))
        rows.append(f"| {subject.name} | {' | '.join(aliases)} | {kinds} |")
    return "\n".join(
        [
            f"| algorithm | {' | '.join(f'{observation} observations' for observation in ALIASES)} | torsos |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


TABLES = {
    "README.md": {"quickstart": quickstart_table},
    "docs/torsos.md": {"options": options_table},
    "docs/policies.md": {"support": support_table},
    "docs/learning.md": {"learning": learning_tables, "value_start": value_start_table},
}


def filled(path: str) -> str:
    """The text of a page with its tables made anew."""
    text = (ROOT / path).read_text()
    for name, table in TABLES[path].items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        assert re.search(pattern, text, re.DOTALL), f"{path} has no place for {name}"
        text = re.sub(pattern, lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    for path in TABLES:
        (ROOT / path).write_text(filled(path))


if __name__ == "__main__":
    main()
