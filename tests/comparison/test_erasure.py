"""The contribution of erasing to final policies: measured once, and reported with its interval."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deltarl.comparison import Comparison, erasure, load_comparison, tables
from deltarl.comparison.erasure import ERASURE, measure_erasure, unmeasured, worths
from deltarl.comparison.records import Study, read_study
from deltarl.comparison.report import sources_of
from deltarl.comparison.statistics import mean
from deltarl.errors import ConfigError
from deltarl.training import TrainingStopped, evaluate, formats, load_run
from deltarl.training import folder as files
from deltarl.training.build import built
from deltarl.training.signals import StopRequest
from tests.comparison.records import write_runs

SCORES = {
    ("reacher", "residual"): [-5.0, -5.7],
    ("reacher", "delta"): [-4.0, -4.5],
    ("reacher", "writes"): [-4.2, -5.1],
}


def comparison(out: Path) -> Comparison:
    arm = "arms.writes={torso: {kind: delta, update: write_only}}"
    return load_comparison("quick", arm, "match=width", "seeds=[0,1]", "name=toy", f"out={out}")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write runs; the first of each arm has weights, with gates that affect the actions as a trained policy's may."""
    toy = comparison(tmp_path_factory.mktemp("runs"))
    folder = write_runs(toy, SCORES)
    for cell in toy.cells:
        if cell.seed == 0:
            with built(cell.spec, cell.seed) as (model, normalizer):
                formats.save_policy(model.policy, cell.folder / files.POLICY)
                if normalizer is not None:
                    formats.save_normalizer(normalizer, cell.folder / files.NORMALIZER)
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Study:
    return read_study(shutil.copytree(written, tmp_path / "toy"))


def said(study: Study) -> str:
    told = io.StringIO()
    measure_erasure(study.records, Console(file=told, width=200))
    return told.getvalue()


def test_policies_that_erase_are_scored_once_without_erasure(study: Study) -> None:
    assert [(run.arm, run.seed) for run in unmeasured(study.records)] == [("delta", 0)]
    unscored = sources_of(study.folder)
    assert said(study) == "evaluating 1 policies without erasing\n"
    [path] = study.folder.rglob(ERASURE)
    assert path.parent == study.folder / "reacher" / "delta" / "seed-0"
    returns = json.loads(path.read_text())["returns_without_erasure"]
    untouched = evaluate(load_run(path.parent), episodes=2).returns
    assert len(returns) == 2
    assert returns != list(untouched)
    assert sources_of(study.folder) != unscored  # an earlier page is out of date
    before = path.stat().st_mtime_ns
    assert said(study) == ""
    assert path.stat().st_mtime_ns == before
    [worth] = worths(study)
    assert (worth.task, worth.arm, worth.seeds, worth.of) == ("reacher", "delta", 1, 2)
    assert worth.difference is not None
    assert worth.difference.estimate == pytest.approx(np.mean(returns) + 4.0)
    assert worth.difference.low is None


def test_a_row_has_the_mean_over_seeds_with_its_interval(study: Study) -> None:
    assert [worth.difference for worth in worths(study)] == [None]
    for seed, without in enumerate([[-6.0, -5.0], [-5.5, -5.5]]):
        path = study.folder / "reacher" / "delta" / f"seed-{seed}" / ERASURE
        files.write_json(path, {"returns_without_erasure": without})
    expected = mean(np.array([-5.5 + 4.0, -5.5 + 4.5]))
    [row] = list(tables.erasure(study))
    assert (row["task"], row["arm"], row["seeds"]) == ("reacher", "delta", 2)
    found = [row[f"return_without_erasure_less_with{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([expected.estimate, expected.low, expected.high])
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"erasure\.json.*returns_without_erasure"):
        worths(study)


def test_without_weights_nothing_is_scored(study: Study) -> None:
    (study.folder / "reacher" / "delta" / "seed-0" / files.POLICY).unlink()
    assert said(study) == ""
    assert not list(study.folder.rglob(ERASURE))


def test_a_run_that_cannot_be_read_back_is_reported_and_a_stop_is_honoured(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = study.folder / "reacher" / "delta" / "seed-0" / files.POLICY
    content = weights.read_bytes()
    weights.write_bytes(b"damaged")
    assert "note: not evaluated without erasing:" in said(study)
    weights.write_bytes(content)

    @contextmanager
    def stopped() -> Iterator[StopRequest]:
        request = StopRequest()
        request.make("SIGTERM")
        yield request

    monkeypatch.setattr(erasure, "stop_on_signals", stopped)
    with pytest.raises(TrainingStopped, match="SIGTERM: stopped while evaluating policies"):
        said(study)
    assert not list(study.folder.rglob(ERASURE))
