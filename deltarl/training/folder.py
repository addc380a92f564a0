"""The folder of a run: what stands in it, where it is, and whether it may be written into."""

from __future__ import annotations

import glob
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from deltarl import disk, places, plugins, yaml_text
from deltarl.checkpoints import checkpoint, manifest
from deltarl.envs import KNOWN_SCORES, is_registered
from deltarl.errors import ConfigError
from deltarl.gates import Record, read_record, without_erasure
from deltarl.reading import check_plain, read_json, read_yaml, readable
from deltarl.recording import metrics
from deltarl.torsos import DeltaTorsoSpec
from deltarl.training.locks import is_locked, locked, taken
from deltarl.training.provenance import provenance
from deltarl.training.spec import Part, RunSpec, complete_older, fields_of

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
METRICS = metrics.FILE
EVALUATIONS = "evaluations.csv"
POLICY = manifest.POLICY
NORMALIZER = manifest.NORMALIZER
RESULT = "result.json"
GATES = "gates.npz"
RESUMES = "resumes.jsonl"
# What may change when a run goes on.
_FREE = (
    *fields_of(Part.PLACE, Part.CADENCE, Part.SCORING, Part.MACHINE, Part.ROUNDING, Part.LENGTH),
    *(f"env.{name}" for name in KNOWN_SCORES),
)
# What a process leaves that is killed before a run has its config: nothing has begun there.
_BEFORE_THE_CONFIG = {PROVENANCE, f"{PROVENANCE}.tmp", f"{CONFIG}.tmp"}
LOCK = ".lock"  # in the folder that holds runs; a run itself is locked by its provenance
SB3_MODEL = "model.zip"
SB3_NORMALIZER = "vecnormalize.pkl"


class UnregisteredError(ConfigError):
    """The environment of a run is not registered with Gymnasium in this process."""


def choose_folder(spec: RunSpec, seed: int) -> Path:
    """Where the run of `spec` with `seed` goes; touches nothing.

    The folder is `<out>/<name>/seed-<seed>`, and `<out>/<name>-<digest>/seed-<seed>` when a run of another config
    holds that one already.

    Raises:
        ConfigError: if the very same run has finished there, is running, or was interrupted and can be gone on with,
            or if the place cannot be used.
    """
    digest = spec.digest()
    for folder in _places(spec, seed):
        with usable(folder):
            if folder.is_symlink():
                raise ConfigError(f"{folder}: is a link; a run makes its own folder; give another out= or name=")
            if not (folder / CONFIG).exists():
                if folder.exists() and {path.name for path in folder.iterdir()} - _BEFORE_THE_CONFIG:
                    raise ConfigError(f"{folder}: holds files but no {CONFIG}; give another out= or move it away")
                return folder
            if _digest_of(folder) != digest:
                continue
            if (folder / RESULT).exists():
                raise ConfigError(
                    f"{folder}: this very run has finished; its score is in {RESULT}; "
                    "move it away, or give other seeds or another out"
                )
            if is_locked(folder / PROVENANCE):
                raise taken(folder)
            if steps := checkpoint.steps_of(folder):
                raise ConfigError(
                    f"{folder}: this very run was interrupted after its checkpoint of step {max(steps):,}; go on with: "
                    f"deltarl resume {shlex.quote(str(folder))}; or move it away to start anew"
                )
            return folder
    raise ConfigError(f"{folder}: holds another run; give another out=")


def find_run(spec: RunSpec, seed: int) -> Path | None:
    """The folder of a run that `spec` may go on with; None where there is none.

    Raises:
        ConfigError: if the only run of that name has another config; the message names the keys that differ.
    """
    first, *_ = _places(spec, seed)
    keys = fixed_differences(load_spec(first), spec) if (first / CONFIG).exists() else None
    if keys == []:
        return first
    # Another folder of that config may hold it: with a digest, where another run had the name first, or with a name
    # that an older version made of the same overrides.
    base = spec.name.partition("+")[0]
    for folder in sorted(first.parent.parent.glob(f"{glob.escape(base)}[-+]*/seed-{seed}")):
        with suppress(ConfigError):
            if not fixed_differences(load_spec(folder), spec):
                return folder
    if keys:
        raise differing(first, keys)
    return None


def differing(folder: Path, keys: list[str]) -> ConfigError:
    """What is said when a run is to go on with another config."""
    return ConfigError(
        f"{folder}: cannot go on with another config; these differ: {', '.join(keys)}; "
        "eval, checkpoint, gates, threads, device and a larger total_timesteps may"
    )


def fixed_differences(stored: RunSpec, spec: RunSpec) -> list[str]:
    """The keys in which `spec` differs from a run's own config where it must not, with both values."""
    found = [
        f"{key} ({old} there, {new} here)"
        for key, (old, new) in differences(stored, spec).items()
        if not key.startswith(_FREE)
    ]
    if spec.total_timesteps < stored.total_timesteps:
        found.append(f"total_timesteps ({stored.total_timesteps} there, {spec.total_timesteps} here; it can only grow)")
    return found


