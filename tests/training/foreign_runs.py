"""A run whose folder comes from somebody else, and everything that reads or goes on with it."""

from __future__ import annotations

import io
import json
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from rich.console import Console

import deltarl
from deltarl import ConfigError, disk, load_config, load_run, train
from deltarl.cli.gates import gates
from deltarl.cli.list_runs import found_in
from deltarl.export import export_run
from deltarl.training import packed

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


def zipped(run: Path, target: Path) -> Path:
    """Pack what is in a folder, links and pipes too, under a manifest that fits, as anyone can.

    Of a run's folder, the files that no packed agent has are left out.
    """
    contents: dict[str, tuple[int, bytes]] = {}
    for path in sorted(run.rglob("*")):
        name, mode = path.relative_to(run).as_posix(), path.lstat().st_mode
        if stat.S_ISREG(mode) and packed.largest(name) is not None and not name.startswith("checkpoints/"):
            contents[name] = stat.S_IFREG, path.read_bytes()
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            contents[name] = stat.S_IFMT(mode), str(path.readlink()).encode() if path.is_symlink() else b""
    contents.pop(packed.MANIFEST, None)
    files = {name: {"bytes": len(data), "sha256": disk.digest(data)} for name, (_, data) in contents.items()}
    about = {"format": 1, "deltarl": "0.1.0", "policy": "final", "seed": 0, "files": files}
    contents[packed.MANIFEST] = stat.S_IFREG, json.dumps(about).encode()
    with ZipFile(target, "w") as archive:
        for name, (kind, data) in contents.items():
            member = ZipInfo(name)
            member.create_system, member.external_attr = 3, (kind | 0o644) << 16
            archive.writestr(member, data)
    return target


def as_pack(entry: Callable[[Path], object], run: Path) -> None:
    """What `entry` does with the run as a packed agent; nothing else may be left beside it."""
    with tempfile.TemporaryDirectory() as folder:
        agent = zipped(run, Path(folder, "agent.zip"))
        try:
            entry(agent)
        finally:
            assert [path.name for path in agent.parent.iterdir()] == ["agent.zip"]


def list_pack(agent: Path) -> None:
    [row] = found_in(agent.parent)
    assert row.run == str(agent)
    if row.reason is not None:
        assert row.status == "damaged"
        raise ConfigError(row.reason)


def start_from_pack(agent: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        train(spec(Path(folder), f"init_from={agent}"), console=Console(file=io.StringIO()))


PACKED: dict[str, Callable[[Path], object]] = {
    "load_run packed": load_run,
    "gates packed": partial(gates, out=Path("no figures")),
    "list packed": list_pack,
    "export packed": lambda agent: export_run(agent, agent.with_name("policy.ts")),
    "init_from packed": start_from_pack,
}
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
ENTRIES = READERS | WRITERS | {name: partial(as_pack, entry) for name, entry in PACKED.items()}


def contents(folder: Path) -> dict[Path, bytes | str]:
    """The contents of a folder; links are followed."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }
