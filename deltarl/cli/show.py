"""`deltarl show CONFIG [key=value ...]`."""

from __future__ import annotations

import typer

from deltarl import yaml_text
from deltarl.cli.early import check_config
from deltarl.cli.train import ConfigArgument, OverridesArgument
from deltarl.errors import ConfigError


def show(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Print a config in full, with its agent, environment and overrides, as YAML that `train` accepts.

    Comments at the top give the number of parameters of each role's networks.

    Example: deltarl show quickstart torso=residual > mine.yaml
    """
    check_config(config, overrides)

    from deltarl.library import resolve

    resolution = resolve(config, overrides or [])

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
