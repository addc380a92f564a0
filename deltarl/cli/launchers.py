"""Options of the verbs that train: where their runs go."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from deltarl.errors import ConfigError

if TYPE_CHECKING:
    from deltarl.launch.launcher import Launcher


class LauncherName(StrEnum):
    """Values of `--launcher`."""

    local = "local"
    ray = "ray"


LauncherOption = Annotated[
    LauncherName,
    typer.Option("--launcher", help="Train on this machine, or on a Ray cluster (pip install deltarl[ray])."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="HOST:PORT of the cluster; auto: the one that this machine belongs to (default); local: start one.",
        show_default=False,
    ),
]
GPUsOption = Annotated[
    float | None,
    typer.Option(
        "--gpus", min=0.0, help="GPUs that each run takes on a Ray cluster, such as 0.25.", show_default=False
    ),
]


def launcher_of(
    name: LauncherName, address: str | None, gpus: float | None, *, threads: int, jobs: int | None
) -> Launcher | None:
    """The launcher that was asked for, connected; None for this machine.

    Raises:
        ConfigError: if an option belongs to another launcher, or there is no Ray or no cluster.
    """
    if name is LauncherName.local:
        for option, given in (("--ray-address", address), ("--gpus", gpus)):
            if given is not None:
                raise ConfigError(f"{option}: needs --launcher ray")
        return None
    from deltarl.launch.on_ray import AUTO, Ray

    launcher = Ray(address or AUTO, cpus=threads, gpus=gpus or 0.0, most=jobs)
    launcher.connect()
    return launcher
