"""`deltarl list WHAT`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from deltarl.cli import list_runs
from deltarl.cli.list_runs import Order
from deltarl.cli.tables import add_row, print_table
from deltarl.errors import ConfigError
from deltarl.library.lookup import find, names


class Kind(StrEnum):
    """What can be listed."""

    agents = "agents"
    envs = "envs"
    configs = "configs"
    comparisons = "comparisons"
    spaces = "spaces"
    torsos = "torsos"
    encoders = "encoders"
    trained = "trained"
    runs = "runs"


ABOUT = {
    Kind.agents: "algorithms with hyperparameters: agent=NAME",
    Kind.envs: "environments: env=NAME",
    Kind.configs: "what to train: deltarl train NAME",
    Kind.comparisons: "what to compare: deltarl compare NAME",
    Kind.spaces: "what to search: deltarl tune CONFIG --space NAME",
    Kind.torsos: "kinds of networks: torso=NAME",
    Kind.encoders: "what stands before a torso: encoder=NAME",
    Kind.trained: "trained agents that come with deltarl: deltarl play NAME",
    Kind.runs: "runs with their scores, in the folder runs or --out",
}


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in Kind if kind.startswith(incomplete)]


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help=f"{', '.join(list(Kind)[:-1])} or {list(Kind)[-1]}; default: say what each of them is.",
            autocompletion=_kinds,
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Folder that holds runs; default: runs.", show_default=False)] = None,
    sort: Annotated[
        Order | None,
        typer.Option(help="Order of runs; return and steps are sorted from the highest.", show_default=False),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="Only rows that contain TEXT; repeat it to require several.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all digits.")] = False,
) -> None:
    """List what can be trained, or the runs in a folder with their scores, including unfinished and damaged ones.

    Example: deltarl list runs --sort return --filter hopper
    """
    if what is not None and what not in list(Kind):
        raise ConfigError(f"list: cannot list '{what}'; expected one of {', '.join(Kind)}")
    kind = None if what is None else Kind(what)
    if kind is not Kind.runs:
        for name, given in (("--out", out), ("--sort", sort)):
            if given is not None:
                raise ConfigError(f"list: {name} applies to runs only{'' if kind is None else f', not to {kind}'}")
    rows: list[dict[str, Any]]
    columns: tuple[str, ...]
    read: Callable[[], Iterable[tuple[str, ...]]]
    if kind is Kind.runs:
        found = list_runs.ordered(list_runs.found_in(out or Path("runs")), sort or Order.run)
        columns = tuple(list_runs.Row("", "").shown())
        rows = [row.shown() for row in found]
        full = [row.told() for row in found]
    else:
        columns, read = {
            None: (("what", "about"), ABOUT.items),
            Kind.agents: (("agent", "algorithm", "about"), _agents),
            Kind.envs: (("env", "id", "kind", "about"), _envs),
            Kind.configs: (("config", "agent", "env", "steps"), _configs),
            Kind.comparisons: (("comparison", "arms", "tasks", "seeds", "steps", "about"), _comparisons),
            Kind.spaces: (("space", "parameters", "sampler", "pruner", "about"), _spaces),
            Kind.torsos: (("torso", "new state", "about"), _torsos),
            Kind.encoders: (("encoder", "about"), _encoders),
            Kind.trained: (("trained", "return", "task", "agent", "steps"), _trained),
        }[kind]
        rows = full = [dict(zip(columns, cells, strict=True)) for cells in read()]
    chosen = [index for index, row in enumerate(full) if _has_all(row, filters or ())]
    if as_json:
        typer.echo(json.dumps([full[index] for index in chosen], indent=2))
        return
    _print([rows[index] for index in chosen], columns)
    for index in chosen:
        if reason := full[index].get("reason"):
            typer.echo(f"deltarl: {reason}", err=True)


def _has_all(row: Mapping[str, Any], texts: Iterable[str]) -> bool:
    line = " ".join(str(value) for value in row.values()).casefold()
    return all(text.casefold() in line for text in texts)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # On a narrow terminal descriptions are shortened, but never names, which users type, nor formulas.
        is_read = column in {"new state", "about"}
        widest = 0 if is_read else max(len(column), *(len(row[column]) for row in rows), 0)
        table.add_column(column, no_wrap=not (is_read and "torso" in columns), min_width=widest)
    for row in rows:
        add_row(table, row.values())
    print_table(table)


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
        yield name, str(data.get("id", "?")), str(data.get("kind") or ""), about(path)


def _configs() -> Iterator[tuple[str, ...]]:
    from deltarl.library import resolve

    for name in names("configs"):
        try:
            spec = resolve(name).spec
        except ConfigError as error:  # such as a package that is not installed; the others are listed
            typer.echo(f"deltarl: {error}", err=True)
            yield name, "", "", ""
        else:
            yield name, spec.agent.algorithm, spec.env.id, f"{spec.total_timesteps:,}"


def _comparisons() -> Iterator[tuple[str, ...]]:
    from deltarl.comparison.load import KIND, read_comparison

    for name in names(KIND):
        path = find(KIND, name, "list")
        spec, layer = read_comparison(path)
        steps = layer.data.get("total_timesteps")
        told = f"{steps:,}" if isinstance(steps, int) else ""
        yield name, str(len(spec.arms)), str(len(spec.tasks)), str(len(spec.seeds)), told, about(path)


def _spaces() -> Iterator[tuple[str, ...]]:
    from deltarl.search.load import KIND, read_space

    for name in names(KIND):
        path = find(KIND, name, "list")
        spec = read_space(path)
        yield name, str(len(spec.space)), spec.sampler.name, spec.pruner.name, about(path)


def _torsos() -> Iterator[tuple[str, ...]]:
    from deltarl.torsos import FAMILIES

    for family in FAMILIES:
        for name, formula in family.formulas().items():
            first = str(family.__doc__).split("\n")[0]
            yield name, formula, first if name == family.model_fields["kind"].default else ""


def _encoders() -> Iterator[tuple[str, ...]]:
    from deltarl.encoders import ENCODER_KINDS

    for kind, family in ENCODER_KINDS.items():
        yield kind, str(family.__doc__).split("\n")[0]


def _trained() -> Iterator[tuple[str, ...]]:
    from deltarl.training.packed import shipped_folder

    for row in list_runs.found_in(shipped_folder()):
        shown = row.shown()
        yield Path(row.run).stem, shown["return"], shown["task"], shown["agent"], shown["steps"]


def about(path: Path) -> str:
    """The first sentence of a file's opening comment."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# yaml-language-server:"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines).split(". ")[0].rstrip(".")
