"""Temporary folders are removed, those of killed processes too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from deltarl.scratch import PREFIX, scratch


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def fails_inside(place: Path) -> None:
    with scratch() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent == place
        (folder / "file").write_text("content")
        raise KeyError


def test_it_is_private_and_removed(place: Path) -> None:
    with pytest.raises(KeyError):
        fails_inside(place)
    assert list(place.iterdir()) == []


def aged(folder: Path) -> None:
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(place: Path) -> None:
    code = (
        "import time\nfrom deltarl.scratch import scratch\n"
        "with scratch() as folder:\n    (folder / 'file').touch()\n    print(folder, flush=True)\n    time.sleep(60)"
    )
    env = {**os.environ, "TMPDIR": str(place)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        aged(folder)
        with scratch():
            assert folder.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder.is_dir()
    aged(folder)
    with scratch():
        assert not folder.exists()


def test_nothing_else_is_removed(place: Path) -> None:
    (place / "precious").mkdir()
    (place / f"{PREFIX}link").symlink_to(place / "precious")
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}new").mkdir()
    for name in ("precious", f"{PREFIX}file"):
        aged(place / name)
    with scratch():
        pass
    assert {path.name for path in place.iterdir()} == {
        "precious",
        *(f"{PREFIX}{name}" for name in ("link", "file", "new")),
    }
