"""Contrasts of a comparison: estimates, tests, wording and refused input."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deltarl.comparison import Comparison, load_comparison, write_report
from deltarl.comparison.analysis import Analysis, analyse
from deltarl.comparison.contrasts import contrasts
from deltarl.comparison.looks import LOOKS, record_look, since_the_first
from deltarl.comparison.records import read_study
from deltarl.comparison.sensitivity import pooled_deviations, sensitivities
from deltarl.comparison.words import headline, warnings
from deltarl.errors import ConfigError
from tests.comparison.records import Scores, write_runs

ARMS = ("residual", "one", "delta", "one_write", "write")
TASKS = ("reacher", "pusher")
# By arm, in standard deviations; erasing is worth 2 with one head and 4 with several.
LEVELS = dict(zip(ARMS, (0.0, 2.0, 5.0, 0.0, 1.0), strict=True))
SIGMA = {"reacher": 0.5, "pusher": 4.0}
CONTRASTS = (
    "contrasts.erasing={delta: 0.5, one: 0.5, write: -0.5, one_write: -0.5}",
    "contrasts.interaction={delta: 1, write: -1, one: -1, one_write: 1}",
    "contrasts.writing={write: 1, residual: -1}",
    "primary=[erasing]",
)
PLANNED = (*CONTRASTS, "sigma={reacher: 0.5, pusher: 4.0}", "equivalence=2.0")


def scores(seeds: int = 8, levels: dict[str, float] = LEVELS) -> Scores:
    rng = np.random.default_rng(0)
    return {
        (task, arm): list(-20 + SIGMA[task] * (levels[arm] + rng.normal(size=seeds))) for task in TASKS for arm in ARMS
    }


def comparison(out: Path, *overrides: str, seeds: int = 8) -> Comparison:
    return load_comparison(
        "quick",
        "tasks.pusher.env=pusher",
        f"seeds={list(range(seeds))}",
        "name=toy",
        f"out={out}",
        "match=width",
        "torso.width=16",
        "arms.one=delta",
        "arms.one_write=delta",
        "arms.write=delta",
        *overrides,
    )


def analysed(out: Path, *overrides: str, found: Scores | None = None, seeds: int = 8) -> Analysis:
    return analyse(read_study(write_runs(comparison(out, *overrides, seeds=seeds), found or scores(), gates=False)))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analysed(tmp_path_factory.mktemp("planned"), "metric=final", *PLANNED)


def test_contrasts_over_tasks_are_in_planned_standard_deviations(planned: Analysis) -> None:
    found = {each.name: each for each in planned.contrasts if each.metric == "final"}
    assert found["erasing"].interval.estimate == pytest.approx(3.0, abs=0.5)
    assert found["interaction"].interval.estimate == pytest.approx(2.0, abs=1.0)
    assert found["erasing"].by_task["pusher"].estimate == pytest.approx(3.0 * SIGMA["pusher"], rel=0.3)
    assert (found["erasing"].family, found["erasing"].verdict) == ("primary", "higher")
    assert found["writing"].family == "secondary"
    assert found["erasing"].detectable is not None
    assert found["erasing"].detectable < found["interaction"].detectable  # type: ignore[operator]


def test_secondary_contrasts_are_adjusted_together(planned: Analysis) -> None:
    found = {each.name: each for each in planned.contrasts if each.metric == "final"}
    assert found["erasing"].p == found["erasing"].found.p()
    own = [found[name].found.p() for name in ("interaction", "writing")]
    assert min(found[name].p for name in ("interaction", "writing")) == pytest.approx(2 * min(own))  # type: ignore[operator, type-var]


def test_what_is_no_contrast_is_described_and_not_tested(planned: Analysis) -> None:
    assert {pair.verdict for pair in planned.pairs} == {"not tested"}
    assert {pair.p for pair in planned.pairs} == {None}
    assert {each.family for each in planned.contrasts if each.metric == "area"} == {None}
    assert [len(each.adjusted) for each in planned.families] == [1, 2]


def test_words_name_the_tasks_the_family_and_the_bound(planned: Analysis) -> None:
    erasing, _, writing = headline(planned)
    assert erasing.startswith("erasing: higher on these 2 tasks, by 2.68 standard deviations (95% interval")
    assert "primary; 8 seeds)" in erasing
    assert "no larger than 2.00 standard deviations (two one-sided tests: p" in writing


def test_no_difference_and_no_equivalence_are_both_reported(tmp_path: Path) -> None:
    none = scores(4, dict.fromkeys(ARMS, 0.0))
    planned = ("sigma={reacher: 0.5, pusher: 4.0}", "equivalence=0.1")
    analysis = analysed(tmp_path, *CONTRASTS, *planned, found=none, seeds=4)
    [told] = [line for line in headline(analysis) if line.startswith("erasing")]
    assert "erasing: no difference shown on these 2 tasks (" in told
    assert "That it is no larger than 0.1 standard deviations is not shown either." in told
    assert "As planned, the test shows a true" in told


def test_without_planned_deviations_tasks_are_put_together_by_normalised_scores(tmp_path: Path) -> None:
    study = read_study(write_runs(comparison(tmp_path, *CONTRASTS), scores(), gates=False))
    found = {each.name: each for each in contrasts(study, ["final"])[0]}
    assert (found["erasing"].unit, found["erasing"].detectable) == ("of the normalised score", None)


def test_tasks_that_have_nothing_in_common_are_not_put_together(tmp_path: Path) -> None:
    changed = (*CONTRASTS, "tasks.pusher.env.reference_score=null")
    analysis = analysed(tmp_path, *changed, found=scores(2), seeds=2)
    assert analysis.contrasts == ()
    assert any("The contrasts were not tested" in told for told in warnings(analysis))


def test_six_tasks_say_something_of_others(tmp_path: Path) -> None:
    more = [f"tasks.{name}.env=reacher" for name in ("a", "b", "c", "d")]
    rng = np.random.default_rng(1)
    tasks = ("reacher", "pusher", "a", "b", "c", "d")
    found = {(task, arm): list(LEVELS[arm] + rng.normal(size=3)) for task in tasks for arm in ARMS}
    two = ("arms.one=null", "arms.one_write=null", "contrasts.x={delta: 1, residual: -1}", "primary=[x]")
    ones = f"sigma={{{', '.join(f'{task}: 1.0' for task in tasks)}}}"
    analysis = analysed(tmp_path, *more, *two, ones, found=found, seeds=3)
    [contrast] = [each for each in analysis.contrasts if each.metric == "final"]
    assert contrast.between is not None
    assert contrast.between.estimate == pytest.approx(contrast.interval.estimate)
    assert "on these 6 tasks" in headline(analysis)[0]
    assert "For other tasks like these" in headline(analysis)[0]


@pytest.mark.slow
def test_the_report_has_the_contrasts(planned: Analysis) -> None:
    assert not (planned.study.folder / LOOKS).exists()
    page = write_report(planned.study.folder)
    assert (planned.study.folder / LOOKS).exists()
    assert '<h2 id="contrasts">' in page.read_text()
    rows = list(csv.DictReader((page.parent / "contrasts.csv").read_text().splitlines()))
    assert [(row["contrast"], row["task"]) for row in rows[:3]] == [
        ("erasing", "all"),
        ("erasing", "reacher"),
        ("erasing", "pusher"),
    ]
    assert (rows[0]["family"], rows[0]["verdict"], rows[0]["bound"]) == ("primary", "higher", "2.0")
    assert {row["interval"] for row in csv.DictReader((page.parent / "coverage.csv").read_text().splitlines())} >= {
        "contrast"
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["contrasts.x={dleta: 1, residual: -1}", "primary=[x]"],
            r"contrasts\.x: no arm 'dleta'; .* 'delta'",
        ),
        (
            ["contrasts.x={delta: 1, residual: -0.5}", "primary=[x]"],
            r"contrasts\.x: expected weights .* got a sum of 0\.5",
        ),
        (["contrasts.x={delta: 0}", "primary=[x]"], r"contrasts\.x: expected weights .* got a sum of 0"),
        (["contrasts.x={delta: 1, residual: -1}"], "primary: expected the names of the contrasts"),
        (["contrasts.x={delta: 1, residual: -1}", "primary=[y]"], "primary: no contrast 'y'; known are x"),
        (["primary=[y]"], "primary: no contrast 'y'; there are no contrasts"),
        (["sigma={reecher: 1.0}"], "sigma: no task 'reecher'; did you mean 'reacher'"),
        (["sigma={reacher: 1.0}"], "sigma: missing for pusher; give a value for every task"),
        (["sigma={reacher: 0, pusher: 1}"], r"sigma\.reacher: input should be greater than 0"),
        (
            ["equivalence=0.5"],
            "equivalence: needs contrasts: it bounds contrasts, in planned standard deviations",
        ),
        ([*CONTRASTS, "equivalence=0.5"], "equivalence: needs sigma: it bounds contrasts"),
        (["metric=median"], "metric: 'median' is not one of final, area"),
        ([*CONTRASTS, "arms.one=null"], r"contrasts\.erasing: no arm 'one'"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_line(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        comparison(tmp_path, *overrides)
    assert "\n" not in str(caught.value)


# Looks at the results


def test_seeds_that_were_added_after_a_look_are_told_of(tmp_path: Path) -> None:
    first = comparison(tmp_path, *CONTRASTS, seeds=4)
    for _ in range(2):
        record_look(read_study(write_runs(first, scores(4), gates=False)))
    assert list(since_the_first(read_study(first.folder))) == []
    more = comparison(tmp_path, *CONTRASTS, seeds=6)
    record_look(read_study(write_runs(more, scores(6), gates=False)))
    [told] = since_the_first(read_study(more.folder))
    assert "Seeds 4, 5 were added after a look at the results of 0 to 3" in told
    assert [look["seeds"] for look in json.loads((more.folder / LOOKS).read_text())["looks"]] == [
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4, 5],
    ]


def test_a_plan_that_changes_after_a_look_is_reported(tmp_path: Path) -> None:
    first = comparison(tmp_path, *CONTRASTS, seeds=2)
    record_look(read_study(write_runs(first, scores(2), gates=False)))
    other = comparison(tmp_path, *CONTRASTS, "primary=[writing]", seeds=2)
    write_runs(other, scores(2), gates=False)
    [told] = since_the_first(read_study(other.folder))
    assert (
        "The key 'primary' of the comparison was changed after a look at the results; it was ['erasing'] before."
        in told
    )


def test_a_reference_of_the_report_alone_is_reported(planned: Analysis) -> None:
    told = " ".join(warnings(replace(planned, reference="delta")))
    assert "The reference, delta, was chosen for this report; that of the comparison is residual." in told


# Settings


def test_each_arm_is_run_with_each_variant(tmp_path: Path) -> None:
    found = load_comparison(
        "quick",
        f"out={tmp_path}",
        "seeds=[7]",
        "name=tuning",
        "reference=residual+low",
        "variants.low={agent: {learning_rate: 1.0e-4}}",
        "variants.high={agent: {learning_rate: 1.0e-3}}",
    )
    assert [cell.arm for cell in found.cells] == ["residual+low", "residual+high", "delta+low", "delta+high"]
    assert [cell.spec.agent.learning_rate for cell in found.cells] == [1e-4, 1e-3, 1e-4, 1e-3]
    study = read_study(
        write_runs(
            found,
            {
                ("reacher", "residual+low"): [-9.0],
                ("reacher", "residual+high"): [-5.0],
                ("reacher", "delta+low"): [-4.0],
                ("reacher", "delta+high"): [-6.0],
            },
            gates=False,
        )
    )
    assert [(each.arm, each.best) for each in sensitivities(study)] == [("residual", "high"), ("delta", "low")]
    assert sensitivities(study)[0].by_task["reacher"] == {"low": -9.0, "high": -5.0}


def test_a_variant_changes_what_an_arm_may(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"variants\.x\.env: an arm may change only torso"):
        load_comparison("quick", f"out={tmp_path}", "reference=residual+x", "variants.x.env=hopper")


def test_deviations_to_plan_with_are_pooled_within_arms(planned: Analysis) -> None:
    found = pooled_deviations(planned.study)
    assert found["pusher"][0] == pytest.approx(SIGMA["pusher"], rel=0.3)
    assert found["pusher"][1] == len(ARMS) * 7
