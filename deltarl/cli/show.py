"""`deltarl show CONFIG [key=value ...]`."""

from __future__ import annotations

import typer

from deltarl import yaml_text
from deltarl.cli.train import ConfigArgument, OverridesArgument


def show(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Print a config with its agent, environment and overrides in full, as YAML that `train` takes.

    Example: deltarl show quickstart torso=residual > mine.yaml
    """
    from deltarl.library import resolve

    resolution = resolve(config, overrides or [])
    for note in resolution.notes:
        typer.echo(f"note: {note}", err=True)
    # Named after the file that it is written to.
    typer.echo(yaml_text.dump(resolution.spec.model_dump(exclude={"name"})), nl=False)
