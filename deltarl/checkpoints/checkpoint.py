"""Checkpoints on disk: a folder each, which is there as a whole or not at all.

    checkpoints/50000/          state at step 50,000, all that a run goes on from
      manifest.json             what it was made with and by; size and SHA-256 of each file, and of itself
      state.json                the state as a tree; arrays stand in it by name
      state.safetensors         the arrays
      replay/00000.safetensors  transitions in segments of fixed length, linked where they have not changed
      replay/parity             their exclusive or, from which one damaged segment is made again
    checkpoints/best-40000/     policy.safetensors, normalizer.npz of the best evaluation, and their manifest

A folder is written under a name that begins with a dot, its manifest last, and renamed when all is on the disk.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from deltarl import disk
from deltarl.checkpoints.manifest import FORMAT, PARITY, REPLAY, TENSORS, TREE, Manifest, segment
from deltarl.checkpoints.replay import Parity, Transitions
from deltarl.checkpoints.state import Snapshot
from deltarl.errors import ConfigError
from deltarl.reading import content_of, neutralised, parse_json, readable

FOLDER = "checkpoints"
MANIFEST = "manifest.json"
BEST = "best-"
WRITING, REMOVING, PASSED_OVER = ".writing-", ".removing-", ".passed-over-"
_WRITERS = 2

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A checkpoint does not hold what its manifest says; the message names file and fault."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has its manifest; `verify` tells whether it has its files too."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def steps(self) -> int:
        return int(self.manifest["steps"])

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        return dict(self.manifest["files"])

    def read(self, name: str) -> bytes:
        """A file's content, held against the manifest.

        Raises:
            DamagedError: if it is another than what was written.
        """
        entry = self.files[name]
        try:
            content = content_of(self.folder / name, most=entry["bytes"])
        except OSError as error:
            raise DamagedError(f"{name}: {error.strerror}") from None
        except (ValueError, MemoryError) as error:
            raise DamagedError(f"{name}: {error}") from None
        if len(content) != entry["bytes"]:
            raise DamagedError(f"{name}: {len(content)} bytes, {entry['bytes']} were written")
        if disk.digest(content) != entry["sha256"]:
            raise DamagedError(f"{name}: its content is not what was written (SHA-256 differs)")
        return content

    def snapshot(self) -> Snapshot:
        """The state, replay transitions apart."""
        tensors = safetensors.torch.load(self.read(TENSORS))
        tree, unsupported = json.loads(self.read(TREE)), dict(self.manifest["unsupported"])
        return Snapshot(tree, tensors, unsupported, self.manifest["state"])

    def fill(self, transitions: Transitions, nothing: bool = False) -> int:
        """Put the replay transitions back, and say how many; with `nothing`, see whether that can be done.

        Raises:
            DamagedError: if they are of a buffer of another shape.
        """
        transitions.adopt(self.manifest["replay"])
        if self.manifest["replay"] != transitions.layout:
            raise DamagedError("replay: the transitions are of a buffer of another size or of other observations")
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


class Store:
    """The checkpoints of a run.

    Args:
        run: the run's folder.
        keep: how many of the newest stay.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.folder, self.keep = run / FOLDER, keep
        self._last: Checkpoint | None = None

    def write(
        self, steps: int, snapshot: Snapshot, transitions: Transitions | None, facts: Mapping[str, Any]
    ) -> Checkpoint:
        """Write a checkpoint, and remove those that are no longer kept.

        Args:
            steps: the training step.
            snapshot: the state.
            transitions: of the replay buffer; None if there is none.
            facts: what else the manifest says.

        Raises:
            OSError: if the disk is full or fails; the checkpoints before are as they were.
        """
        self._make_folder()
        tree = json.dumps(snapshot.tree, allow_nan=False).encode()
        replay = None if transitions is None else _Replay(transitions, steps, self._last)
        needed = len(tree) + sum(tensor.nbytes for tensor in snapshot.tensors.values()) + 2**20
        self._look_at_space(needed + (0 if replay is None else replay.bytes_needed()))
        with _Writing(self.folder, str(steps)) as writing:
            writing.add(TREE, tree)
            writing.add(TENSORS, safetensors.torch.save(snapshot.tensors))
            if replay is not None:
                replay.write(writing)
            layout = None if transitions is None else transitions.layout
            self._last = writing.finish(
                {
                    "steps": steps,
                    **facts,
                    "state": snapshot.version,
                    "unsupported": snapshot.unsupported,
                    "replay": layout,
                }
            )
        self._prune(_numbered(self.folder)[self.keep :])
        return self._last

    def write_best(self, steps: int, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Write the best policy so far, and remove the one before.

        Args:
            steps: the training step.
            write: puts the files into a folder.
            facts: what else the manifest says.

        Raises:
            OSError: as `write`.
        """
        self._make_folder()
        with _Writing(self.folder, f"{BEST}{steps}") as writing:
            write(writing.folder)
            writing.adopt_all()
            writing.finish({"steps": steps, **facts})
        self._prune([folder for folder in _best(self.folder) if folder.name != f"{BEST}{steps}"])

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`: what is newer has been passed over, and goes when the next one is written."""
        self._last = checkpoint
        for folder in _numbered(self.folder):
            if int(folder.name) > checkpoint.steps:
                disk.rename(folder, folder.with_name(f"{PASSED_OVER}{folder.name}"))

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir()
            disk.sync(self.folder.parent)

    def sweep(self) -> None:
        """Remove what a process left that was killed while it wrote or removed; what cannot be removed is said."""
        for prefix in (WRITING, REMOVING, PASSED_OVER):
            for folder in self.folder.glob(f"{prefix}*"):
                try:
                    disk.remove(folder)
                except OSError as error:
                    log.warning("%s: cannot be removed: %s", folder, error.strerror or error)

    def _look_at_space(self, needed: int) -> None:
        if (free := disk.free(self.folder)) < needed:
            raise OSError(errno.ENOSPC, f"{needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free")

    def _prune(self, folders: list[Path]) -> None:
        # A folder that is half removed must not look like a checkpoint.
        for folder in folders:
            with suppress(OSError):  # the checkpoint that takes its place is written all the same
                folder.rename(folder.with_name(f"{REMOVING}{folder.name}"))
        self.sweep()


class _Replay:
    """The replay transitions of a new checkpoint, of which the one before may have most."""

    def __init__(self, transitions: Transitions, steps: int, before: Checkpoint | None) -> None:
        self.transitions = transitions
        self.before = before if before is not None and before.manifest["replay"] == transitions.layout else None
        self.changed, self.old = set(range(transitions.segments)), set[str]()
        if self.before is not None:
            added = (steps - self.before.steps) // transitions.buffer.n_envs
            self.old = set(self.before.segments)
            self.changed = transitions.changed(added) | {i for i in self.changed if segment(i) not in self.old}

    def bytes_needed(self) -> int:
        return (len(self.changed) + 1) * self.transitions.segment_bytes()

    def write(self, writing: _Writing) -> None:
        (writing.folder / REPLAY).mkdir()
        for index in set(range(self.transitions.segments)) - self.changed:
            assert self.before is not None
            if not writing.link(segment(index), self.before):
                writing.add(segment(index), self.transitions.read(index))
        parity = self._exchanged(_parity_of(self.before), writing)
        if parity is None:
            parity = Parity()
            for index in range(self.transitions.segments):
                parity.add(self.transitions.read(index))
        writing.add(PARITY, parity.content())
        disk.sync(writing.folder / REPLAY)

    def _exchanged(self, parity: Parity | None, writing: _Writing) -> Parity | None:
        """Write the changed segments; the parity with their new content for the old, None if that was not sound."""
        is_sound = parity is not None
        parity = parity or Parity()
        lock = Lock()

        def exchange(index: int) -> bool:
            name = segment(index)
            content = self.transitions.read(index)
            writing.add(name, content)
            try:
                old = self.before.read(name) if self.before is not None and name in self.old else b""
            except DamagedError:
                return False
            with lock:
                parity.add(content)
                parity.add(old)
            return True

        # Copying, hashing and writing leave Python's lock: one of them can wait for the disk while the other computes.
        with ThreadPoolExecutor(_WRITERS) as pool:
            return parity if all(list(pool.map(exchange, sorted(self.changed)))) and is_sound else None


class _Writing:
    """A folder that is being written; what is left unfinished is removed."""

    def __init__(self, parent: Path, name: str) -> None:
        self.target, self.folder = parent / name, parent / f"{WRITING}{name}"
        self._files: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> _Writing:
        disk.remove(self.folder)
        self.folder.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        disk.remove(self.folder)

    def add(self, name: str, content: bytes) -> None:
        disk.write(self.folder / name, content)
        self._files[name] = {"bytes": len(content), "sha256": disk.digest(content)}

    def link(self, name: str, source: Checkpoint) -> bool:
        if not disk.link(source.folder / name, self.folder / name):
            return False
        self._files[name] = source.files[name]
        return True

    def adopt_all(self) -> None:
        """Take over the files that somebody else has written into the folder."""
        for path in sorted(self.folder.iterdir()):
            disk.sync(path)
            content = path.read_bytes()
            self._files[path.name] = {"bytes": len(content), "sha256": disk.digest(content)}

    def finish(self, facts: Mapping[str, Any]) -> Checkpoint:
        manifest = {"format": FORMAT, **facts, "files": dict(sorted(self._files.items()))}
        manifest["sha256"] = _digest_of(manifest)
        disk.write(self.folder / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        disk.sync(self.folder)
        if self.target.exists():
            self.target.rename(self.target.with_name(f"{REMOVING}{self.target.name}"))
        disk.rename(self.folder, self.target)
        return Checkpoint(self.target, manifest)


def newest(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that verifies; what is passed over or mended is said as a warning."""
    return _first_sound(_numbered(run / FOLDER))


def best(run: Path) -> Checkpoint | None:
    """The policy of a run's best evaluation, as `newest`."""
    return _first_sound(_best(run / FOLDER))


def steps_of(run: Path) -> list[int]:
    """The steps of which a run has checkpoints, newest first; whether they verify is not looked at."""
    return [int(folder.name) for folder in _numbered(run / FOLDER)]


def verify(folder: Path) -> Checkpoint:
    """A checkpoint whose files are what was written; a single damaged replay segment is made anew.

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
        log.warning("%s: %s; made anew from the others and their parity", folder, faults[lost[0]])
    elif list(faults) == [PARITY]:
        log.warning("%s: %s; the state itself is sound", folder, faults[PARITY])
    elif faults:
        raise next(iter(faults.values()))
    return checkpoint


def _first_sound(folders: list[Path]) -> Checkpoint | None:
    for folder in folders:
        try:
            return verify(folder)
        except DamagedError as error:
            log.warning("%s: passed over, it is damaged: %s", folder, error)
    return None


def _opened(folder: Path) -> Checkpoint:
    try:
        with readable(Path(MANIFEST)):
            written = parse_json(content_of(folder / MANIFEST))
            if written.pop("sha256") != _digest_of(written):
                raise DamagedError(f"{MANIFEST}: its content is not what was written (SHA-256 differs)")
            if written["format"] != FORMAT:
                raise DamagedError(f"{MANIFEST}: format {written['format']}, this version of deltarl reads {FORMAT}")
            manifest = neutralised(Manifest.model_validate(written).model_dump())
    except ConfigError as error:
        raise DamagedError(str(error)) from None
    if folder.name not in {str(manifest["steps"]), f"{BEST}{manifest['steps']}"}:
        raise DamagedError(f"{MANIFEST}: is of step {manifest['steps']:,}, as its folder is not")
    return Checkpoint(folder, manifest)


def _mend(checkpoint: Checkpoint, lost: str) -> None:
    parity = Parity(checkpoint.read(PARITY))
    for name in checkpoint.segments:
        if name != lost:
            parity.add(checkpoint.read(name))
    content = parity.content()[: checkpoint.files[lost]["bytes"]]
    if disk.digest(content) != checkpoint.files[lost]["sha256"]:
        raise DamagedError(f"{lost}: damaged, and its parity is not of these segments")
    # Another inode: checkpoints that share the damaged file keep it, and mend their own.
    try:
        disk.replace(checkpoint.folder / lost, content)
    except OSError as error:
        raise DamagedError(f"{lost}: damaged, and cannot be made anew: {error.strerror}") from None


def _parity_of(before: Checkpoint | None) -> Parity | None:
    if before is None:
        return Parity()
    try:
        return Parity(before.read(PARITY))
    except DamagedError:
        return None


def _digest_of(manifest: Mapping[str, Any]) -> str:
    return disk.digest(json.dumps(manifest, sort_keys=True, allow_nan=False).encode())


def _numbered(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*") if _is_number(path.name)]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _best(folder: Path) -> list[Path]:
    found = [path for path in folder.glob(f"{BEST}*") if _is_number(path.name.removeprefix(BEST))]
    return sorted(found, key=lambda path: int(path.name.removeprefix(BEST)), reverse=True)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()