def differences(one: RunSpec, other: RunSpec) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with the value of each; a key that one has not is no null there.

    Values of different types differ, as 1 and true do; NaN is the same as NaN.
    """
    ours, theirs = (leaves(_content(spec)) for spec in (one, other))
    keys = sorted(ours.keys() | theirs.keys())
    return {
        key: (ours.get(key, "nothing"), theirs.get(key, "nothing"))
        for key, following in zip(keys, [*keys[1:], ""], strict=True)
        if not (key in ours and key in theirs and yaml_text.is_same(ours[key], theirs[key]))
        and not following.startswith(f"{key}.")  # an empty mapping, of which the other has more to say
    }


def _content(spec: RunSpec) -> dict[str, Any]:
    """A config as JSON, but for what an environment takes as its own, whose keys may be integers."""
    content = spec.model_dump(mode="json")
    content["env"]["kwargs"] = spec.env.kwargs
    return content


def leaves(content: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one, its keys joined by dots; an empty one is a value."""
    if not isinstance(content, dict) or (path and not content):
        return {path: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"[{key}]" if not isinstance(key, str) else repr(key) if "." in key else key
        found |= leaves(value, f"{path}.{name}" if path else name)
    return found


def _places(spec: RunSpec, seed: int) -> Iterator[Path]:
    for name in (spec.name, f"{spec.name}-{spec.digest()}"):
        yield places.expanded(spec.out, "out") / name / f"seed-{seed}"


@contextmanager
def claimed(spec: RunSpec, seed: int, command: list[str], facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """The folder of a run, made anew, with config and provenance, and kept from others while the context lasts.

    The provenance has `facts` too.

    A run of the same config that was interrupted before its first checkpoint is moved aside. Where the run goes is
    settled under a lock on `out`: what was free when a command started may hold another process's run hours later,
    when the command comes to its second seed.
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
    """A run's folder, kept from others while the context lasts, to be written into.

    What is written stays in it: the folder holds no links, and its records share no content with files elsewhere.

    Raises:
        ConfigError: if a process is training there, or if the folder holds anything but files and folders.
    """
    check_plain(folder)
    with ExitStack() as held:
        with usable(folder):
            held.enter_context(locked(folder / PROVENANCE))
            for path in folder.iterdir():
                if path.is_file() and path.name != PROVENANCE:  # which is the lock, and never written again
                    disk.unshare(path)
        yield


def write_config(spec: RunSpec, seed: int, folder: Path) -> None:
    """The resolved config of one seed."""
    own = spec.model_copy(update={"seeds": (seed,)})
    write_text(folder / CONFIG, yaml_text.dump(own.model_dump()))


def note_resumption(folder: Path, command: list[str], facts: dict[str, Any]) -> None:
    """Add a line to resumes.jsonl: from which step a run went on, whether exactly, and where."""
    with (folder / RESUMES).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**facts, **provenance(command)}, allow_nan=False) + "\n")


def _aside(folder: Path, n: int) -> Path:
    return folder.with_name(f"{folder.name}.unfinished-{n}")


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """What the system refuses (rights, names, disks) as one message."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"out: {folder} cannot be used: {error.strerror or error}") from None


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write at once: a reader sees the old file or the new one, never half of it."""
    disk.replace(path, text.encode())


def load_spec(folder: Path) -> RunSpec:
    """The resolved config of a run.

    Raises:
        UnregisteredError: if its environment is not registered in this process.
        ConfigError: if it is damaged.
    """
    path = folder / CONFIG
    with readable(path):
        content = read_yaml(path)
        env = content["env"]["id"]
        known = is_registered(env)
    if not known:
        raise UnregisteredError(f"{folder}: no environment '{env}' is registered; {_registers(folder)}")
    with readable(path):
        complete_older(content)
        spec = RunSpec.model_validate(content)
        if len(spec.seeds) > 1:
            raise ValueError(f"seeds: a run has one; got {list(spec.seeds)}")
        return spec


def _registers(folder: Path) -> str:
    """What to type for a run's own environment to be registered."""
    try:
        names = [str(name) for name in read_json(folder / PROVENANCE).get("imports", ())]
    except (ConfigError, TypeError):
        names = []
    if not names:
        return f"give the module that does it: --import MODULE, or {plugins.VARIABLE}=MODULE"
    options = " ".join(f"--import {shlex.quote(name)}" for name in names)
    variable = f"{plugins.VARIABLE}={shlex.quote(os.pathsep.join(names))}"
    return f"it was trained with {options}; give that again, or {variable}"


def read_gates(folder: Path) -> Record:
    """The gates that a run has measured; of networks that do not erase without what older versions took for erasure.

    Raises:
        ConfigError: if the record is missing, or it or the config is damaged.
    """
    record = read_record(folder / GATES)
    if not (folder / CONFIG).is_file():
        return record
    spec = load_spec(folder)

    def only_writes(net: str) -> bool:
        torso = spec.actor_torso if net in {"policy", "actor"} else spec.critic_torso
        return isinstance(torso, DeltaTorsoSpec) and torso.update == "write_only"

    return without_erasure(record, only_writes)


def _digest_of(folder: Path) -> str | None:
    try:
        return load_spec(folder).digest()
    except ConfigError:
        return None
