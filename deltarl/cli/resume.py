"""`deltarl resume RUN [key=value ...]`."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deltarl.cli.early import say_loading
from deltarl.cli.launchers import AddressOption, GPUsOption, LauncherName, LauncherOption, launcher_of
from deltarl.cli.train import JobsOption, OverridesArgument, summary
from deltarl.errors import ConfigError
from deltarl.library.layers import parse_override
from deltarl.training.lookup import resumable_in

if TYPE_CHECKING:
    from deltarl.training import RunSpec


def resume(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A run's folder, or the folder that holds its seeds.", show_default=False),
    ],
    overrides: OverridesArgument = None,
    jobs: JobsOption = None,
    *,
    launcher: LauncherOption = LauncherName.local,
    ray_address: AddressOption = None,
    gpus: GPUsOption = None,
) -> None:
    """Resume an interrupted run from its newest valid checkpoint.

    You may change eval, checkpoint, gates, logging, threads and device, and increase total_timesteps.

    Example: deltarl resume runs/quickstart/seed-0
    """
    [folder, *_] = resumable_in(run)
    for text in overrides or []:
        parse_override(text)

    from deltarl.library import load_config
    from deltarl.training.spec import Part, fields_of

    for text in overrides or []:
        if (key := re.split("[.=]", text)[0]) in fields_of(Part.PLACE):
            raise ConfigError(f"command line: {key}: cannot change when a run is resumed")
    say_loading()

    from deltarl import launch
    from deltarl.launch.display import default_console
    from deltarl.training.folder import CONFIG, load_spec

    @cache
    def changed(config: Path) -> RunSpec:
        return load_config(str(config), *overrides or [])

    load_spec(folder)  # names the modules that the run was trained with
    threads = changed(folder / CONFIG).threads
    where = launcher_of(launcher, ray_address, gpus, threads=threads, jobs=jobs)
    results = launch.resume(run, changed, default_console(), ["deltarl", *sys.argv[1:]], jobs, launcher=where)
    spec = load_config(str(results[0].folder / "config.yaml"))
    Console().print(summary(spec, results), highlight=False, markup=False, soft_wrap=True)
