"""Untrusted run folders: nothing is read or written through links and pipes."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import deltarl
from deltarl import ConfigError, load_config, load_run, train
from deltarl.comparison import write_report
from tests.training.foreign_runs import ENTRIES, contents, spec


def link_file(path: Path, outside: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "file")


def link_folder(path: Path, outside: Path) -> None:
    if path.exists():
        shutil.rmtree(outside / "folder")
        path.rename(outside / "folder")
    path.symlink_to(outside / "folder")


def pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ATTACKS = [
    *((name, link_file) for name in ("metrics.jsonl", "model.zip", "config.yaml.tmp", "gates.npz", "notes")),
    *((name, link_folder) for name in ("checkpoints", "checkpoints/40", "checkpoints/40/replay", "figures")),
    *((name, pipe) for name in ("evaluations.csv", "policy.safetensors")),
]


@pytest.mark.parametrize(
    ("entry", "name", "attack"),
    [
        (entry, *attack)
        for entry in ENTRIES
        for attack in (ATTACKS if entry in {"resume", "load_run", "load_run packed"} else ATTACKS[::5])
    ],
)
def test_links_are_not_followed_and_pipes_not_waited_for(
    entry: str, name: str, attack: Callable[[Path, Path], None], foreign: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("precious\n" * 1000)
    attack(foreign / name, outside)
    if entry in {"resume", "train --resume"}:
        (foreign / "result.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"is (a link|not a regular file)") as caught:
        ENTRIES[entry](foreign)
    assert name.split("/", maxsplit=1)[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_the_folder_of_a_run_may_be_a_link_itself(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(trained)
    assert load_run(tmp_path / "linked").seed == 0


def test_seeds_that_are_links_are_not_resumed(foreign: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    foreign.rename(precious)
    foreign.symlink_to(precious)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"seed-0: is a link"):
        deltarl.resume(foreign.parent)
    with pytest.raises(ConfigError, match=r"seed-0: is a link"):
        train(spec(tmp_path / "out"))
    assert contents(tmp_path) == before


def test_a_backup_of_hard_links_stays_as_it_is_when_the_run_continues(foreign: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(foreign, backup, copy_function=os.link)
    before = contents(backup)
    deltarl.resume(
        foreign,
        lambda config: load_config(str(config), "total_timesteps=48"),
        console=Console(file=io.StringIO()),
        jobs=1,
    )
    assert contents(backup) == before


@pytest.mark.parametrize("name", ["report", "summary", "comparison.yaml", "hop", "hop/delta/seed-0/metrics.jsonl"])
def test_a_report_reads_and_writes_nothing_through_links(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    (folder / name).parent.mkdir(parents=True)
    (folder / "comparison.yaml").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "comparison.yaml").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "outside" / name if name.endswith("yaml") else tmp_path / "outside")
    with pytest.raises(ConfigError, match=f"{name}: is a link"):
        write_report(folder)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["comparison.yaml"]
