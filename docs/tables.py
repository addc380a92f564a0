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
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deltarl.agents import (
    ActionNoiseSpec,
    AnyAgentSpec,
    HERSpec,
    KLAdaptiveScheduleSpec,
    LinearScheduleSpec,
    build_policy,
)
from deltarl.agents.base import AlgorithmSpec, GSDESpec, WindowSpec
from deltarl.bench.clock import Ratio
from deltarl.bench.measure import ratios
from deltarl.bench.tables import scoreboard, steps_table, where
from deltarl.cli.list import about
from deltarl.envs import EnvSpec, NormalizeSpec, ScoreSpec, SuccessSpec, WrapperSpec, build_envs
from deltarl.errors import Spec
from deltarl.gates import read_record
from deltarl.library import read_yaml
from deltarl.torsos import KINDS, TORSO_KINDS, TorsoSpec
from deltarl.training import RunSpec
from deltarl.training.spec import CheckpointSpec, EvaluationSpec, GatesSpec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # where this file is loaded and not run
import comparisons  # noqa: E402
import mechanism  # noqa: E402

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
    """Final returns of every kind in every study, and what others report."""
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
    """Of the environment's file, which may have been scored after the run."""
    envs = (EnvSpec.model_validate(read_yaml(path).data) for path in sorted((ROOT / "envs").glob("*.yaml")))
    score = next(env.random_score for env in envs if (env.id, env.wrappers) == (spec.env.id, spec.env.wrappers))
    assert score is not None
    return score


def _learning_row(study: str, kind: str, with_success: bool) -> str:
    results = _results(study, kind)
    returns = [result["final_return_mean"] for result in results]
    training = ", ".join(_number(_training_return(folder)) for folder in _folders(study, kind))
    rates = ", ".join(f"{result['success_rate']:.2f}" for result in results if with_success)
    success = f" {rates} |" if with_success else ""
    parameters = _parameters(_spec(study, kind))
    return f"| {kind} | {_returns(results)} | {_number(np.mean(returns))} |{success} {training} | {parameters:,} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 50 else f"{value:.1f}"


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
    return ", ".join(_number(result["final_return_mean"]) for result in results)


def checkpoint_cost_table() -> str:
    """First and later checkpoints beside SB3's own save, of a full replay buffer."""
    found = json.loads((ROOT / "results" / "checkpoint_cost.json").read_text())
    names = {"deltarl": "checkpoint", "sb3": "`save` and `save_replay_buffer`"}
    rows = []
    for save, name in names.items():
        for when in ("first", "later"):
            those = [row for row in found["rows"] if (row["save"], row["when"]) == (save, when)]
            seconds, mib = (np.median([row[key] for row in those]) for key in ("seconds", "mib"))
            memory = max(row["memory_mib"] for row in those)
            rows.append(f"| {name}, {when} | {seconds:.1f} | {mib:,.0f} | {memory:.0f} |")
    cheaper = found["later_times_cheaper_than_sb3"]["seconds"]
    transitions, later = re.findall(r"\d+", found["command"])[:2]
    return "\n".join(
        [
            f"SAC on Humanoid-v5 with a full buffer of {int(transitions):,} transitions "
            f"({found['buffer_mib']:,.0f} MiB), and {int(later):,} steps later, beside Stable-Baselines3's own, in one "
            "process (`.venv/bin/python benchmarks/checkpoint_cost.py`; medians, of memory the highest; a checkpoint "
            "waits for the disk, Stable-Baselines3 does not):",
            "",
            "| save | seconds | MiB written | MiB of memory more |",
            "|---|---|---|---|",
            *rows,
            "",
            f"A later checkpoint was {cheaper['median']} times cheaper ({min(cheaper['each'])} to "
            f"{max(cheaper['each'])} in {len(cheaper['each'])} repeats).",
        ]
    )


