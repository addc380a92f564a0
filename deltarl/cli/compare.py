"""`deltarl compare NAME [key=value ...]`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from deltarl.cli.early import check_config, say_loading
from deltarl.cli.launchers import AddressOption, GPUsOption, LauncherName, LauncherOption, launcher_of
from deltarl.cli.tables import print_table
from deltarl.cli.train import OverridesArgument
from deltarl.errors import ConfigError, plain
from deltarl.training.signals import STOPPED_STATUS

if TYPE_CHECKING:
    from deltarl.comparison import Comparison


def _comparisons(incomplete: str) -> list[str]:
    from deltarl.comparison.load import KIND
    from deltarl.library.lookup import names

    return [name for name in names(KIND) if name.startswith(incomplete)]


def compare(
    comparison: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A comparison's name or YAML file.",
            show_default=False,
            autocompletion=_comparisons,
        ),
    ],
    overrides: OverridesArgument = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at once; default: as many as the cores allow.", show_default=False),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="I/N", help="Train the share of machine I of N; copy the folders into one afterwards."),
    ] = "1/1",
    *,
    launcher: LauncherOption = LauncherName.local,
    ray_address: AddressOption = None,
    gpus: GPUsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the size of each arm and train nothing.")] = False,
) -> None:
    """Train all arms of a comparison on all of its tasks and seeds, and report what the scores support.

    Finished runs are left alone and interrupted runs are resumed, so the same command can be repeated.

    Example: deltarl compare quick "seeds=[0,1,2]" --jobs 2
    """
    share = _shard(shard)
    check_config(comparison, overrides, "configs/compare")

    say_loading()

    from deltarl.comparison.load import load_comparison

    resolved = load_comparison(comparison, *overrides or [])

    from deltarl.comparison import compare as run
    from deltarl.launch.display import default_console

    console = default_console()
    for note in resolved.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        _tell(resolved)
        return
    threads = max(cell.spec.threads for cell in resolved.cells)
    where = launcher_of(launcher, ray_address, gpus, threads=threads, jobs=jobs)
    compared = run(resolved, console, ["deltarl", *sys.argv[1:]], jobs, share, launcher=where)
    typer.echo(f"{compared.finished} runs have finished: {compared.folder}")
    if compared.report is not None:
        typer.echo(f"report: {compared.report}")
    for label, failure in compared.failed.items():
        typer.echo(f"deltarl: error: {label} failed: {plain(failure.strip().splitlines()[-1])}", err=True)
    for label, reason in compared.stopped.items():
        typer.echo(f"deltarl: {label} has not finished: {plain(reason)}; or repeat this command", err=True)
    if compared.failed or compared.stopped:
        raise typer.Exit(1 if compared.failed else STOPPED_STATUS)


def _tell(comparison: Comparison) -> None:
    """Print the arms of each task and their remaining mismatch."""
    table = Table(box=None, pad_edge=False)
    for column in ("task", "arm", "parameters", "forward FLOPs", "inner widths", "mismatch"):
        table.add_column(column, no_wrap=True)
    for task, arms in comparison.sizes.items():
        for arm, size in arms.items():
            inner = ", ".join(f"{role.removesuffix('_torso')} {width}" for role, width in size.inner.items() if width)
            left = "" if size.mismatch is None else f"{size.mismatch:+.2%}"
            table.add_row(task, arm, f"{size.parameters:,}", f"{size.flops:,}", inner, left)
    print_table(table)
    if (tune := comparison.spec.tune) is not None:
        searches = sum(map(len, comparison.searches.values()))
        most = searches * (tune.trials + len(comparison.spec.arms) - 1) * len(tune.seeds)
        typer.echo(
            f"tuning first: {searches} searches of {tune.trials} trials, at most {most} runs; then "
            f"{len(comparison.cells)} runs without tuning and, with it:"
        )
    typer.echo(f"{len(comparison.cells)} runs of {_listed(comparison)} steps: {comparison.folder}")


def _shard(text: str) -> tuple[int, int]:
    if (found := re.fullmatch(r"(\d+)/(\d+)", text)) is None:
        raise ConfigError(f"--shard: '{text}' is not of the form I/N, such as 1/4")
    index, count = int(found[1]), int(found[2])
    if not 1 <= index <= count:
        raise ConfigError(f"--shard: {text} is not among 1/{count} to {count}/{count}")
    return index, count


def _listed(comparison: Comparison) -> str:
    """The tasks' budgets: `300,000`, or `10,000 to 300,000`."""
    budgets = [cell.spec.total_timesteps for cell in comparison.cells]
    return " to ".join(f"{each:,}" for each in sorted({min(budgets), max(budgets)}))
