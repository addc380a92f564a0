"""The folder of a run: what is in it, where it is, and whether it may be written to."""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from deltarl import disk, places, plugins, yaml_text
from deltarl.checkpoints import checkpoint, manifest
from deltarl.envs import is_registered
from deltarl.errors import ConfigError
from deltarl.gates import Record, read_record, without_erasure
from deltarl.reading import check_plain, read_json, read_yaml, readable
from deltarl.recording import metrics
from deltarl.task_packages import MissingPackageError
from deltarl.torsos import DeltaTorsoSpec
from deltarl.torsos.custom import find_block
from deltarl.training import lookup
from deltarl.training.differences import differing, fixed_differences
from deltarl.training.locks import is_locked, locked, taken
from deltarl.training.older import complete_older
from deltarl.training.provenance import provenance
from deltarl.training.spec import RunSpec

CONFIG = lookup.CONFIG
PROVENANCE = "provenance.json"
METRICS = metrics.FILE
EVALUATIONS = "evaluations.csv"
POLICY = manifest.POLICY
NORMALIZER = manifest.NORMALIZER
RESULT = "result.json"
GATES = lookup.GATES
RESUMES = "resumes.jsonl"
# Left behind by a process that is killed before it writes the config: no run has started there.
_BEFORE_THE_CONFIG = {PROVENANCE, f"{PROVENANCE}.tmp", f"{CONFIG}.tmp"}
LOCK = ".lock"  # in the folder that holds runs; a run itself is locked by its provenance
SB3_MODEL = "model.zip"
SB3_NORMALIZER = "vecnormalize.pkl"


class UnregisteredError(ConfigError):
    """This process has not imported the module with a run's environment or blocks."""


def choose_folder(spec: RunSpec, seed: int) -> Path:
    """Choose the folder for a run; nothing is changed.

    It is `<out>/<name>/seed-<seed>`, or `<out>/<name>-<digest>/seed-<seed>` if a run with another config already has
    that folder.

    Raises:
        ConfigError: if the same run has finished there, is running, or was interrupted and can be resumed,
            or if the place cannot be used.
    """
    digest = spec.digest()
    for folder in _places(spec, seed):
        with usable(folder):
            if folder.is_symlink():
                raise ConfigError(f"{folder}: is a link; a run makes its own folder; give another out= or name=")
            if not (folder / CONFIG).exists():
                if folder.exists() and {path.name for path in folder.iterdir()} - _BEFORE_THE_CONFIG:
                    raise ConfigError(f"{folder}: contains files but no {CONFIG}; give another out= or move it away")
                return folder
            if _digest_of(folder) != digest:
                continue
            if (folder / RESULT).exists():
                skip = " --resume (resume=True) to train only the seeds that are left," if len(spec.seeds) > 1 else ""
                raise ConfigError(
                    f"{folder}: this run has already finished; its score is in {RESULT}; "
                    f"move it away, or give{skip} other seeds or another out"
                )
            if is_locked(folder / PROVENANCE):
                raise taken(folder)
            if steps := checkpoint.steps_of(folder):
                raise ConfigError(
                    f"{folder}: this run was interrupted after its checkpoint of step {max(steps):,}; resume it with: "
                    f"deltarl resume {shlex.quote(str(folder))}; or move it away to start again"
                )
            return folder
    raise ConfigError(f"{folder}: contains another run; give another out=")


def find_run(spec: RunSpec, seed: int) -> Path | None:
    """The folder of a run that `spec` can resume; None if there is none.

    Raises:
        ConfigError: if the only run of that name has another config; the message names the differing keys.
    """
    first, *_ = _places(spec, seed)
    keys = fixed_differences(load_spec(first), spec) if (first / CONFIG).exists() else None
    if keys == []:
        return first
    # Another folder of that config may hold it: with a digest, if another run had the name first, or with the name that
    # an older version gave to a config with overrides.
    base = spec.name.partition("+")[0]
    made = re.compile(rf"({re.escape(spec.name)}|{re.escape(base)}\+.*)-[0-9a-f]{{8}}")
    for folder in sorted(first.parent.parent.glob(f"{glob.escape(base)}[-+]*/seed-{seed}")):
        if not made.fullmatch(folder.parent.name):
            continue  # a name that a user chose
        with suppress(ConfigError):
            if not fixed_differences(load_spec(folder), spec):
                return folder
    if keys:
        raise differing(first, keys)
    return None


def _places(spec: RunSpec, seed: int) -> Iterator[Path]:
    for name in (spec.name, f"{spec.name}-{spec.digest()}"):
        yield places.expanded(spec.out, "out") / name / f"seed-{seed}"


