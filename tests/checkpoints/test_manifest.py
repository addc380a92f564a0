"""A manifest that does not describe its checkpoint is refused, and parity repairs only what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deltarl import disk
from deltarl.checkpoints import store
from deltarl.checkpoints.checkpoint import DamagedError, verify
from deltarl.checkpoints.replay import Parity
from tests.checkpoints.written import Run, as_of, flipped, holds, manifest_of, sign

pytestmark = pytest.mark.usefixtures("small_segments")


def test_a_manifest_says_what_every_file_holds(tmp_path: Path) -> None:
    Run(tmp_path).on(2)
    folder = tmp_path / "checkpoints" / "20"
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert manifest["files"].keys() == files - {"manifest.json"}
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": disk.digest(content)}


@pytest.mark.parametrize("content", ["[]", "7", "null", "{", '{"sha256": 1}', "[" * 100_000])
def test_a_manifest_with_other_content_is_skipped(content: str, tmp_path: Path) -> None:
    run = Run(tmp_path).on(2)
    (tmp_path / "checkpoints" / "20" / "manifest.json").write_text(content)
    holds(tmp_path, 10, as_of(run, 10))


@pytest.mark.parametrize(
    "name",
    [
        *("replay/../../../victim", "../victim", "/tmp/victim", "..", "", "replay", "replay/", "replay/./parity"),
        *("replay/00000.safetensors/../../../../victim", "replay/1.safetensors", "replay/00000.safetensors\n"),
        *("replay/000-1.safetensors", "replay/00007.safetensors", "policy.safetensors", "manifest.json", "x\x00y"),
    ],
)
def test_a_manifest_names_what_a_checkpoint_has_and_nothing_else(name: str, tmp_path: Path) -> None:
    run, victim = tmp_path / "run", tmp_path / "victim"
    Run(run).on()
    victim.write_text("precious")
    folder = run / "checkpoints" / "10"
    manifest = manifest_of(folder)
    # The parity of the existing segments and of a lost one, which is to be rewritten.
    payload = Parity(b"an intruder")
    for segment in (folder / "replay").glob("0*"):
        payload.add(segment.read_bytes())
    (folder / "replay" / "parity").write_bytes(payload.content())
    for entry, content in ((name, b"an intruder"), ("replay/parity", payload.content())):
        manifest["files"][entry] = {"bytes": len(content), "sha256": disk.digest(content)}
    sign(folder, manifest)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DamagedError, match=r"^manifest\.json: .*names files that do not belong in it"):
        verify(folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": []}, "files"),
        ({"files": {}}, "does not name state.json"),
        ({"steps": "10"}, "steps"),
        ({"steps": 11}, "is of step 11"),
        ({"steps": True}, "steps"),
        ({"records": {"metrics.jsonl": -1}}, "records"),
        ({"resumes": 1.5}, "resumes"),
        ({"continued": "no"}, "continued"),
        ({"unsupported": ["x"]}, "unsupported"),
        ({"elapsed_seconds": -1.0}, "elapsed_seconds"),
        ({"replay": {"rows": 0, "arrays": {}}}, "rows"),
        ({"packages": None}, "packages"),
        ({"nested": json.loads("[" * 50 + "]" * 50)}, "nested more than"),
    ],
)
def test_a_manifest_of_other_types_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    Run(tmp_path).on()
    folder = tmp_path / "checkpoints" / "10"
    sign(folder, manifest_of(folder) | change)
    with pytest.raises(DamagedError, match=r"^manifest\.json: ") as caught:
        verify(folder)
    assert message in str(caught.value)


def test_a_segment_is_repaired_only_if_the_result_is_what_was_written(tmp_path: Path) -> None:
    Run(tmp_path).on()
    replay = tmp_path / "checkpoints" / "10" / "replay"
    manifest = manifest_of(replay.parent)
    (replay / "parity").write_bytes(content := b"\0" * (replay / "parity").stat().st_size)
    manifest["files"]["replay/parity"] = {"bytes": len(content), "sha256": disk.digest(content)}
    sign(replay.parent, manifest)
    (replay / "00001.safetensors").unlink()
    with pytest.raises(DamagedError, match="its parity does not match these segments"):
        verify(replay.parent)
    assert not (replay / "00001.safetensors").exists()


def test_two_damaged_segments_cannot_be_repaired(tmp_path: Path) -> None:
    Run(tmp_path).on(5)
    replay = tmp_path / "checkpoints" / "50" / "replay"
    for name in ("00000.safetensors", "00003.safetensors"):
        (replay / name).unlink()
    with pytest.raises(DamagedError, match="00000"):
        verify(tmp_path / "checkpoints" / "50")


def test_a_segment_that_was_damaged_on_disk_does_not_spoil_the_next_parity(tmp_path: Path) -> None:
    run = Run(tmp_path).on(3)
    path = tmp_path / "checkpoints" / "30" / "replay" / "00003.safetensors"  # rows 24 to 31, to be rewritten
    path.write_bytes(flipped(path.read_bytes()))
    run.on()
    (tmp_path / "checkpoints" / "40" / "replay" / "00001.safetensors").unlink()
    holds(tmp_path, 40, run.buffer)


def test_a_checkpoint_of_a_newer_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FORMAT", 99)
    Run(tmp_path).on()
    monkeypatch.undo()
    with pytest.raises(DamagedError, match=r"format 99, this version of deltarl reads 1"):
        verify(tmp_path / "checkpoints" / "10")
