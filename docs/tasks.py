"""The tables of tasks in docs/environments.md, by the package that they come from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from deltarl.envs import EnvSpec, ScoreSpec
from deltarl.library import read_yaml

ROOT = Path(__file__).resolve().parent.parent
# By what the names of the files begin with; Gymnasium's tasks are the rest.
GROUPS = {
    "mujoco": (),
    "robotics": ("adroit_", "ant_maze_", "fetch_", "franka_", "hand_", "point_maze_"),
    "dm_control": ("dmc_",),
    "metaworld": ("metaworld_",),
}


def tasks_of(group: str) -> list[tuple[str, EnvSpec]]:
    """Names and specs of a group's files."""
    others = tuple(prefix for prefixes in GROUPS.values() for prefix in prefixes)
    return [
        (path.stem, EnvSpec.model_validate(read_yaml(path).data))
        for path in sorted((ROOT / "envs").glob("*.yaml"))
        if (path.stem.startswith(GROUPS[group]) if GROUPS[group] else not path.stem.startswith(others))
    ]


@cache
def _measured() -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ROOT / "results" / "tasks.json").read_text())
    return record


def tasks_table(group: str) -> str:
    """Sizes, speed and scores of a group's tasks, with the sources of published scores below."""
    sources: dict[str, int] = {}
    rows = []
    for name, env in tasks_of(group):
        found = _measured()["tasks"][name]
        success = "" if env.success is None else f"{env.success.key}, {env.success.rule}"
        cells = [
            f"`{name}`",
            env.id,
            found["observation"],
            found["action"],
            f"{round(found['steps_per_second'], -2):,}",
            success,
            _score(env.random_score),
            _reference(name, env, sources),
        ]
        rows.append(cells)
    heads = ["name", "id", "observation", "action", "steps/s", "success", "random actions", "published"]
    kept = [index for index in range(len(heads)) if any(row[index] for row in rows)]
    lines = [
        [heads[index] for index in kept],
        ["---"] * len(kept),
        *([row[index] or "—" for index in kept] for row in rows),
    ]
    notes = [f"[{number}] {text}" for text, number in sources.items()]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + (["", "  \n".join(notes)] if notes else []))


def _score(score: ScoreSpec | None) -> str:
    if score is None:
        return ""
    spread = "" if score.std is None else f" ± {score.std:,.10g}"
    success = "" if score.success_rate is None else f"; success {score.success_rate:.2f}"
    return f"{score.mean:,.10g}{spread}{success}"


def _reference(name: str, env: EnvSpec, sources: dict[str, int]) -> str:
    """The published score, and the number of its source, with the comment above it."""
    if env.reference_score is None:
        return ""
    lines = (ROOT / "envs" / f"{name}.yaml").read_text().splitlines()
    above = lines[next(index for index, line in enumerate(lines) if line.startswith("reference_score:")) - 1]
    remark = above.removeprefix("#").strip() if above.startswith("#") else ""
    source = f"{env.reference_score.source}. {remark}".rstrip()
    return f"{_score(env.reference_score)} [{sources.setdefault(source, len(sources) + 1)}]"
