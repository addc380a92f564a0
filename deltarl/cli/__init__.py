"""The command line: `deltarl VERB`, one file per verb.

Verbs import what they work with when they are called, so that help and bad arguments do not wait for PyTorch.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from deltarl.cli.bench import bench
from deltarl.cli.compare import compare
from deltarl.cli.copy import copy
from deltarl.cli.doctor import doctor
from deltarl.cli.evaluate import evaluate
from deltarl.cli.export import export
from deltarl.cli.gates import gates
from deltarl.cli.imports import importing
from deltarl.cli.list import list_
from deltarl.cli.pack import pack
from deltarl.cli.play import play
from deltarl.cli.plot import plot
from deltarl.cli.pull import pull
from deltarl.cli.push import push
from deltarl.cli.report import report
from deltarl.cli.resume import resume
from deltarl.cli.schema import schema
from deltarl.cli.show import show
from deltarl.cli.train import train
from deltarl.cli.tune import tune
from deltarl.cli.usage import as_key
from deltarl.cli.validate import validate
from deltarl.disk import FullDiskError, is_full
from deltarl.errors import ConfigError, NonFiniteError, SeedFailedError
from deltarl.training.signals import TrainingStopped

FAILED = 1
BAD_INPUT = 2
NOTHING_STORED = 74  # EX_IOERR of sysexits.h
INTERRUPTED = 130  # what typer returns for Ctrl-C, as shells do

app = typer.Typer(
    name="deltarl",
    help="Train Stable-Baselines3 agents with Delta residual networks in MuJoCo.",
    pretty_exceptions_enable=False,
)


# Click's class, for which typer has no name.
UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"deltarl {version_of('deltarl')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _verbs(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - it is eager: the callback does all
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train Stable-Baselines3 agents with Delta residual networks in MuJoCo."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for verb in (train, resume, tune, compare, report, evaluate, play, plot, gates, export, pack, push, show, validate):
    app.command()(importing(verb))
for other in (pull, copy, schema, doctor, bench):
    app.command()(other)
app.command("list")(importing(list_))


def lead_closed_streams_nowhere() -> None:
    """Put the null device where a standard stream was closed: else the next file to be opened takes its number.

    Libraries would then print into that file, and child processes would be missing the stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
            os.set_inheritable(number, True)
        setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - for good


def _is_of_typer(ended: SystemExit) -> bool:
    """Whether typer ended the process: completions are printed, or nobody reads what is (`deltarl show X | head`)."""
    *_, (frame, _) = traceback.walk_tb(ended.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("typer.")


def main() -> None:
    """Run the command line. Bad input prints one line and exits with status 2; a stopped run exits with status 75."""
    lead_closed_streams_nowhere()
    try:
        # Not typer's standalone mode, which prints usage errors in a box and says nothing when interrupted.
        status = app(prog_name="deltarl", standalone_mode=False)
    except (ConfigError, UsageError) as error:
        message = str(error) if isinstance(error, ConfigError) else error.format_message().replace("Value error, ", "")
        if (option := getattr(error, "option_name", None)) and (key := as_key(option, sys.argv[1:])):
            message = f"no option {option}; write {key}"
        typer.echo(f"deltarl: error: {' '.join(message.split())}", err=True)
        status = BAD_INPUT
    except FullDiskError as error:
        typer.echo(f"deltarl: error: {error}", err=True)
        status = NOTHING_STORED
    except (NonFiniteError, SeedFailedError) as error:
        typer.echo(f"deltarl: error: {error}", err=True)
        status = FAILED
    except TrainingStopped as stop:
        typer.echo(f"deltarl: {stop}", err=True)
        status = stop.code
    except SystemExit as ended:
        if _is_of_typer(ended):
            raise
        # Raised by a module or environment of the user's: whatever its code, the verb did not complete.
        typer.echo(f"deltarl: error: your own code ended the process: SystemExit({ended.code!r})", err=True)
        status = FAILED
    except OSError as error:
        if not is_full(error):
            raise
        # Writers of run files handle their own errors, so this is stdout. Python would try to flush it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        typer.echo(f"deltarl: error: cannot write to stdout: {error.strerror}", err=True)
        status = FAILED
    if status == INTERRUPTED:
        typer.echo("deltarl: interrupted", err=True)
    sys.exit(status)