def gates_seen_table() -> str:
    """Mean beta and erase share of each block at the end, on the data of the moment and on the fixed batch."""
    record = read_record(ROOT / "results" / "gates" / "hopper_ppo" / "gates.npz")
    rows = []
    for net in ("policy", "value"):
        columns = [
            record[f"{source}/{net}/{name}"][-1]
            for source in ("gates", "gates_probe")
            for name in ("beta_mean", "erase_share")
        ]
        rows += [
            f"| {net} | {block} | {' | '.join(f'{value:.2f}' for value in values)} |"
            for block, values in enumerate(zip(*columns, strict=True))
        ]
    at = f"mean beta at step {record['steps'][-1]:,}, rollout"
    head = f"| network | block | {at} | erase share | mean beta, fixed batch | erase share |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def gate_cost_table() -> str:
    """Share of the training time that goes into measuring."""
    found = json.loads((ROOT / "results" / "gate_cost.json").read_text())
    rows = [
        f"| {name} | {case['steps']:,} | {case['every']:,} | {case['seconds']:,.0f} | {case['gates_seconds']:.2f} "
        f"| {case['share']:.2%} |"
        for name, case in found["cases"].items()
    ]
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/gate_cost.py`, one thread, seconds of the processor, other work beside it:",
            "",
            "| training | steps | every | seconds | of them measuring | share |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def seal_table() -> str:
    """What it costs to look whether a lean step is still what Stable-Baselines3 would do."""
    found = json.loads((ROOT / "results" / "seal_cost.json").read_text())
    rows = []
    for name, case in found["cases"].items():
        shares = " | ".join(f"{middle:.1%} ({low:.1%} to {high:.1%})" for low, middle, high in case["share"].values())
        rows.append(f"| {name} | {case['step_ms']:,.2f} | {shares} |")
    return "\n".join(
        [
            f"`.venv/bin/python benchmarks/seal_cost.py`, one thread, in turns, {found['rounds']} rounds: how much of "
            "a training step the checks take, medians with quartiles.",
            "",
            "| training | a step, ms | the libraries' code alone | an environment of yours | a callback of yours |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def options_table() -> str:
    """Every option of a torso, with its range and default, and the kinds that have it."""
    kinds = [KINDS[kind] for kind in TORSO_KINDS]
    options = list(dict.fromkeys((name, str(spec.model_fields[name])) for spec in kinds for name in spec.model_fields))
    rows = []
    for name, form in options:
        holders = [spec for spec in kinds if name in spec.model_fields and str(spec.model_fields[name]) == form]
        field = holders[0].model_fields[name]
        if name == "kind":
            continue
        of = ", ".join(f"`{spec.model_fields['kind'].default}`" for spec in holders)
        values = _values(field.annotation, field.metadata) + (", null" if name == "hidden" else "")
        rows.append(f"| `{name}` | {of} | {values} | {_default(name, field)} | {field.description} |")
    return "\n".join(["| option | of | values | default | |", "|---|---|---|---|---|", *rows])


def _values(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(parts[0], _flat(parts[1:]))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in {types.UnionType, Union}:
        forms = dict.fromkeys(_values(part, metadata) for part in parts if part is not type(None))
        return " or ".join(forms) + (", null" if type(None) in parts else "")
    if origin is tuple:
        return _values_of_tuple(*parts)
    return _values_of_class(origin or annotation, metadata)


def _values_of_tuple(first: Any, second: Any) -> str:
    if second is not Ellipsis:
        return f"[{_values(first)}; {_values(second)}]"
    kind, _, limits = _values(first).partition(", ")
    return f"list of {kind}s" + (f", each {limits}" if limits else "")


def _values_of_class(cls: type, metadata: Sequence[Any]) -> str:
    if cls in {LinearScheduleSpec, KLAdaptiveScheduleSpec}:
        return "[schedule](#schedules)"
    if cls not in {int, float}:
        return {bool: "`true`, `false`", str: "text"}.get(cls, "mapping")
    limits = {symbol: getattr(item, name) for item in metadata for name, symbol in _LIMITS if hasattr(item, name)}
    kind = "integer" if cls is int else "number"
    return ", ".join([kind, *(f"{symbol} {limit:.10g}" for symbol, limit in limits.items())])


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """What `Annotated` holds, with that of a `Field` in it laid open."""
    return [item for found in metadata for item in (found.metadata if isinstance(found, FieldInfo) else (found,))]


_LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        return {"hidden": "`null`", "heads": "1, or width / head_width"}.get(name, "its own")
    if isinstance(value, Spec):
        return f"`{value.kind}`" if isinstance(value, TorsoSpec) else "as below"
    if isinstance(value, int) and value >= 10_000:
        return f"`{value:_}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


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


