"""The command line: `deltarl VERB`, one file a verb."""

from __future__ import annotations

import sys

import typer

from deltarl.cli.train import train
from deltarl.errors import ConfigError

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    name="deltarl",
    help="Train Stable-Baselines3 agents with Delta residual networks in MuJoCo.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _verbs() -> None:
    """Train Stable-Baselines3 agents with Delta residual networks in MuJoCo."""


app.command()(train)


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 2."""
    try:
        app()
    except ConfigError as error:
        print(f"deltarl: error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        print("deltarl: interrupted; what was recorded so far stays in the run's folder", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
