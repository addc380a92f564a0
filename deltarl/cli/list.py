"""`deltarl list agents|envs|configs|comparisons|runs`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deltarl.cli.tables import add_row, print_table
from deltarl.errors import ConfigError
from deltarl.library.lookup import find, names
from deltarl.reading import check_plain


class Kind(StrEnum):
    """What can be listed."""

    agents = "agents"
    envs = "envs"
    configs = "configs"
    comparisons = "comparisons"
    runs = "runs"


def list_(
    kind: Annotated[Kind, typer.Argument(metavar="agents|envs|configs|comparisons|runs", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder that holds runs; runs if not given.", show_default=False)
    ] = None,
) -> None:
    """List what can be trained, or what has been; a run that is damaged is listed as such, and the reason is given.

    Example: deltarl list envs
    """
    if out is not None and kind is not Kind.runs:
        raise ConfigError(f"list: --out is for runs alone, not for {kind}")
    columns, rows = {
        Kind.agents: (("agent", "algorithm", "about"), _agents),
        Kind.envs: (("env", "id", "kind", "about"), _envs),
        Kind.configs: (("config", "agent", "env", "steps"), _configs),
        Kind.comparisons: (("comparison", "arms", "tasks", "seeds", "steps", "about"), _comparisons),
        Kind.runs: (
            ("run", "status", "agent", "env", "steps", "return", "success"),
            lambda: rows_of_runs(out or Path("runs"), reasons),
        ),
    }[kind]
    reasons: list[str] = []
    cells = list(rows())
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        # On a narrow terminal the text that is for reading gives way; what is for typing never does.
        widest = 0 if column == "about" else max((len(row[index]) for row in cells), default=0)
        table.add_column(column, no_wrap=True, min_width=widest)
    for row in cells:
        add_row(table, row)
    print_table(table)
    for reason in reasons:
        typer.echo(f"deltarl: {reason}", err=True)


def _agents() -> Iterator[tuple[str, ...]]:
    from deltarl.library import read_yaml

    for name in names("agents"):
        path = find("agents", name, "list")
        yield name, str(read_yaml(path).data.get("algorithm", "?")), about(path)


def _envs() -> Iterator[tuple[str, ...]]:
    from deltarl.library import read_yaml

    for name in names("envs"):
        path = find("envs", name, "list")
        data = read_yaml(path).data
        yield name, str(data.get("id", "?")), str(data.get("kind", "?")), about(path)


def _configs() -> Iterator[tuple[str, ...]]:
    from deltarl.library import resolve

    for name in names("configs"):
        spec = resolve(name).spec
        yield name, spec.agent.algorithm, spec.env.id, f"{spec.total_timesteps:,}"


def _comparisons() -> Iterator[tuple[str, ...]]:
    from deltarl.comparison.load import KIND, read_comparison

    for name in names(KIND):
        path = find(KIND, name, "list")
        spec, layer = read_comparison(path)
        steps = layer.data.get("total_timesteps")
        told = f"{steps:,}" if isinstance(steps, int) else ""
        yield name, str(len(spec.arms)), str(len(spec.tasks)), str(len(spec.seeds)), told, about(path)


def rows_of_runs(out: Path, reasons: list[str]) -> Iterator[tuple[str, ...]]:
    """A row a run; why one is damaged is added to `reasons`."""
    if not out.is_dir():
        raise ConfigError(f"list: no folder '{out}'; give --out")

    from deltarl.training.folder import UnregisteredError

    for config in sorted(out.glob("**/seed-*/config.yaml")):
        try:
            yield _run(config.parent)
        except ConfigError as error:
            reasons.append(str(error))
            status = "unregistered" if isinstance(error, UnregisteredError) else "damaged"
            yield str(config.parent), status, "", "", "", "", ""


def _run(run: Path) -> tuple[str, ...]:
    from deltarl.checkpoints import checkpoint
    from deltarl.training import folder as files
    from deltarl.training.locks import is_locked
    from deltarl.training.result import check_complete, result_in

    check_plain(run)
    spec = files.load_spec(run)
    result = result_in(run) if (run / files.RESULT).exists() else None
    if result is None:
        status, score, success = "training" if is_locked(run / files.PROVENANCE) else "unfinished", "", None
        stored = checkpoint.steps_of(run)
    else:
        check_complete(result, spec)
        status, stored, success = result.status, [result.steps], result.success_rate
        score = f"{result.final_return_mean:,.1f} +- {result.final_return_std:,.1f}"
    return (
        str(run),
        status,
        spec.agent.algorithm,
        spec.env.id,
        f"{stored[0]:,}" if stored else "",
        score,
        "" if success is None else f"{success:.2f}",
    )


def about(path: Path) -> str:
    """The first sentence of the comment that a file starts with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server:"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines).split(". ")[0].rstrip(".")
