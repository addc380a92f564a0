"""`gates` as a user types it."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from deltarl import RunResult, load_config, train
from deltarl.cli.gates import gates
from tests.quick import QUICK, Deltarl


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("gates")
    small = ("torso.width=8", "gates.every=16", "gates.rows=8")
    spec = load_config("quickstart", *QUICK, *small, f"out={out}", "name=gates", "device=cpu")
    return train(spec, console=Console(file=io.StringIO()))[0]


def test_gates_says_and_draws_what_was_measured(measured: RunResult, deltarl: Deltarl, tmp_path: Path) -> None:
    status, out, _ = deltarl("gates", measured.folder, "--out", tmp_path / "figures")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("at step 64; first: at step 32")
    assert lines[1].split()[:4] == ["network", "block", "first", "beta"]
    assert max(map(len, lines[:6])) <= 80
    assert [line.split()[:2] for line in lines[2:6]] == [[net, b] for net in ("policy", "value") for b in ("0", "1")]
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    names = ("beta", "blocks", "regimes", "eigenvalues")
    assert drawn == {f"gates_{name}.{kind}" for name in names for kind in ("png", "svg")}
    with Image.open(tmp_path / "figures" / "gates_beta.png") as image:
        assert image.size[0] > 800
    for path in (tmp_path / "figures").glob("*.svg"):
        assert "<svg" in path.read_text()


def test_a_closed_pipe_is_not_reported_as_a_damaged_file(
    measured: RunResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as in `deltarl gates RUN | head`
    with suppress(BrokenPipeError), os.fdopen(writer, "w", buffering=1) as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(BrokenPipeError):
            gates(measured.folder, out=tmp_path)


def test_gates_needs_a_run_with_gates(finished: RunResult, measured: RunResult, deltarl: Deltarl) -> None:
    for run, message in (
        (finished.folder, "no gates were measured in this run; gates.npz is missing"),
        ("nowhere", "nowhere: no such folder"),
    ):
        status, out, error = deltarl("gates", run)
        assert (status, out) == (2, "")
        assert message in error
    Path("damaged").mkdir()
    Path("damaged", "gates.npz").write_bytes((measured.folder / "gates.npz").read_bytes()[:100])
    status, _, error = deltarl("gates", "damaged")
    assert (status, "gates.npz: missing or damaged" in error) == (2, True)


def test_gates_scores_a_changed_policy_beside_the_untouched_one(measured: RunResult, deltarl: Deltarl) -> None:
    settings = ("--set", "beta=mean", "--set", "erase=off", "--episodes", 3)
    status, out, error = deltarl("gates", measured.folder, *settings)
    assert (status, error) == (0, "")
    head, untouched, changed, difference = out.splitlines()
    assert head == f"PPO on Hopper-v5, {measured.folder}"
    assert untouched.split()[0] == "untouched"
    assert changed.startswith("beta=mean erase=off  return ")
    assert difference.split()[:2] == ["difference", "return"]
    assert difference.endswith("95% interval")
    _, evaluated, _ = deltarl("evaluate", measured.folder, "--episodes", 3)
    assert untouched.split()[1:] == evaluated.splitlines()[-1].split()
    mean = [float(line.split("return ")[1].split()[0].replace(",", "")) for line in (untouched, changed, difference)]
    assert mean[2] == pytest.approx(mean[1] - mean[0], abs=0.11)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("--set", "bta=0"), "--set: unknown name 'bta'; did you mean 'beta'?"),
        (("--set", "erase"), "--set: 'erase' is not of the form name=value, such as erase=off"),
        (("--set", "beta=0", "--set", "beta=1"), "--set: beta is given twice"),
        (("--set", "value=maen"), "--set: value: expected mean, got 'maen'; did you mean 'mean'?"),
        (("--set", "beta=0", "--block", 2), "no block 2; there are 0, 1"),
        (("--set", "beta=0", "--episode"), "--set draws nothing; omit --episode"),
        (("--block", 1), "--block: needs --set, such as --set erase=off"),
    ],
)
def test_gates_names_what_cannot_be_set(
    settings: tuple[str, ...], message: str, measured: RunResult, deltarl: Deltarl
) -> None:
    status, out, error = deltarl("gates", measured.folder, *settings)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert message in error