ALGORITHMS: dict[str, type[AlgorithmSpec]] = {
    get_args(spec.model_fields["algorithm"].annotation)[0]: spec for spec in get_args(AnyAgentSpec)
}
ON_POLICY = ("ppo", "recurrent_ppo", "a2c", "trpo")
ACTOR_CRITIC = ("sac", "tqc", "crossq", "td3", "ddpg")
Q_LEARNING = ("dqn", "qrdqn")
# The fields that on-policy and off-policy algorithms have alike.
SHARED = tuple(dict.fromkeys(name for spec in (AlgorithmSpec, WindowSpec, GSDESpec) for name in spec.model_fields))


def fields_table(spec: type[Spec], **stated: str) -> str:
    """Every field of a model; `stated` are defaults that something else than the model decides."""
    rows = [
        f"| `{name}` | {_FORMS.get(name) or _values(field.annotation, field.metadata)} "
        f"| {stated.get(name) or _default(name, field)} "
        f"| {_description(spec, name)} |"
        for name, field in spec.model_fields.items()
    ]
    return "\n".join(["| key | values | default | |", "|---|---|---|---|", *rows])


def _description(spec: type[Spec], name: str, others: Sequence[type[Spec]] = ()) -> str:
    """What a model, or the nearest of its bases, or else one of the other models says of a field."""
    bases = [base for model in (spec, *others) for base in model.__mro__ if issubclass(base, Spec)]
    said = (base.model_fields[name].description for base in bases if name in base.model_fields)
    found = next(filter(None, said), None)
    assert found, f"{spec.__name__}.{name} has no description"
    return found


# What stands in a file in the place of these models.
_FORMS = {
    "agent": "name or mapping",
    "env": "name or mapping",
    "actor_torso": "kind or mapping",
    "critic_torso": "kind or mapping",
}


def shared_table() -> str:
    """Hyperparameters that on-policy and off-policy algorithms have alike."""
    names = [name for name in SHARED if name != "algorithm"]
    head, line, *rows = _several(ALGORITHMS, names).splitlines()
    choice = f"| `algorithm` | all | {', '.join(f'`{name}`' for name in ALGORITHMS)} | required | Which one. |"
    return "\n".join([head, line, choice, *rows])


def family_table(algorithms: Sequence[str]) -> str:
    """The other hyperparameters of some algorithms."""
    models = {name: ALGORITHMS[name] for name in algorithms}
    return _several(models, [name for name in _all_fields(models) if name not in SHARED])


def policy_table() -> str:
    """Options of the policies of all algorithms."""
    models = {name: spec.model_fields["policy"].annotation for name, spec in ALGORITHMS.items()}
    return _several(models, _all_fields(models))


def _all_fields(models: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(field for model in models.values() for field in model.model_fields))


def _several(models: dict[str, Any], names: Iterable[str]) -> str:
    rows = []
    for name in names:
        fields = {owner: model.model_fields[name] for owner, model in models.items() if name in model.model_fields}
        missing = [owner for owner in models if owner not in fields]
        owners = "all" if not missing else f"all but {missing[0]}" if len(missing) == 1 else ", ".join(fields)
        values = _told_apart({owner: _values(field.annotation, field.metadata) for owner, field in fields.items()})
        defaults = _told_apart({owner: _default(name, field) for owner, field in fields.items()})
        said = _told_apart({owner: _description(models[owner], name, list(models.values())) for owner in fields})
        rows.append(f"| `{name}` | {owners} | {values} | {defaults} | {said} |")
    return "\n".join(["| key | of | values | default | |", "|---|---|---|---|---|", *rows])


