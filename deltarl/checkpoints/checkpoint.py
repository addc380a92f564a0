"""Reads checkpoints: each is a folder that exists as a whole or not at all.

    checkpoints/50000/          the state at step 50,000, complete for resuming
      manifest.json             versions and settings; size and SHA-256 of each file and of the manifest
      state.json                the state as a tree that names its arrays
      state.safetensors         the arrays
      replay/00000.safetensors  transitions in segments of fixed length, hard links if they have not changed
      replay/parity             their exclusive or, from which one damaged segment can be rebuilt
    checkpoints/best-40000/     policy.safetensors and normalizer.npz of the best evaluation, and their manifest

A folder is written under a name that begins with a dot, the manifest last, and renamed once everything is on the disk.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from deltarl import disk
from deltarl.checkpoints.manifest import FORMAT, PARITY, TENSORS, TREE, Manifest, segment
from deltarl.checkpoints.replay import Parity, Transitions
from deltarl.checkpoints.state import Snapshot
from deltarl.errors import ConfigError
from deltarl.reading import content_of, neutralised, parse_json, readable

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
BEST = "best-"

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A checkpoint does not match its manifest; the message names the file and the fault."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with a valid manifest; `verify` checks its files."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def steps(self) -> int:
        return int(self.manifest["steps"])

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        return dict(self.manifest["files"])

    def read(self, name: str) -> bytes:
        """Read a file and check it against the manifest.

        Raises:
            DamagedError: if the content is not what was written.
        """
        entry = self.files[name]
        try:
            content = content_of(self.folder / name, most=entry["bytes"])
        except OSError as error:
            raise DamagedError(f"{name}: {error.strerror}") from None
        except (ValueError, MemoryError) as error:
            raise DamagedError(f"{name}: {error}") from None
        if len(content) != entry["bytes"]:
            raise DamagedError(f"{name}: expected {entry['bytes']} bytes, got {len(content)}")
        if disk.digest(content) != entry["sha256"]:
            raise DamagedError(f"{name}: its content is not what was written (SHA-256 differs)")
        return content

    def snapshot(self) -> Snapshot:
        """The state, without the replay transitions."""
        tensors = safetensors.torch.load(self.read(TENSORS))
        tree, unsupported = json.loads(self.read(TREE)), dict(self.manifest["unsupported"])
        return Snapshot(tree, tensors, unsupported, self.manifest["state"])

    def fill(self, transitions: Transitions, nothing: bool = False) -> int:
        """Restore the replay transitions and return their number; with `nothing`, only check that they fit.

        Raises:
            DamagedError: if they come from a buffer of another shape.
        """
        transitions.adopt(self.manifest["replay"])
        if self.manifest["replay"] != transitions.layout:
            raise DamagedError("replay: the transitions come from a buffer of another size or with other observations")
        rows = 0
        for index, name in enumerate(() if nothing else self.segments):
            try:
                if rows != index * transitions.rows:
                    raise ValueError("the segment before it is too short")
                rows += transitions.fill(index, self.read(name))
            except (ValueError, SafetensorError) as error:
                raise DamagedError(f"{name}: {error}") from None
        return rows

    @property
    def segments(self) -> list[str]:
        return [segment(index) for index in range(len(self.files.keys() - {TREE, TENSORS, PARITY}))]


def newest(run: Path) -> Checkpoint | None:
    """The newest valid checkpoint of a run; warns about checkpoints that are skipped or repaired."""
    return _first_sound(numbered(run / FOLDER))


def best(run: Path) -> Checkpoint | None:
    """The policy of a run's best evaluation, with the warnings of `newest`."""
    return _first_sound(best_folders(run / FOLDER))


def steps_of(run: Path) -> list[int]:
    """The steps at which a run has checkpoints, newest first; they are not verified."""
    return [int(folder.name) for folder in numbered(run / FOLDER)]


def verify(folder: Path) -> Checkpoint:
    """Verify a checkpoint's files; a single damaged replay segment is rebuilt.

    Raises:
        DamagedError: if it cannot be used.
    """
    checkpoint = _opened(folder)
    faults: dict[str, DamagedError] = {}
    for name in checkpoint.files:
        try:
            checkpoint.read(name)
        except DamagedError as error:
            faults[name] = error
    lost = [name for name in faults if name in checkpoint.segments]
    if len(lost) == 1 == len(faults):
        _mend(checkpoint, lost[0])
        log.warning("%s: %s; rebuilt from the others and their parity", folder, faults[lost[0]])
    elif list(faults) == [PARITY]:
        log.warning("%s: %s; the state itself is undamaged", folder, faults[PARITY])
    elif faults:
        raise next(iter(faults.values()))
    return checkpoint


def _first_sound(folders: list[Path]) -> Checkpoint | None:
    for folder in folders:
        try:
            return verify(folder)
        except DamagedError as error:
            log.warning("%s: skipped, it is damaged: %s", folder, error)
    return None


def _opened(folder: Path) -> Checkpoint:
    try:
        with readable(Path(MANIFEST)):
            written = parse_json(content_of(folder / MANIFEST))
            if written.pop("sha256") != digest_of(written):
                raise DamagedError(f"{MANIFEST}: its content is not what was written (SHA-256 differs)")
            if written["format"] != FORMAT:
                raise DamagedError(f"{MANIFEST}: format {written['format']}, this version of deltarl reads {FORMAT}")
            manifest = neutralised(Manifest.model_validate(written).model_dump())
    except ConfigError as error:
        raise DamagedError(str(error)) from None
    if folder.name not in {str(manifest["steps"]), f"{BEST}{manifest['steps']}"}:
        raise DamagedError(f"{MANIFEST}: is of step {manifest['steps']:,}, but its folder is not")
    return Checkpoint(folder, manifest)


def _mend(checkpoint: Checkpoint, lost: str) -> None:
    parity = Parity(checkpoint.read(PARITY))
    for name in checkpoint.segments:
        if name != lost:
            parity.add(checkpoint.read(name))
    content = parity.content()[: checkpoint.files[lost]["bytes"]]
    if disk.digest(content) != checkpoint.files[lost]["sha256"]:
        raise DamagedError(f"{lost}: damaged, and its parity does not match these segments")
    # A new inode: checkpoints that share the damaged file keep it, and repair their own.
    try:
        disk.replace(checkpoint.folder / lost, content)
    except OSError as error:
        raise DamagedError(f"{lost}: damaged, and cannot be rebuilt: {error.strerror}") from None


def digest_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its `sha256` entry."""
    return disk.digest(json.dumps(manifest, sort_keys=True, allow_nan=False).encode())


def numbered(folder: Path) -> list[Path]:
    """The checkpoints' folders, newest first; they are not verified."""
    found = [path for path in folder.glob("*") if _is_number(path.name)]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def best_folders(folder: Path) -> list[Path]:
    """The folders of best policies, newest first; there are two only if a process was killed while replacing one."""
    found = [path for path in folder.glob(f"{BEST}*") if _is_number(path.name.removeprefix(BEST))]
    return sorted(found, key=lambda path: int(path.name.removeprefix(BEST)), reverse=True)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
