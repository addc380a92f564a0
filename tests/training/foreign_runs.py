"""A run whose folder comes from somebody else, and everything that reads or goes on with it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

import deltarl
from deltarl import ConfigError, load_config, load_run, train
from deltarl.cli.gates import gates
from deltarl.cli.list_runs import found_in

TINY = (
    *("agent=sac", "agent.learning_starts=16", "agent.batch_size=8", "agent.buffer_size=100", "env.n_envs=1"),
    *(
        "torso.width=8",
        "torso.depth=1",
        "total_timesteps=40",
        "eval.episodes=1",
        "eval.every=null",
        "gates.every=20",
        "device=cpu",
    ),
)


def spec(out: Path, *more: str) -> deltarl.RunSpec:
    return load_config("quickstart", *TINY, f"out={out}", "name=tiny", *more)


def resume(run: Path) -> None:
    (run / "result.json").unlink(missing_ok=True)
    deltarl.resume(run, console=Console(file=io.StringIO()), jobs=1)


def resume_by_train(run: Path) -> None:
    (run / "result.json").unlink(missing_ok=True)
    train(spec(run.parents[1]), console=Console(file=io.StringIO()), resume=True)


def start_from(run: Path) -> None:
    train(spec(run.parents[2] / "other", f"init_from={run}"), console=Console(file=io.StringIO()))


def list_it(run: Path) -> None:
    [row] = found_in(run.parents[1])
    if row.reason is not None:
        assert row.status == "damaged"
        raise ConfigError(row.reason)


READERS: dict[str, Callable[[Path], object]] = {
    "load_run": load_run,
    "load_run best": lambda run: load_run(run, best=True),
    "gates": gates,
    "list": list_it,
}
WRITERS: dict[str, Callable[[Path], object]] = {
    "resume": resume,
    "train --resume": resume_by_train,
    "init_from": start_from,
}
ENTRIES = READERS | WRITERS


def contents(folder: Path) -> dict[Path, bytes | str]:
    """The contents of a folder; links are followed."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }
