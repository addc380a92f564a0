"""`deltarl schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from deltarl.schema_kinds import Kind


def schema(
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="config, agent, env, comparison or space.")
    ] = Kind.config,
) -> None:
    """Print the JSON Schema of a kind of file, for editors that complete and validate YAML.

    Example: deltarl schema > deltarl.schema.json
    """
    from deltarl.schema import schema_of

    typer.echo(json.dumps(schema_of(kind), indent=2))
