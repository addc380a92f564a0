"""Output paths: unusable ones are reported before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltarl.errors import ConfigError
from deltarl.places import check_file, check_folder, expanded


def test_the_home_of_a_user_is_spelled_out() -> None:
    assert expanded("~/runs", "out") == Path.home() / "runs"
    assert expanded("runs", "out") == Path("runs")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/runs", "runs\0x"])
def test_a_path_that_there_cannot_be_names_the_key(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^out: .*(~nobody-of-this-name|null byte)"):
        expanded(path, "out")


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b", "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--out: .* cannot be used: .*file is not a folder$"):
        check_folder(tmp_path / "file" / "below", "--out")
    with pytest.raises(ConfigError, match="cannot be used: File name too long"):
        check_folder(tmp_path / ("x" * 300), "--out")
    with pytest.raises(ConfigError, match=r"--video: .* is a folder"):
        check_file(tmp_path, "--video")
    with pytest.raises(ConfigError, match="cannot be used: File name too long"):
        check_file(tmp_path / ("x" * 300), "--video")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigError, match="is not writable"):
        check_folder(tmp_path / "below", "--out")
