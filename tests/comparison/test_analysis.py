"""What a report claims: estimates, tests and wording."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from deltarl.comparison.analysis import analyse, verdict
from deltarl.comparison.figures import curves
from deltarl.comparison.intervals import Interval
from deltarl.comparison.records import read_study
from deltarl.comparison.report import save_figure
from deltarl.comparison.words import MINUS, headline, number, warnings
from deltarl.errors import ConfigError
from tests.comparison.records import Scores, write_runs
from tests.comparison.toy import APART, analysed, comparison

DASH = "\N{EN DASH}"


def test_a_difference_is_claimed_where_interval_and_test_agree(tmp_path: Path) -> None:
    told = headline(analysed(tmp_path))
    assert any(line.startswith("reacher: delta scores higher than residual, by 1.06 (95% interval") for line in told)
    assert any(line.startswith("pusher: no difference shown between residual and delta; unadjusted") for line in told)


def test_the_same_difference_at_fewer_seeds_is_not_claimed(tmp_path: Path) -> None:
    """Two seeds differ without overlap, but interval and tests show how little evidence that is."""
    scores: Scores = {cell: found[:2] for cell, found in APART.items()} | {("reacher", "residual"): [-5.0, -4.3]}
    analysis = analysed(tmp_path, scores)
    [pair] = [pair for pair in analysis.pairs if (pair.task, pair.metric) == ("reacher", "final")]
    assert pair.difference.estimate > 0
    assert pair.verdict == "no difference shown"


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (0.1, 2.0, 0.01, "higher"),
        (-2.0, -0.1, 0.01, "lower"),
        (-0.1, 2.0, 0.01, "no difference shown"),
        (0.1, 2.0, 0.06, "no difference shown"),
        (0.1, 2.0, None, "no difference shown"),
        (None, None, 0.01, "no difference shown"),
        (math.nan, math.nan, 0.01, "no difference shown"),
    ],
)
def test_words_follow_intervals_and_tests(low: float | None, high: float | None, p: float | None, said: str) -> None:
    estimate = 1.0 if low is None or high is None else (low + high) / 2
    assert verdict(Interval(estimate, low, high), 0.0, p) == said


def test_more_pairs_ask_more_of_each(tmp_path: Path) -> None:
    """Holm's adjustment: a difference shown with one other arm may not be shown with five equal arms as well."""
    scores = {
        **APART,
        ("reacher", "delta"): [-4.4, -4.9, -4.6, -5.0, -4.5],
        **{("reacher", f"more{n}"): APART["reacher", "residual"] for n in range(5)},
    }
    one = "tasks.pusher=null"
    [alone] = [pair for pair in analysed(tmp_path / "a", scores, one).pairs if pair.metric == "final"]
    more = [f"arms.more{n}=residual" for n in range(5)]
    among = [pair for pair in analysed(tmp_path / "b", scores, one, *more).pairs if pair.metric == "final"]
    assert (alone.verdict, among[0].arm, among[0].verdict) == ("higher", "delta", "no difference shown")


def test_one_seed_allows_nothing(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, {cell: found[:1] for cell, found in APART.items()})
    assert all(pair.verdict == "no difference shown" for pair in analysis.pairs)
    assert analysis.summary("reacher", "delta").mean == Interval(-4.0, None, None)


def test_scores_are_normalised_by_the_environments_references(tmp_path: Path) -> None:
    analysis = analysed(tmp_path)
    record = analysis.study.of("reacher", "delta")[0]
    assert record.normalized(-43.1) == 0  # random_score of envs/reacher.yaml
    assert record.normalized(-2.6) == 1  # its reference_score
    [delta] = [each for each in analysis.aggregates if (each.arm, each.metric) == ("delta", "final")]
    pooled = [run.normalized(run.final) for run in analysis.study.records if run.arm == "delta"]
    assert delta.statistics["mean over tasks"].estimate == pytest.approx(np.mean(np.array(pooled, float)))


def test_the_area_is_the_mean_height_of_the_curve(tmp_path: Path) -> None:
    """For returns that grow from a quarter of the score to the full score."""
    assert analysed(tmp_path).study.of("reacher", "delta")[0].area == pytest.approx(-4.0 * 0.625)


def test_without_reference_scores_nothing_is_aggregated_and_the_report_says_so(tmp_path: Path) -> None:
    analysis = analysed(tmp_path, APART, "tasks.pusher.env.reference_score=null")
    assert analysis.aggregates == ()
    assert any("no scores to normalise with for pusher" in warning for warning in warnings(analysis))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    scores = {**APART, ("pusher", "delta"): [], ("reacher", "delta"): APART["reacher", "delta"][:4]}
    analysis = analysed(tmp_path, scores)
    told = list(warnings(analysis))
    assert analysis.study.tasks == ["reacher"]
    assert told[0].startswith("6 of 20 runs have not finished: reacher/delta/seed-4, pusher/delta/seed-0")
    assert told[1] == "Left out, because an arm has no finished run there: pusher."
    [pair] = [pair for pair in analysis.pairs if pair.metric == "final"]
    assert (pair.seeds, pair.intervals["paired_difference"].estimate) == (
        4,
        pytest.approx(np.mean([1.0, 1.1, 1.0, 0.9])),
    )


