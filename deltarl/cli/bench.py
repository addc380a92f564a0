"""`deltarl bench`."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deltarl import places
from deltarl.errors import ConfigError


def bench(  # noqa: PLR0917 - each has a name on the command line
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Algorithms; all if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="PyTorch's device.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="PyTorch's threads, and cores that the process keeps to.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Timings of each, in turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="That one timing should take.")] = 0.6,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Where the numbers go.", show_default=False)
    ] = None,
) -> None:
    """Time training steps beside Stable-Baselines3's, in turns in one process.

    Example: deltarl bench sac ppo
    """
    import torch

    from deltarl.bench import chosen, measure, scoreboard

    cases = chosen(names or [])
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"--device: no device '{device}'; cpu, cuda or cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device: PyTorch sees no CUDA device here; got {device}")
    if threads > (cores := os.cpu_count() or 1):
        raise ConfigError(f"--threads: there are {cores} cores; got {threads}")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out: there is no folder {out.parent}")
    if out is not None:
        places.check_file(out, "--out")
    say = partial(typer.echo, err=True)
    report = measure(cases, device=device, count=threads, rounds=rounds, at_least=seconds, say=say)
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n")
    typer.echo(scoreboard(report))
