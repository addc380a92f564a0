"""Axes of a comparison: the runs that they make, figures, and refused input."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deltarl.comparison import Comparison, load_comparison, write_report
from deltarl.comparison.against import scores_against
from deltarl.comparison.analysis import analyse
from deltarl.comparison.axes import points
from deltarl.comparison.records import read_study
from deltarl.errors import ConfigError
from tests.comparison.records import write_runs

DEPTHS = "axes.torso.depth=[1, 4]"


def loaded(out: Path, *overrides: str) -> Comparison:
    return load_comparison("quick", f"out={out}", "seeds=[7, 8]", "name=toy", "torso.width=16", *overrides)


def test_every_task_is_run_with_each_value(tmp_path: Path) -> None:
    cells = loaded(tmp_path, DEPTHS, "seeds=[7]").cells
    assert [cell.label for cell in cells] == [
        f"reacher+depth={depth}/{arm}/seed-7" for depth in (1, 4) for arm in ("residual", "delta")
    ]
    assert [cell.spec.actor_torso.depth for cell in cells] == [1, 1, 4, 4]
    assert [cell.spec.actor_torso.kind for cell in cells] == ["residual", "delta"] * 2


def test_arms_are_matched_at_each_point(tmp_path: Path) -> None:
    sizes = loaded(tmp_path, DEPTHS).sizes
    for arms in sizes.values():
        assert arms["delta"].parameters == pytest.approx(arms["residual"].parameters, rel=0.02)
    assert sizes["reacher+depth=4"]["delta"].parameters > 1.5 * sizes["reacher+depth=1"]["delta"].parameters


def test_an_option_of_the_agent_can_be_an_axis(tmp_path: Path) -> None:
    cells = loaded(tmp_path, "axes.agent.learning_rate=[1.0e-3, 1.0e-4]", "arms.mlp=mlp").cells
    assert {(cell.task, cell.spec.agent.learning_rate) for cell in cells} == {
        ("reacher+learning_rate=0.001", 1e-3),
        ("reacher+learning_rate=0.0001", 1e-4),
    }


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        ({}, []),
        ({"torso.depth": (2, 8)}, ["depth=2", "depth=8"]),
        ({"torso.depth": (2, 8), "env.n_envs": (1, 4)}, ["depth=2+n_envs=1", "depth=2+n_envs=4", "depth=8+n_envs=1"]),
        ({"actor_torso.depth": (2,), "critic_torso.depth": (4,)}, ["actor_torso.depth=2+critic_torso.depth=4"]),
        ({"torso.residual_scale": (None, 0.1), "torso.sphere": (True,)}, ["residual_scale=null+sphere=true"]),
    ],
)
def test_points_are_named_by_the_last_part_of_a_path_where_that_is_enough(
    axes: dict[str, tuple[int | float | bool | None, ...]], names: list[str]
) -> None:
    assert list(points(axes))[:3][: len(names)] == names


def test_what_was_resolved_gives_the_same_comparison(tmp_path: Path) -> None:
    first = loaded(tmp_path, DEPTHS, "axes.torso.norm=[layer, rms]")
    path = tmp_path / "resolved.yaml"
    path.write_text(first.text)
    second = load_comparison(str(path))
    assert (second.cells, second.text) == (first.cells, first.text)
    assert yaml.safe_load(first.text)["axes"] == {"torso.depth": [1, 4], "torso.norm": ["layer", "rms"]}
    assert list(load_comparison(str(path), "axes.torso.norm=null").spec.axes) == ["torso.depth"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("axes.torso.depht=[2, 3]", r"^command line: axes\.torso\.depht: unknown key; did you mean 'depth'\?"),
        ("axes.torso.depth=[2, 0]", r"^command line: axes\.torso\.depth: .*greater than or equal to 1; got 0"),
        ("axes.torso.depth=[2]", r"axes\.torso\.depth: expected two or more values; got 2"),
        ("axes.torso.depth=[2, 2]", r"axes\.torso\.depth: contains 2 twice"),
        ("axes.torso.depth=[2, [3]]", r"axes\.torso\.depth: expected numbers, names, true, false or null; got \[3\]"),
        ("axes.env=[a/b, hopper]", r"axes\.env: expected letters, digits, dots, hyphens and plus signs; got 'a/b'"),
        ("axes.torso.depth=2", r"axes\.torso\.depth: expected a list such as \[0, 1\]; got 2"),
        ("axes=2", r"axes: expected a mapping; got 2"),
        ("axes.seeds=[1, 2]", r"axes\.seeds: applies to all runs; set it at the top level"),
        ("axes.out=[a, b]", r"axes\.out: applies to all runs; set it at the top level"),
    ],
)
def test_axes_that_cannot_be_are_refused_by_their_path(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, override)
    assert list(tmp_path.iterdir()) == []


def test_an_arm_cannot_set_an_axis(tmp_path: Path) -> None:
    said = r"arms\.delta\.torso\.depth: is an axis of the comparison; remove it, or axes\.torso\.depth"
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, DEPTHS, "arms.delta.torso.depth=3")


@pytest.mark.parametrize(("depths", "scale"), [((1, 4), "linear"), ((1, 8), "log")])
def test_scores_are_drawn_against_the_axis(depths: tuple[int, int], scale: str, tmp_path: Path) -> None:
    found = loaded(tmp_path, f"axes.torso.depth={list(depths)}", "match=width")
    levels = {("residual", depths[0]): -9.0, ("residual", depths[1]): -8.0, ("delta", depths[0]): -7.0}
    scores = {
        (f"reacher+depth={depth}", arm): [level := levels.get((arm, depth), -3.0), level - 1.0]
        for depth in depths
        for arm in ("residual", "delta")
    }
    analysis = analyse(read_study(write_runs(found, scores, gates=False)))
    [(name, described, figure)] = list(scores_against(analysis))
    assert name == "against-torso.depth-reacher"
    assert "against torso.depth" in described
    [axis] = figure.axes
    assert axis.get_xscale() == scale
    drawn = {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}
    assert drawn == {"residual": (list(depths), [-9.5, -8.5]), "delta": (list(depths), [-7.5, -3.5])}


@pytest.mark.slow
def test_two_axes_give_a_figure_for_each_value_of_the_other(tmp_path: Path) -> None:
    found = loaded(tmp_path, DEPTHS, "axes.torso.norm=[layer, rms]", "match=width")
    scores = {(cell.task, cell.arm): [-5.0, -6.0] for cell in found.cells}
    page = write_report(write_runs(found, scores, gates=False))
    assert {path.stem for path in (page.parent / "figures").glob("against-*.svg")} == {
        "against-torso.depth-reacher-torso.norm=layer",
        "against-torso.depth-reacher-torso.norm=rms",
        "against-torso.norm-reacher-torso.depth=1",
        "against-torso.norm-reacher-torso.depth=4",
    }
    assert '<h2 id="axes">' in page.read_text()
