"""`deltarl export RUN FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltarl.cli.evaluate import BestOption, RunsArgument
from deltarl.errors import ConfigError, suggestion
from deltarl.export.target import FORMATS, Format, check_packages, check_target, format_of
from deltarl.training.lookup import runs_in


def export(
    run: RunsArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="File to write: .onnx, .pt2 (torch.export) or .ts (TorchScript).", show_default=False
        ),
    ],
    *,
    best: BestOption = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Which of the seeds in RUN, if there are several.", show_default=False)
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="|".join(FORMATS), help="Default: what FILE's suffix says.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE.")] = False,
) -> None:
    """Export a trained policy to one file: raw observations in, actions in the environment's units out.

    The file is compared with the policy on 1,000 observations before it is kept.

    Example: deltarl export runs/quickstart/seed-0 hopper.onnx
    """
    kind = format_of(file) if format_ is None else _known(format_)
    check_packages(kind)
    check_target(file, overwrite=overwrite)
    folders = runs_in(run)
    if seed is not None:
        folders = [folder for folder in folders if folder.name == f"seed-{seed}"]
        if not folders:
            raise ConfigError(f"--seed: {run} has no seed-{seed}")
    if len(folders) > 1:
        names = ", ".join(folder.name.removeprefix("seed-") for folder in folders)
        raise ConfigError(f"export: {run} has several seeds; give --seed with one of {names}")

    from deltarl.export.runs import export_run

    difference = export_run(folders[0], file, best=best, format=kind, overwrite=overwrite)
    typer.echo(f"{file}: {file.stat().st_size / 1024:,.0f} KiB, differs from the policy by at most {difference:.0e}")


def _known(name: str) -> Format:
    for known in FORMATS:
        if name == known:
            return known
    raise ConfigError(f"--format: no format '{name}'{suggestion(name, FORMATS)}")