def _told_apart(texts: dict[str, str]) -> str:
    """The text that most share, and behind it the algorithms that have another."""
    found = list(texts.values())
    common = max(dict.fromkeys(found), key=found.count)
    others = {text: [owner for owner in texts if texts[owner] == text] for text in dict.fromkeys(found)}
    del others[common]
    separator = " " if common.endswith(".") else "; "
    return separator.join([common, *(f"{', '.join(owners)}: {text}" for text, owners in others.items())])


def wrappers_table() -> str:
    """Every wrapper with its options."""
    rows = []
    for spec in get_args(get_args(WrapperSpec)[0]):
        (name,) = get_args(spec.model_fields["wrapper"].annotation)
        options = [
            f"`{option}`: {_values(field.annotation, field.metadata)}. {_description(spec, option)}"
            for option, field in spec.model_fields.items()
            if option != "wrapper"
        ]
        rows.append(f"| `{name}` | {spec.__doc__} | {' '.join(options) or '—'} |")
    return "\n".join(["| wrapper | | options |", "|---|---|---|", *rows])


def environments_table() -> str:
    """Every shipped environment with its scores."""
    rows = []
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        env = EnvSpec.model_validate(read_yaml(path).data)
        assert env.random_score is not None
        wrappers = ", ".join(f"`{_inline(wrapper)}`" for wrapper in env.wrappers) or "—"
        success = "—" if env.success is None else f"`{_inline(env.success)}`"
        rows.append(
            f"| `{path.stem}` | {env.id} | {env.kind} | {wrappers} | {success} | {_score(env.random_score)} "
            f"| {_reference(path, env)} |"
        )
    head = "| name | id | kind | wrappers | success | random actions | reference |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def _inline(spec: Spec) -> str:
    return yaml.safe_dump(spec.model_dump(mode="json"), default_flow_style=True, sort_keys=False, width=10_000).strip()


def _score(score: ScoreSpec) -> str:
    spread = "" if score.std is None else f" ± {score.std:,.10g}"
    success = "" if score.success_rate is None else f", success rate {score.success_rate:.2f}"
    return f"{score.mean:,.10g}{spread}{success}"


def _reference(path: Path, env: EnvSpec) -> str:
    """The published score, its source, and what the comment above it says of it."""
    if env.reference_score is None:
        return "—"
    lines = path.read_text().splitlines()
    above = lines[next(index for index, line in enumerate(lines) if line.startswith("reference_score:")) - 1]
    remark = above.removeprefix("#").strip() if above.startswith("#") else ""
    return f"{_score(env.reference_score)}: {env.reference_score.source}. {remark}".rstrip()


def configs_table() -> str:
    """Every shipped config."""
    rows = []
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        data = read_yaml(path).data
        agent, env = (value if isinstance(value, str) else value["base"] for value in (data["agent"], data["env"]))
        rows.append(f"| `{path.stem}` | `{agent}` | `{env}` | {data['total_timesteps']:,} | {about(path)} |")
    return "\n".join(["| name | agent | env | steps | |", "|---|---|---|---|---|", *rows])


def speed_table() -> str:
    """Whole training steps beside Stable-Baselines3's."""
    report = json.loads((ROOT / "benchmarks" / "bench.json").read_text())
    return f"{where(report)}\n\n{steps_table(report)}"


