"""Write the tables of README and docs from the committed results and the specs; no number is typed by hand.

    python docs/tables.py

A table is between `<!-- name:begin -->` and `<!-- name:end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from deltarl.agents import (
    ActionNoiseSpec,
    HERSpec,
    KLAdaptiveScheduleSpec,
    LinearScheduleSpec,
)
from deltarl.cli.list import about
from deltarl.envs import EnvSpec, NormalizeSpec, ScoreSpec, SuccessSpec
from deltarl.library import read_yaml
from deltarl.training import RunSpec
from deltarl.training.spec import CheckpointSpec, EvaluationSpec, GatesSpec
from deltarl.wrappers import WRAPPERS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # for when this file is loaded rather than run
import comparisons  # noqa: E402
import families  # noqa: E402
import measured  # noqa: E402
import mechanism  # noqa: E402
import options  # noqa: E402
import tasks  # noqa: E402
import trained  # noqa: E402


def support_table() -> str:
    """Algorithms, observations and kinds of torso, from the test matrix."""
    sys.path.insert(0, str(ROOT))
    from tests.policies.matrix import ALIASES, KINDS, SUBJECTS, matrix  # noqa: PLC0415  (it imports pytest)

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


def wrappers_table() -> str:
    """Every wrapper with its options."""
    rows = []
    for spec in WRAPPERS:
        (name,) = get_args(spec.model_fields["wrapper"].annotation)
        cells = [
            f"`{option}`: {options.values_of(field.annotation, field.metadata)}. {options.description(spec, option)}"
            for option, field in spec.model_fields.items()
            if option != "wrapper"
        ]
        rows.append(f"| `{name}` | {spec.__doc__} | {' '.join(cells) or '—'} |")
    return "\n".join(["| wrapper | | options |", "|---|---|---|", *rows])


def configs_table() -> str:
    """Every shipped config."""
    rows = []
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        data = read_yaml(path).data
        agent, env = (value if isinstance(value, str) else value["base"] for value in (data["agent"], data["env"]))
        rows.append(f"| `{path.stem}` | `{agent}` | `{env}` | {data['total_timesteps']:,} | {about(path)} |")
    return "\n".join(["| name | agent | env | steps | |", "|---|---|---|---|---|", *rows])


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {
        "quickstart": trained.quickstart_table,
        "study": comparisons.readme_text,
        "speed": measured.speed_in_short,
    },
    "benchmarks/README.md": {"bench": measured.bench_tables, "family_cost": families.cost_table},
    "docs/fast.md": {
        "speed": measured.speed_table,
        "first_doubt": comparisons.first_doubt,
        "doubt": comparisons.doubt_table,
        "compiled": measured.compiled_table,
        "seal": measured.seal_table,
    },
    "docs/compare.md": {
        "coverage": comparisons.coverage_table,
        "seeds": comparisons.seeds_needed,
        "study": comparisons.study_text,
        "bounded": comparisons.bounded_text,
    },
    "docs/torsos.md": {
        "options": options.options_table,
        "depth": families.depth_table,
        "depth_trained": families.depth_trained_table,
    },
    "docs/encoders.md": {"encoders": options.encoders_table},
    "docs/integrations.md": {
        "loggers": options.loggers_table,
        "sink_cost": measured.sink_cost_table,
    },
    "docs/clusters.md": {"launch": measured.launch_table},
    "docs/mechanism.md": {
        "starts": mechanism.starts_table,
        "steps": mechanism.steps_table,
        "probes": mechanism.probes_table,
        "returns": mechanism.returns_table,
        "critics": mechanism.critics_table,
        "rates": mechanism.rates_table,
        "erasing_speed": mechanism.speed_table,
    },
    "docs/guide.md": {"evaluation_cost": measured.evaluation_cost_table},
    "docs/policies.md": {"support": support_table},
    "docs/learning.md": {"learning": trained.learning_tables},
    "docs/deploy.md": {"latency": measured.latency_table, "agents": trained.agents_table},
    "docs/long-runs.md": {"checkpoint_cost": measured.checkpoint_cost_table},
    "docs/gates.md": {
        "gates_seen": measured.gates_seen_table,
        "gate_cost": measured.gate_cost_table,
        "interventions": mechanism.interventions_table,
    },
    "docs/environments.md": {
        **{group: partial(tasks.tasks_table, group) for group in tasks.GROUPS},
        "configs": configs_table,
    },
    "docs/configs.md": {
        "run": partial(options.fields_table, RunSpec, name="the file's name"),
        "evaluation": partial(options.fields_table, EvaluationSpec),
        "checkpoint": partial(options.fields_table, CheckpointSpec),
        "gates": partial(options.fields_table, GatesSpec),
        "env": partial(options.fields_table, EnvSpec),
        "normalize": partial(options.fields_table, NormalizeSpec),
        "success": partial(options.fields_table, SuccessSpec),
        "score": partial(options.fields_table, ScoreSpec),
        "wrappers": wrappers_table,
        "schedule": partial(options.fields_table, LinearScheduleSpec),
        "kl_adaptive": partial(options.fields_table, KLAdaptiveScheduleSpec),
        "shared": options.shared_table,
        "on_policy": partial(options.family_table, options.ON_POLICY),
        "actor_critic": partial(options.family_table, options.ACTOR_CRITIC),
        "q_learning": partial(options.family_table, options.Q_LEARNING),
        "action_noise": partial(options.fields_table, ActionNoiseSpec),
        "her": partial(options.fields_table, HERSpec),
        "policy": options.policy_table,
    },
}


def filled(path: str) -> str:
    """The text of a page with its tables regenerated."""
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
