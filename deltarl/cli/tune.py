"""`deltarl tune CONFIG [key=value ...] --space NAME`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deltarl.cli.early import check_config, say_loading
from deltarl.cli.launchers import AddressOption, GPUsOption, LauncherName, LauncherOption, launcher_of
from deltarl.cli.tables import add_row, print_table
from deltarl.cli.train import ConfigArgument, OverridesArgument
from deltarl.errors import plain
from deltarl.library.layers import COMMAND_LINE
from deltarl.library.lookup import KINDS, find, names

if TYPE_CHECKING:
    from deltarl.search import Search, Tuned

KIND = "configs/search"
SHOWN = 4  # of the best trials, so that the table fits 80 columns


def _spaces(incomplete: str) -> list[str]:
    return [name for name in names(KIND) if name.startswith(incomplete)]


def tune(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    *,
    space: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is searched: a space's name or YAML file.",
            show_default=False,
            autocompletion=_spaces,
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials of the whole study; default: 30, or any number with --hours.", show_default=False
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0, help="Begin no trial after this time; running ones end.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at once; default: as many as the cores allow.", show_default=False),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Optuna's storage, or journal:PATH; default: SQLite in the study's folder.",
            show_default=False,
        ),
    ] = None,
    launcher: LauncherOption = LauncherName.local,
    ray_address: AddressOption = None,
    gpus: GPUsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is searched and train nothing.")] = False,
) -> None:
    """Search for the best values of a config's options, with Optuna.

    The same command resumes a stopped study, and several commands may work on one. It writes best.yaml, a
    config to train with fresh seeds.

    Example: deltarl tune hopper_ppo --space ppo --trials 100 total_timesteps=200_000 pruner=hyperband
    """
    check_config(config, overrides)
    find(KIND, space, f"{COMMAND_LINE}: {KINDS[KIND]}")
    say_loading()

    from deltarl import search as searches
    from deltarl.launch.display import default_console

    search = searches.load_search(config, space, *overrides or [])
    console = default_console()
    for note in search.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        _tell(search)
        return
    where = launcher_of(launcher, ray_address, gpus, threads=search.run.threads, jobs=jobs)
    tuned = searches.tune(
        search,
        console,
        ["deltarl", *sys.argv[1:]],
        trials=trials,
        hours=hours,
        jobs=jobs,
        storage=storage,
        launcher=where,
    )
    _report(search, tuned)
    if tuned.best is None:
        raise typer.Exit(1)


def _tell(search: Search) -> None:
    """Print what is searched."""
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "values", "when"):
        table.add_column(column, no_wrap=True)
    for path, parameter in search.spec.space.items():
        when = "; ".join(f"{other}: {_listed(wanted)}" for other, wanted in parameter.when.items())
        add_row(table, [path, parameter.told(), when])
    print_table(table)
    runs = f"{len(search.seeds)} run{'s' if len(search.seeds) > 1 else ''}"
    typer.echo(
        f"each trial: {runs} of {search.run.total_timesteps:,} steps, {search.evaluations} evaluations each; sampler "
        f"{search.spec.sampler.name}, pruner {search.spec.pruner.name}: {search.folder}"
    )


def _listed(values: tuple[Any, ...]) -> str:
    return " or ".join(map(str, values))


def _report(search: Search, tuned: Tuned) -> None:
    """Print the best trials side by side, and what to do next."""
    from deltarl.search.progress import counted

    typer.echo(counted(tuned.found.counts))
    best = tuned.found.best[:SHOWN]
    if best:
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for row in best:
            table.add_column(f"trial {row.number}", no_wrap=True, justify="right")
        add_row(table, ["score", *(f"{row.score:,.1f}" for row in best)])
        for path in search.spec.space:
            if any(path in row.values for row in best):
                add_row(table, [path, *(_shown(row.values, path) for row in best)])
        print_table(table)
    failed: dict[str, list[str]] = {}
    for row in tuned.found.rows:
        if row.reason:
            failed.setdefault(row.reason, []).append(str(row.number))
    for reason, numbers in failed.items():
        which = f"trial {numbers[0]}" if len(numbers) == 1 else f"trials {', '.join(numbers)}"
        typer.echo(f"deltarl: {which} failed: {reason}", err=True)
    typer.echo(f"plots: {tuned.page}")
    if tuned.best is not None:
        typer.echo(f"best: {tuned.best}")
        # On a line of its own, to be copied.
        typer.echo(f'evaluate it with fresh seeds\n  deltarl train {shlex.quote(str(tuned.best))} "seeds=[0,1,2,3,4]"')


def _shown(values: Mapping[str, Any], path: str) -> str:
    if path not in values:
        return "-"
    value = values[path]
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))[:12]