def speed_in_short() -> str:
    """The ratios of SAC and PPO, for the README."""
    report = json.loads((ROOT / "benchmarks" / "bench.json").read_text())
    lines = [
        "| whole training steps a second, times Stable-Baselines3's | MLP | residual | Delta |",
        "|---|---|---|---|",
    ]
    found = {(row["algorithm"], row["network"]): row for row in ratios(report) if row["what"] == "sb3 / deltarl"}
    for algorithm in ("sac", "ppo"):
        told = [Ratio.of_row(found[algorithm, network]) for network in ("mlp", "residual", "delta")]
        lines.append(f"| {algorithm.upper()} | {' | '.join(map(str, told))} |")
    machine = report["machine"]
    return "\n".join(
        [*lines, "", f"HalfCheetah, {machine['threads']} thread(s) of {machine['processor']}; quartiles in brackets."]
    )


def compiled_table() -> str:
    """What compiling an update would give, and from which one on."""
    report = json.loads((ROOT / "results" / "compiled.json").read_text())
    rows = []
    for row in report["rows"]:
        eager, compiled = (float(np.median(row[way])) for way in ("eager", "compiled"))
        saved = eager - compiled
        even = f"{row['warm_up'] / saved:,.0f}" if saved > 0 else "never"
        ratio = Ratio.of(row["eager"], row["compiled"])
        times = f"{1_000 * eager:.3g} | {1_000 * compiled:.3g} | {ratio} | {row['warm_up']:.0f} | {even}"
        rows.append(f"| {row['network']} | {times} |")
    return "\n".join(
        [
            "`.venv/bin/python benchmarks/compiled.py`: an update of SAC on one thread, medians with quartiles.",
            "",
            "| network | as it is, ms | compiled, ms | times the speed | s to compile | updates that pay them back |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def bench_tables() -> str:
    """The whole scoreboard."""
    return scoreboard(json.loads((ROOT / "benchmarks" / "bench.json").read_text()))


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"quickstart": quickstart_table, "study": comparisons.readme_text, "speed": speed_in_short},
    "benchmarks/README.md": {"bench": bench_tables},
    "docs/fast.md": {
        "speed": speed_table,
        "learned": comparisons.lean_text,
        "compiled": compiled_table,
        "seal": seal_table,
    },
    "docs/compare.md": {
        "coverage": comparisons.coverage_table,
        "seeds": comparisons.seeds_needed,
        "study": comparisons.study_text,
        "bounded": comparisons.bounded_text,
    },
    "docs/torsos.md": {"options": options_table},
    "docs/mechanism.md": {
        "starts": mechanism.starts_table,
        "steps": mechanism.steps_table,
        "probes": mechanism.probes_table,
        "erasing_speed": mechanism.speed_table,
    },
    "docs/policies.md": {"support": support_table},
    "docs/learning.md": {"learning": learning_tables, "value_start": value_start_table},
    "docs/long-runs.md": {"checkpoint_cost": checkpoint_cost_table},
    "docs/gates.md": {
        "gates_seen": gates_seen_table,
        "gate_cost": gate_cost_table,
        "interventions": mechanism.interventions_table,
    },
    "docs/environments.md": {"environments": environments_table, "configs": configs_table},
    "docs/configs.md": {
        "run": partial(fields_table, RunSpec, name="the file's name"),
        "evaluation": partial(fields_table, EvaluationSpec),
        "checkpoint": partial(fields_table, CheckpointSpec),
        "gates": partial(fields_table, GatesSpec),
        "env": partial(fields_table, EnvSpec),
        "normalize": partial(fields_table, NormalizeSpec),
        "success": partial(fields_table, SuccessSpec),
        "score": partial(fields_table, ScoreSpec),
        "wrappers": wrappers_table,
        "schedule": partial(fields_table, LinearScheduleSpec),
        "kl_adaptive": partial(fields_table, KLAdaptiveScheduleSpec),
        "shared": shared_table,
        "on_policy": partial(family_table, ON_POLICY),
        "actor_critic": partial(family_table, ACTOR_CRITIC),
        "q_learning": partial(family_table, Q_LEARNING),
        "action_noise": partial(fields_table, ActionNoiseSpec),
        "her": partial(fields_table, HERSpec),
        "policy": policy_table,
    },
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
