"""Writes checkpoints, each into a hidden folder that is renamed once everything is on the disk."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import safetensors.torch

from deltarl import disk
from deltarl.checkpoints.checkpoint import (
    BEST,
    FOLDER,
    MANIFEST,
    Checkpoint,
    DamagedError,
    best_folders,
    digest_of,
    numbered,
)
from deltarl.checkpoints.manifest import FORMAT, PARITY, REPLAY, TENSORS, TREE, segment
from deltarl.checkpoints.replay import Parity, Transitions
from deltarl.checkpoints.state import Snapshot

WRITING, REMOVING, PASSED_OVER = ".writing-", ".removing-", ".passed-over-"
_WRITERS = 2

log = logging.getLogger(__name__)


class Store:
    """The checkpoints of a run.

    Args:
        run: the run's folder.
        keep: number of checkpoints to keep.
    """

    def __init__(self, run: Path, keep: int) -> None:
        self.folder, self.keep = run / FOLDER, keep
        self._last: Checkpoint | None = None

    def write(
        self, steps: int, snapshot: Snapshot, transitions: Transitions | None, facts: Mapping[str, Any]
    ) -> Checkpoint:
        """Write a checkpoint and remove those that are no longer kept.

        Args:
            steps: the training step.
            snapshot: the state.
            transitions: of the replay buffer; None if there is none.
            facts: other entries of the manifest.

        Raises:
            OSError: if the disk is full or fails; earlier checkpoints stay intact.
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
        self._prune(numbered(self.folder)[self.keep :])
        return self._last

    def write_best(self, steps: int, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Write the best policy so far and remove the previous one.

        Args:
            steps: the training step.
            write: puts the files into a folder.
            facts: other entries of the manifest.

        Raises:
            OSError: as `write`.
        """
        self._make_folder()
        with _Writing(self.folder, f"{BEST}{steps}") as writing:
            write(writing.folder)
            writing.adopt_all()
            writing.finish({"steps": steps, **facts})
        self._prune([folder for folder in best_folders(self.folder) if folder.name != f"{BEST}{steps}"])

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Continue from `checkpoint`: newer ones were skipped, and are removed with the next write."""
        self._last = checkpoint
        for folder in numbered(self.folder):
            if int(folder.name) > checkpoint.steps:
                disk.rename(folder, folder.with_name(f"{PASSED_OVER}{folder.name}"))

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir()
            disk.sync(self.folder.parent)

    def sweep(self) -> None:
        """Remove folders that a killed process left half written or half removed; log those that cannot be removed."""
        for prefix in (WRITING, REMOVING, PASSED_OVER):
            for folder in self.folder.glob(f"{prefix}*"):
                try:
                    disk.remove(folder)
                except OSError as error:
                    log.warning("%s: cannot be removed: %s", folder, error.strerror or error)

    def _look_at_space(self, needed: int) -> None:
        if (free := disk.free(self.folder)) < needed:
            raise OSError(errno.ENOSPC, f"{needed / 2**20:,.0f} MiB needed, {free / 2**20:,.0f} MiB free")

    def _prune(self, folders: list[Path]) -> None:
        # A half-removed folder must not look like a checkpoint.
        for folder in folders:
            with suppress(OSError):  # the new checkpoint is complete in any case
                folder.rename(folder.with_name(f"{REMOVING}{folder.name}"))
        self.sweep()


class _Replay:
    """The replay transitions of a new checkpoint, most of which the previous one may already have."""

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
        """Write the changed segments; return the updated parity, or None if the previous one was damaged."""
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

        # Copying, hashing and writing release the GIL, so one can wait for the disk while another computes.
        with ThreadPoolExecutor(_WRITERS) as pool:
            return parity if all(list(pool.map(exchange, sorted(self.changed)))) and is_sound else None


class _Writing:
    """A folder that is being written; it is removed if it is left unfinished."""

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
        """Add files that other code has written into the folder to the manifest."""
        for path in sorted(self.folder.iterdir()):
            disk.sync(path)
            content = path.read_bytes()
            self._files[path.name] = {"bytes": len(content), "sha256": disk.digest(content)}

    def finish(self, facts: Mapping[str, Any]) -> Checkpoint:
        manifest = {"format": FORMAT, **facts, "files": dict(sorted(self._files.items()))}
        manifest["sha256"] = digest_of(manifest)
        disk.write(self.folder / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())
        disk.sync(self.folder)
        if self.target.exists():
            self.target.rename(self.target.with_name(f"{REMOVING}{self.target.name}"))
        disk.rename(self.folder, self.target)
        return Checkpoint(self.target, manifest)


def _parity_of(before: Checkpoint | None) -> Parity | None:
    if before is None:
        return Parity()
    try:
        return Parity(before.read(PARITY))
    except DamagedError:
        return None
