"""`deltarl gates RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from deltarl import places
from deltarl.cli.early import check_folder
from deltarl.cli.evaluate import RunArgument, SeedOption, describe
from deltarl.cli.tables import print_table
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.errors import ConfigError, nearest
from deltarl.reading import check_plain, readable
from deltarl.training.lookup import GATES
from deltarl.training.packed import found, opened, read_pack, shipped

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from deltarl.gates.drawing import Record

NOTHING = "\N{EN DASH}"
# Statistic, heading, format.
COLUMNS = (
    ("beta_mean", "beta", ".2f"),
    ("erase_share", "erase", ".2f"),
    ("beta_p10", "p10", ".2f"),
    ("beta_p90", "p90", ".2f"),
    ("identity_fraction", "<.25", ".0%"),
    ("projection_fraction", "~1", ".0%"),
    ("reflection_fraction", ">1.75", ".0%"),
    ("update_ratio", "|dX|", ".2f"),
    ("cos_k_x_over_pairs", "cos/pairs", ".1f"),
)


def gates(
    run: RunArgument,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the figures; default: `figures` in the run's folder, `<name>-figures` for a packed agent."
        ),
    ] = None,
    episode: Annotated[bool, typer.Option("--episode", help="Draw the gates along one episode.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="beta=N|beta=mean|erase=off|value=mean",
            help="Evaluate the policy with this change to its Delta blocks, and without it; may be repeated.",
            show_default=False,
        ),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(min=0, help="With --set: change only this block; blocks count from 0.", show_default=False),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --set: number of episodes; default: the config's eval.episodes.", show_default=False
        ),
    ] = None,
    seed: SeedOption = FIRST_EVALUATION_SEED,
) -> None:
    """Show a run's gates over training or along one episode, or score the policy with its gates changed.

    Example: deltarl gates runs/quickstart/seed-0 --set erase=off
    """
    run = found(run)
    if run.is_file():
        read_pack(run)
    else:
        check_folder(run, nearest(str(run), shipped()))
        check_plain(run)
    if settings:
        if episode or out is not None:
            raise ConfigError(f"--set draws nothing; omit {'--episode' if episode else '--out'}")
        changes = _changes(settings)
        typer.echo(_effect(run, changes, block, episodes, seed))
        return
    for option, value in (("--block", block), ("--episodes", episodes)):
        if value is not None:
            raise ConfigError(f"{option}: needs --set, such as --set erase=off")
    folder = out or (Path(f"{run.stem}-figures") if run.is_file() else run / "figures")
    places.check_folder(folder, "--out")
    if episode:
        _save("gates_episode", _episode(run, seed), folder)
        return
    with opened(run) as inside:
        if not (inside / GATES).is_file():
            raise ConfigError(f"{inside}: no gates were measured in this run; {GATES} is missing")

        from deltarl.gates.figures import figures, gated_networks
        from deltarl.training import folder as files

        record = files.read_gates(inside)
    if not gated_networks(record):
        raise ConfigError(
            f"{run}: its networks have no gates; measurements of their features and updates are in {GATES}"
        )
    with readable(run / GATES):
        table = _table(record)
        drawn = {name: draw(record) for name, draw in figures(record).items()}
    print_table(table)
    for name, figure in drawn.items():
        _save(f"gates_{name}", figure, folder)


def _changes(settings: list[str]) -> dict[str, str]:
    """The validated settings of `--set`."""
    from deltarl.gates.interventions import parse_changes

    changes: dict[str, str] = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set: '{text}' is not of the form name=value, such as erase=off")
        if name in changes:
            raise ConfigError(f"--set: {name} is given twice")
        changes[name] = value
    try:
        parse_changes(changes)
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from None
    return changes


def _effect(run: Path, changes: dict[str, str], block: int | None, episodes: int | None, seed: int) -> str:
    """Returns with and without the changes, on the same episodes."""
    from deltarl import training
    from deltarl.comparison.interventions import effect_of

    loaded = training.load_run(run)
    try:
        effect = effect_of(loaded, changes, block, episodes, seed)
    except ConfigError as error:
        raise ConfigError(f"{run}: {error}") from None
    what = " ".join(f"{name}={value}" for name, value in changes.items())
    found = effect.difference
    spread = "" if found.low is None else f" ({found.low:,.1f} to {found.high:,.1f})"
    of = "paired by episode; 95% interval" if spread else "no interval from one episode"
    rows = [
        ("untouched", describe(effect.untouched)),
        (what, describe(effect.changed)),
        ("difference", f"return {found.estimate:+,.1f}{spread}, {of}"),
    ]
    where = "" if block is None else f", block {block}"
    width = max(len(name) for name, _ in rows)
    head = f"{loaded.spec.agent.algorithm.upper()} on {loaded.spec.env.id}, {run}{where}"
    return "\n".join([head, *(f"{name:<{width}}  {text}" for name, text in rows)])


def _episode(run: Path, seed: int) -> Figure:
    from deltarl import training
    from deltarl.gates.episode import draw_episode, play_episode
    from deltarl.training.build import one_message

    loaded = training.load_run(run)
    with one_message(f"env: {loaded.spec.env.id} cannot be played"):
        limit = loaded.spec.eval.max_episode_steps
        episode = play_episode(loaded.policy, loaded.spec.env, loaded.normalizer, seed, limit)
    if not episode.beta:
        raise ConfigError(f"{run}: its networks have no gates")
    return draw_episode(episode)


def _save(name: str, figure: Figure, folder: Path) -> None:
    """Write PNG and SVG, and print their paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise ConfigError(f"--out: {folder} cannot be used: {error.strerror or error}") from None
    typer.echo("\n".join(map(str, paths)))  # not above: nobody may be reading (`deltarl gates RUN | head`)


def _table(record: Record) -> Table:
    """Each block at the last measurement, with beta at the first one for comparison."""
    from deltarl.gates.figures import gated_networks

    steps = record["steps"]
    title = f"at step {steps[-1]:,}; first: at step {steps[0]:,}; p10 to >1.75 are also of beta"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for heading in ("network", "block", "first", *(heading for _, heading, _ in COLUMNS)):
        table.add_column(
            heading, no_wrap=True, min_width=len(heading), justify="left" if heading == "network" else "right"
        )
    for net in gated_networks(record):
        first = record[f"gates/{net}/beta_mean"][0]
        for block in range(len(first)):
            cells = [_cell(record.get(f"gates/{net}/{name}"), block, style) for name, _, style in COLUMNS]
            table.add_row(net, str(block), f"{first[block]:.2f}", *cells)
    return table


def _cell(values: NDArray[Any] | None, block: int, style: str) -> str:
    """The last value; a dash if the block does not have it or an older version did not measure it."""
    return NOTHING if values is None else format(values[-1, block], style)
