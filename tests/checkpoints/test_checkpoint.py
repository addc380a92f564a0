"""Checkpoints on disk are complete or absent, whatever happens during or after writing."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl import disk
from deltarl.checkpoints.checkpoint import DamagedError, best, newest, steps_of, verify
from deltarl.checkpoints.replay import Transitions
from deltarl.checkpoints.store import Store
from tests.checkpoints.written import BUFFER_ROWS, INTERVAL, Run, as_of, flipped, holds

pytestmark = pytest.mark.usefixtures("small_segments")


# The system calls of a checkpoint.
CALLS = ("open", "write", "fsync", "close", "mkdir", "rename", "link", "unlink", "rmdir")


def test_the_newest_are_kept_and_give_back_what_was_stored(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for interval in range(1, 12):  # past the point where the buffer is full and wraps around
        run.on()
        holds(tmp_path, interval * INTERVAL, run.buffer)
        assert steps_of(tmp_path) == [interval * INTERVAL, (interval - 1) * INTERVAL][: min(interval, 2)]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"110", "100"}


def test_segments_that_did_not_change_are_linked_and_others_are_not(tmp_path: Path) -> None:
    Run(tmp_path).on(4)
    before, after = (tmp_path / "checkpoints" / name / "replay" for name in ("30", "40"))
    inodes = {path.stat().st_ino for path in before.iterdir()}
    shared = {path.name for path in after.iterdir() if path.stat().st_ino in inodes}
    # Rows 30 to 39 are new: the end of the segment that begins at 24, and the one at 32.
    assert shared == {"00000.safetensors", "00001.safetensors", "00002.safetensors"}


def test_where_there_are_no_links_segments_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = Run(tmp_path).on(4)
    holds(tmp_path, 40, run.buffer)
    assert all(path.stat().st_nlink == 1 for path in tmp_path.rglob("*.safetensors"))


@contextmanager
def at_call(number: int, do: Callable[[str, Any], None]) -> Iterator[list[str]]:
    """Call `do` instead of the system call of that number; the list records the calls."""
    made: list[str] = []

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == number:
                do(name, args)
            return original(*args, **options)

        return call

    originals = {name: getattr(os, name) for name in CALLS}
    try:
        for name, original in originals.items():
            setattr(os, name, counted(name, original))
        yield made
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def calls_of_a_checkpoint(template: Run) -> list[str]:
    with at_call(0, lambda *_: None) as made:
        template.on()
    return made


def killed(name: str, args: Any) -> None:
    if name == "write":  # half of it reaches the disk
        descriptor, content = args
        os.pwrite(descriptor, bytes(content[: len(content) // 2]), 0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_at_any_system_call_leaves_the_old_checkpoint_or_the_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = calls_of_a_checkpoint(Run(tmp_path / "counted").on(5))
    assert set(calls) == set(CALLS)
    ends = set()
    for number in range(1, len(calls) + 1):
        folder = tmp_path / f"killed-at-{number}"
        run = Run(folder).on(5)
        if (child := os.fork()) == 0:
            with at_call(number, killed):
                run.on()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"call {number} was not reached"

        last = steps_of(folder)[0]
        ends.add(last)
        for _ in range(last - run.steps):  # the child's steps do not reach the parent
            run.step()
        holds(folder, last, run.buffer)
        # And the run continues from there.
        run.store = Store(folder, keep=2)
        run.store.sweep()
        found = newest(folder)
        assert found is not None
        run.store.resume_from(found)
        run.on()
        holds(folder, last + INTERVAL, run.buffer)
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {str(step) for step in steps_of(folder)}
        shutil.rmtree(folder)
    assert ends == {50, 60}
    assert caplog.records == []


def test_a_disk_that_is_full_at_any_system_call_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    def full(name: str, args: Any) -> None:
        del args
        if name in {"open", "write", "fsync", "mkdir", "rename"}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls = calls_of_a_checkpoint(Run(tmp_path / "counted").on(5))
    refused = 0
    for number in range(1, len(calls) + 1):
        run = Run(tmp_path / f"full-at-{number}").on(5)
        with at_call(number, full):
            try:
                run.on()
            except OSError:
                refused += 1
        holds(run.folder, steps_of(run.folder)[0], as_of(run, steps_of(run.folder)[0]))
        run.on()  # there is space again
        holds(run.folder, 70, run.buffer)
        shutil.rmtree(run.folder)
    assert refused > len(calls) // 3


def test_space_is_looked_at_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path).on()
    monkeypatch.setattr(disk, "free", lambda _: 1000)
    with pytest.raises(OSError, match=r"1 MiB needed, 0 MiB free"):
        run.on()
    holds(tmp_path, 10, as_of(run, 10))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def truncated(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("damage", [truncated, flipped, None], ids=["truncated", "flipped", "missing"])
def test_a_damaged_file_costs_at_most_the_checkpoint_that_holds_it(
    damage: Callable[[bytes], bytes] | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Run(tmp_path / "whole").on(5)
    names = files_of(whole.folder / "checkpoints" / "50")
    assert len([name for name in names if name.startswith("replay/0")]) == 5
    for name in names:
        run = tmp_path / "damaged"
        shutil.copytree(whole.folder, run, copy_function=os.link)  # because the checkpoints share files
        path = run / "checkpoints" / "50" / name
        if damage is None:
            path.unlink()
        else:
            with path.open("r+b") as file:  # in place, so every checkpoint that shares the file is damaged
                content = damage(file.read())
                file.seek(0)
                file.write(content)
                file.truncate()
        caplog.clear()
        # A segment is rebuilt, and parity is not needed; any other damage makes the checkpoint invalid.
        lost = not name.startswith("replay/")
        steps = 40 if lost else 50
        holds(run, steps, as_of(whole, steps))
        said = caplog.messages[0]
        assert name.removeprefix("replay/") in said
        assert ("skipped" in said) == lost
        if name.startswith("replay/0"):
            verify(run / "checkpoints" / "40")  # which shares some of the segments, and repairs its own
        shutil.rmtree(run)
        shutil.rmtree(whole.folder)
        whole = Run(tmp_path / "whole").on(5)


def test_when_the_checkpoint_before_goes_away_the_next_is_whole(tmp_path: Path) -> None:
    run = Run(tmp_path).on(3)
    shutil.rmtree(tmp_path / "checkpoints" / "30")
    run.on(2)
    holds(tmp_path, 50, run.buffer)
    verify(tmp_path / "checkpoints" / "40")


def test_a_folder_that_cannot_be_removed_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    run = Run(tmp_path).on(2)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        run.on()
    assert "cannot be removed: Device or resource busy" in caplog.text
    run.on()
    holds(tmp_path, 40, run.buffer)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"40", "30"}


def test_nothing_is_found_without_a_valid_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest(tmp_path) is None
    Run(tmp_path).on(2)
    for folder in (tmp_path / "checkpoints").iterdir():
        (folder / "manifest.json").write_text("{}")
    assert newest(tmp_path) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_transitions_of_another_buffer_are_refused(tmp_path: Path) -> None:
    Run(tmp_path).on()
    found = newest(tmp_path)
    assert found is not None
    other = ReplayBuffer(BUFFER_ROWS + 1, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), device="cpu")
    with pytest.raises(DamagedError, match="buffer of another size"):
        found.fill(Transitions(other))


def test_a_new_best_replaces_the_previous_one(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=2)
    for steps in (10, 20):
        store.write_best(
            steps,
            lambda folder: (folder / "policy.safetensors").write_text("a policy") and None,
            {"return_mean": 1.0 * steps},
        )
    found = best(tmp_path)
    assert found is not None
    assert (found.steps, found.manifest["return_mean"], found.read("policy.safetensors")) == (20, 20.0, b"a policy")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["best-20"]
    assert steps_of(tmp_path) == []
