"""`deltarl show CONFIG [key=value ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deltarl import yaml_text
from deltarl.cli.early import check_config
from deltarl.cli.train import ConfigArgument, OverridesArgument
from deltarl.errors import ConfigError
from deltarl.library.lookup import names
from deltarl.training import packed

if TYPE_CHECKING:
    from deltarl.library import Resolution


def show(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Print a config in full, with its agent, environment and overrides, as YAML that `train` accepts.

    Comments at the top give the number of parameters of each role's networks. Of a packed agent (.zip, or the name of
    a shipped one), it is the config that it was trained with.

    Example: deltarl show quickstart torso=residual > mine.yaml
    """
    resolution = _resolved(config, overrides or [])

    from deltarl.training.sizes import parameters_by_role

    for note in resolution.notes:
        typer.echo(f"note: {note}", err=True)
    try:
        for role, count in parameters_by_role(resolution.spec).items():
            typer.echo(f"# {role}: {count:,} parameters")
    except ConfigError as error:
        typer.echo(f"note: cannot count parameters: {error}", err=True)
    # Without a name: the config is named after the file that it is saved to.
    typer.echo(yaml_text.dump(resolution.spec.model_dump(exclude={"name"})), nl=False)


def _resolved(config: str, overrides: list[str]) -> Resolution:
    if config.lower().endswith(packed.SUFFIX) or (config in packed.shipped() and config not in names("configs")):
        with packed.opened(Path(config)) as folder:
            from deltarl.training.folder import load_spec

            load_spec(folder)  # nothing but a resolved config: it must not name files of this machine
            return _resolved(str(folder / packed.CONFIG), overrides)
    check_config(config, overrides)

    from deltarl.library import resolve

    return resolve(config, overrides)