def test_runs_of_different_versions_threads_or_machines_are_told_of(tmp_path: Path) -> None:
    folder = write_runs(comparison(tmp_path), APART)
    path = folder / "reacher" / "delta" / "seed-0" / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["packages"]["mujoco"], provenance["threads"], provenance["processor"] = "3.2.0", 7, "another"
    path.write_text(json.dumps(provenance))
    told = " ".join(warnings(analyse(read_study(folder))))
    assert re.search(r"Runs differ in PyTorch threads: [17], [17]\.", told)
    assert "Runs differ in processor" in told
    assert "Runs differ in mujoco" in told
    assert "Runs differ in numpy" not in told


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234"),
        (-1234.5, f"{MINUS}1,234"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.00123, "0.00123"),
        (0.0, "0.00"),
        (None, DASH),
        (math.nan, DASH),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_runs_that_are_not_alike_are_not_compared(tmp_path: Path) -> None:
    folder = write_runs(comparison(tmp_path), APART)
    path = folder / "reacher" / "delta" / "seed-3" / "config.yaml"
    text = path.read_text()
    for old, new, key in (
        ("total_timesteps: 50000", "total_timesteps: 40000", "total_timesteps is 40000, but 50000 in"),
        ("gamma: 0.99", "gamma: 0.5", r"agent\.gamma is 0\.5, but 0\.99 in"),
        ("5000\n  episodes: 10", "5000\n  episodes: 2", r"eval\.episodes is 2, but 10 in"),
        ("mean: -2.6", "mean: -1.0", r"env\.reference_score\.mean is -1\.0, but -2\.6 in"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=key):
            read_study(folder)
    path.write_text(text.replace("keep: 2", "keep: 9").replace("device: auto", "device: cpu"))
    assert len(read_study(folder).records) == 20


def test_finished_runs_that_are_not_listed_are_told_of(tmp_path: Path) -> None:
    """They remain when a comparison is repeated with fewer seeds."""
    write_runs(comparison(tmp_path), APART)
    fewer = comparison(tmp_path, "seeds=[1,2]")
    (fewer.folder / "comparison.yaml").write_text(fewer.text)
    told = list(warnings(analyse(read_study(fewer.folder))))
    assert told[0].startswith(
        "12 finished runs in the folder do not belong to this comparison: pusher/delta/seed-0, pusher/"
    )


def test_aggregates_are_of_the_seeds_that_all_have(tmp_path: Path) -> None:
    """Otherwise an arm would benefit from missing runs on its weak tasks."""
    scores = {**APART, ("pusher", "delta"): APART["pusher", "delta"][:3]}
    analysis = analysed(tmp_path, scores)
    assert analysis.common_seeds == (0, 1, 2)
    [delta] = [each for each in analysis.aggregates if (each.arm, each.metric) == ("delta", "final")]
    pooled = [run.normalized(run.final) for run in analysis.study.records if run.arm == "delta" and run.seed < 3]
    assert delta.statistics["mean over tasks"].estimate == pytest.approx(np.mean(np.array(pooled, float)))
    assert "Aggregates over tasks use the seeds that all arms have: 0, 1, 2." in list(warnings(analysis))
    [pair] = [each for each in analysis.pairs if (each.task, each.metric) == ("reacher", "final")]
    assert pair.seeds == 5


def test_without_metrics_only_the_time_is_unknown(tmp_path: Path) -> None:
    folder = write_runs(comparison(tmp_path), APART)
    (folder / "reacher" / "delta" / "seed-3" / "metrics.jsonl").unlink()
    analysis = analyse(read_study(folder))
    assert any("Time and FLOPs are unknown for 1 runs" in told for told in warnings(analysis))
    assert analysis.summary("reacher", "delta").mean.estimate == pytest.approx(-4.04)


def test_seeds_evaluated_at_other_steps_still_make_a_curve(tmp_path: Path) -> None:
    folder = write_runs(comparison(tmp_path), APART)
    path = folder / "reacher" / "delta" / "seed-3" / "evaluations.csv"
    path.write_text(re.sub(r"^(12500|25000|37500),", lambda step: f"{int(step[1]) + 7},", path.read_text(), flags=re.M))
    figure = curves(read_study(folder), "reacher", "steps")
    assert figure is not None
    assert len(figure.axes[0].lines) == 2
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [4, 6]  # type: ignore[arg-type]


def test_names_with_dots_have_figures_of_their_own(tmp_path: Path) -> None:
    for name in ("curves-steps-v0.5", "curves-steps-v0.7"):
        save_figure(Figure(), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"curves-steps-v0.{digit}.{form}" for digit in "57" for form in ("png", "svg")
    ]
