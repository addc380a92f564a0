"""A full disk costs a checkpoint, or stops the run where it can be resumed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from deltarl import RunResult, TrainingStopped, disk, resume, train
from deltarl.checkpoints.checkpoint import steps_of
from tests.training.small import quiet, spec_of


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "free", lambda _: 0)
    [result] = train(spec_of(tmp_path), quiet())
    assert result.status == "finished"
    assert "no checkpoint of step 32, 1 MiB needed, 0 MiB free; nothing is stored yet" in caplog.text
    assert steps_of(result.folder) == []


def test_a_full_disk_stops_the_run_where_it_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: RunResult
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("deltarl.training.session.record_evaluation", full)
        with pytest.raises(TrainingStopped, match=r"no space left on the disk: stopped, .* deltarl resume .*seed-0"):
            train(spec_of(tmp_path), quiet())
    [result] = resume(tmp_path / "run" / "seed-0", console=quiet())
    assert (result.resumes, result.continued) == (1, ())
    assert result.final_return_mean == whole.final_return_mean


@pytest.mark.parametrize("free", [0, 2**40])
def test_any_librarys_full_disk_is_a_warning_or_stops_the_run(
    free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "free", lambda _: free)
        patch.setattr("deltarl.training.formats.save_file", full)
        ends = (TrainingStopped, r"stored at step 128") if free else (disk.FullDiskError, r"nothing is stored")
        with pytest.raises(ends[0], match=ends[1]):
            train(spec_of(tmp_path), quiet())
    assert "the best policy, of step 48, could not be stored" in caplog.text
    assert bool(steps_of(tmp_path / "run" / "seed-0")) == bool(free)
    [result] = train(spec_of(tmp_path), quiet(), resume=True)
    assert result.continued == ()
