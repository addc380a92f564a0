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
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Algorithms; default: all.")] = None,
    device: Annotated[str, typer.Option(help="PyTorch's device.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="PyTorch threads, and cores the process is pinned to.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved timings of each.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="Target duration of one timing.")] = 0.6,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the numbers to this file.", show_default=False)
    ] = None,
) -> None:
    """Time training steps against Stable-Baselines3's, interleaved in one process.

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
        raise ConfigError(f"--threads: expected at most {cores}, the number of cores; got {threads}")
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out: no folder {out.parent}")
    if out is not None:
        places.check_file(out, "--out")
    say = partial(typer.echo, err=True)
    report = measure(cases, device=device, count=threads, rounds=rounds, at_least=seconds, say=say)
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n")
    typer.echo(scoreboard(report))