@contextmanager
def claimed(spec: RunSpec, seed: int, command: list[str], facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Create a run's folder with config and provenance, and lock it for the context's duration.

    `facts` are added to the provenance.

    A run of the same config that was interrupted before its first checkpoint is moved aside. The folder is chosen under
    a lock on `out`, because a folder that was free when a command started may contain another process's run hours
    later, when the command reaches its second seed.
    """
    out = places.expanded(spec.out, "out")
    with ExitStack() as held:
        with usable(out):
            out.mkdir(parents=True, exist_ok=True)
            with locked(out / LOCK, wait=True):
                folder = choose_folder(spec, seed)
                if (folder / CONFIG).exists():
                    folder.rename(next(path for n in count(1) if not (path := _aside(folder, n)).exists()))
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / PROVENANCE, {**provenance(command), **(facts or {})})
                held.enter_context(locked(folder / PROVENANCE))
                write_config(spec, seed, folder)
        yield folder


@contextmanager
def reopened(folder: Path) -> Iterator[None]:
    """Lock an existing run's folder for writing, for the context's duration.

    Nothing outside it can be written through it: it contains no links, and its records share no content with files
    elsewhere.

    Raises:
        ConfigError: if a process is training there, or if the folder contains anything but files and folders.
    """
    check_plain(folder)
    with ExitStack() as held:
        with usable(folder):
            held.enter_context(locked(folder / PROVENANCE))
            for path in folder.iterdir():
                if path.is_file() and path.name != PROVENANCE:  # the lock, which is never rewritten
                    disk.unshare(path)
        yield


def write_config(spec: RunSpec, seed: int, folder: Path) -> None:
    """Write the resolved config of one seed."""
    own = spec.model_copy(update={"seeds": (seed,)})
    write_text(folder / CONFIG, yaml_text.dump(own.model_dump()))


def note_resumption(folder: Path, command: list[str], facts: dict[str, Any]) -> None:
    """Add a line to resumes.jsonl: at which step a run was resumed, whether exactly, and where."""
    with (folder / RESUMES).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**facts, **provenance(command)}, allow_nan=False) + "\n")


def _aside(folder: Path, n: int) -> Path:
    return folder.with_name(f"{folder.name}.unfinished-{n}")


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Turn errors of the operating system (permissions, names, disks) into one message."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"out: {folder} cannot be used: {error.strerror or error}") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write atomically: a reader sees the old file or the new one, never part of it."""
    disk.replace(path, text.encode())


def load_spec(folder: Path) -> RunSpec:
    """Load the resolved config of a run.

    Raises:
        UnregisteredError: if its environment is not registered, or the class of its blocks not imported, in this
            process, or the package of its environment is not installed.
        ConfigError: if it is damaged.
    """
    path = folder / CONFIG
    with readable(path):
        content = read_yaml(path)
        env = content["env"]["id"]
        try:
            known = is_registered(env)
        except MissingPackageError as error:
            raise UnregisteredError(f"{folder}: {error}") from None
        blocks = {
            role: str(torso["block"])
            for role in ("actor_torso", "critic_torso")
            if isinstance(torso := content.get(role), dict) and torso.get("kind") == "custom" and "block" in torso
        }
    if not known:
        hint = (
            _trained_with(folder) or f"give the module that registers it: --import MODULE, or {plugins.VARIABLE}=MODULE"
        )
        raise UnregisteredError(f"{folder}: no environment '{env}' is registered; {hint}")
    for role, block in blocks.items():
        try:
            find_block(block)
        except ConfigError as error:
            raise UnregisteredError(f"{folder}: {role}.block: {_trained_with(folder, f'{block}: ') or error}") from None
    with readable(path):
        complete_older(content)
        spec = RunSpec.model_validate(content)
        if len(spec.seeds) > 1:
            raise ValueError(f"seeds: expected a single seed; got {list(spec.seeds)}")
        return spec


def _trained_with(folder: Path, what: str = "") -> str:
    """The modules that a run was trained with, and what to type; empty if there were none or all are imported."""
    try:
        names = [str(name) for name in read_json(folder / PROVENANCE).get("imports", ())]
    except (ConfigError, TypeError):
        names = []
    if not set(names) - set(plugins.named()):
        return ""
    options = " ".join(f"--import {shlex.quote(name)}" for name in names)
    variable = f"{plugins.VARIABLE}={shlex.quote(os.pathsep.join(names))}"
    return f"{what}it was trained with {options}; give this again, or {variable}"


def read_gates(folder: Path) -> Record:
    """The gate measurements of a run; for networks that do not erase, without the erase statistics of older versions.

    Raises:
        ConfigError: if the record is missing, or it or the config is damaged.
    """
    record = read_record(folder / GATES)
    if not (folder / CONFIG).is_file():
        return record
    spec = load_spec(folder)

    def only_writes(net: str) -> bool:
        if net.endswith("encoder"):
            return False
        torso = spec.actor_torso if net in {"policy", "actor"} else spec.critic_torso
        return isinstance(torso, DeltaTorsoSpec) and torso.update == "write_only"

    return without_erasure(record, only_writes)


def _digest_of(folder: Path) -> str | None:
    try:
        return load_spec(folder).digest()
    except ConfigError:
        return None
