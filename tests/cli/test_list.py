"""`list` as a user types it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from deltarl import RunResult
from deltarl.cli.list import Kind
from deltarl.cli.list_runs import Order, Row, ordered
from deltarl.library import KINDS, names
from deltarl.torsos import FAMILIES
from tests.quick import Deltarl


def test_list_alone_says_what_can_be_listed(deltarl: Deltarl) -> None:
    status, out, error = deltarl("list")
    assert (status, error) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(Kind)
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize("folder", KINDS)
def test_list_names_all_that_is_shipped(folder: str, deltarl: Deltarl) -> None:
    _, out, _ = deltarl("list", f"{KINDS[folder]}s")
    assert [line.split()[0] for line in out.splitlines()[1:]] == names(folder)


def test_list_names_all_torsos_with_their_formulas(deltarl: Deltarl) -> None:
    _, out, _ = deltarl("list", "torsos")
    said = " ".join(out.split())
    for family in FAMILIES:
        assert all(name in said for name in family.formulas())
    assert "delta, update: residual_erase" in said
    assert "X + beta k (v^T - k^T X)" in out


def test_list_finds_runs_finished_or_not(finished: RunResult, deltarl: Deltarl) -> None:
    shutil.copytree(finished.folder, "runs/done/seed-0")
    Path("runs/begun/seed-4").mkdir(parents=True)
    shutil.copy(finished.folder / "config.yaml", "runs/begun/seed-4")
    _, out, _ = deltarl("list", "runs")
    rows = {line.split()[-1]: line for line in out.splitlines()[1:]}
    assert rows["runs/begun/seed-4"].startswith("unfinished ")
    assert re.match(r"[\d.,]+ \+- [\d.,]+ +Hopper-v5 +ppo +64 ", rows["runs/done/seed-0"])


def test_a_folder_without_runs_is_an_empty_table(deltarl: Deltarl) -> None:
    Path("runs").mkdir()
    assert deltarl("list", "runs")[1].split() == ["return", "task", "agent", "steps", "run"]


def test_runs_are_filtered_and_given_as_json(finished: RunResult, deltarl: Deltarl) -> None:
    for name in ("a", "b"):
        shutil.copytree(finished.folder, f"runs/{name}/seed-0")
    Path("runs/c/seed-0").mkdir(parents=True)
    Path("runs/c/seed-0/config.yaml").write_text("agent: [")
    _, out, error = deltarl("list", "runs", "--sort", "return")
    assert [line.split()[-1] for line in out.splitlines()[1:]] == [f"runs/{name}/seed-0" for name in "abc"]
    assert out.splitlines()[-1].startswith("damaged ")
    assert "runs/c/seed-0" in error
    _, out, error = deltarl("list", "runs", "--filter", "RUNS/B", "--filter", "hopper", "--json")
    [row] = json.loads(out)
    assert (row["run"], row["status"], error) == ("runs/b/seed-0", "finished", "")
    assert row["return_mean"] == finished.final_return_mean


@pytest.mark.parametrize(
    ("order", "runs"), [(Order.run, "abc"), (Order.score, "bac"), (Order.steps, "cba"), (Order.task, "bac")]
)
def test_runs_that_have_a_score_come_before_those_that_have_none(order: Order, runs: str) -> None:
    rows = [
        Row("a", "finished", task="Hopper-v5", steps=1, return_mean=5.0),
        Row("c", "unfinished", steps=3),
        Row("b", "finished", task="Ant-v5", steps=2, return_mean=1234.5),
    ]
    assert "".join(row.run for row in ordered(iter(rows), order)) == runs


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_of_any_width_has_each_run_whole(
    width: int, finished: RunResult, deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    shutil.copytree(finished.folder, "runs/quickstart+walker2d-0a1b2c/seed-0")
    _, out, _ = deltarl("list", "runs")
    head, row = re.sub(r"\x1b\[[\d;]*m", "", out).rstrip().splitlines()
    assert row.rstrip().endswith(" runs/quickstart+walker2d-0a1b2c/seed-0")
    assert max(len(head.rstrip()), len(row.rstrip())) <= 80
