"""`deltarl show CONFIG [key=value ...]`."""

from __future__ import annotations

import typer
import yaml

from deltarl.cli.train import ConfigArgument, OverridesArgument
from deltarl.library import resolve


def show(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Print a config with its agent, environment and overrides in full, as YAML that `train` takes.

    Example: deltarl show quickstart torso=residual > mine.yaml
    """
    resolution = resolve(config, overrides or [])
    for note in resolution.notes:
        typer.echo(f"note: {note}", err=True)
    # Named after the file that it is written to.
    data = resolution.spec.model_dump(mode="json", exclude={"name"})
    typer.echo(yaml.safe_dump(data, sort_keys=False), nl=False)
