"""Errors that count as a full disk, whichever library raises them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from deltarl.disk import is_full, replace
from deltarl.errors import ConfigError


def of_the_system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def because_of(cause: Exception) -> Exception:
    try:
        try:
            raise cause
        except Exception:
            raise ConfigError("cannot be used") from None
    except ConfigError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        of_the_system(errno.ENOSPC),
        of_the_system(errno.EDQUOT),
        of_the_system(errno.EFBIG),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        because_of(of_the_system(errno.ENOSPC)),
    ],
)
def test_a_full_disk_is_known_in_any_librarys_words(error: Exception) -> None:
    assert is_full(error)


@pytest.mark.parametrize(
    "error",
    [
        of_the_system(errno.EACCES),
        SafetensorError("Error while deserializing header: header too large"),
        RuntimeError("size mismatch for weight"),
        because_of(of_the_system(errno.EROFS)),
        ValueError("unexpected pos 7 of the arm"),
        RuntimeError("unexpected pos 7 of the arm"),
        RuntimeError("the conveyor: No space left on device"),
    ],
)
def test_other_faults_are_none(error: Exception) -> None:
    assert not is_full(error)


def test_nothing_is_written_into_a_file_that_has_another_name_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "record.tmp").hardlink_to(tmp_path / "precious")
    replace(tmp_path / "record", b"new")
    assert (tmp_path / "record").read_bytes() == b"new"
    assert (tmp_path / "precious").read_bytes() == b"precious"
