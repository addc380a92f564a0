"""Reports: tables, figures and the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from deltarl.comparison import write_report
from deltarl.comparison.analysis import analyse
from deltarl.comparison.erasure import ERASURE
from deltarl.comparison.figures import gates
from deltarl.comparison.records import read_study
from deltarl.comparison.spec import COSTS
from deltarl.comparison.words import MINUS
from deltarl.errors import ConfigError
from tests.comparison.records import write_runs
from tests.comparison.toy import APART, comparison


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_runs(comparison(tmp_path_factory.mktemp("runs")), APART)
    costs = {
        task: {
            arm: {
                "flops_per_step": 100.0,
                "flops_per_update": 7.0,
                "updates_per_step": 2.0,
                "seconds_per_1000_steps": [1.0 * factor, 2.0 * factor, 3.0 * factor],
            }
            for arm, factor in (("residual", 1.0), ("delta", 1.5))
        }
        for task in ("reacher", "pusher")
    }
    (folder / COSTS).write_text(json.dumps(costs))
    for seed, without in enumerate((-4.5, -4.7)):
        run = folder / "reacher" / "delta" / f"seed-{seed}"
        (run / ERASURE).write_text(json.dumps({"returns_without_erasure": [without - 1, without + 1]}))
    return write_report(folder)


def rows(report: Path, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader((report.parent / f"{table}.csv").read_text().splitlines()))


# Files


def test_tables_hold_what_the_page_says(report: Path) -> None:
    [delta] = [
        r for r in rows(report, "summary") if (r["task"], r["arm"], r["metric"]) == ("reacher", "delta", "final")
    ]
    assert float(delta["mean"]) == pytest.approx(-4.04)
    assert delta["seeds"] == "5"
    [pair] = [r for r in rows(report, "pairs") if (r["task"], r["metric"]) == ("reacher", "final")]
    assert (pair["verdict"], pair["reference"]) == ("higher", "residual")
    assert len(rows(report, "scores")) == 20
    assert len(rows(report, "curves")) == 80
    assert {row["interval"] for row in rows(report, "coverage")} == {
        *("mean", "median", "iqm", "difference", "hedges_g", "improvement"),
        *("iqm over tasks", "median over tasks", "mean over tasks"),
    }


def test_the_worth_of_erasing_is_reported_if_it_was_measured(report: Path) -> None:
    reacher, pusher = rows(report, "erasure")
    assert (reacher["task"], reacher["arm"], reacher["seeds"]) == ("reacher", "delta", "2")
    assert float(reacher["return_without_erasure_less_with"]) == pytest.approx(-0.55)
    assert (pusher["task"], pusher["seeds"], pusher["return_without_erasure_less_with"]) == ("pusher", "0", "")
    page = report.read_text()
    assert f"<td>2 of 5</td>\n<td>{MINUS}0.55" in page
    assert "<td>0 of 5</td>\n<td>not measured: the weights are not here</td>" in page


def test_flops_are_those_of_the_steps_and_updates_so_far(report: Path) -> None:
    first = rows(report, "curves")[0]
    assert float(first["flops"]) == 100 * int(first["step"]) + 7 * 10


def test_time_beside_the_reference_is_compared_round_by_round(report: Path) -> None:
    [delta] = [row for row in rows(report, "costs") if (row["task"], row["arm"]) == ("reacher", "delta")]
    assert (float(delta["over_reference"]), float(delta["seconds_per_1000_steps"])) == (1.5, 3.0)
    assert float(delta["training_flops_per_step"]) == 114


class Page(HTMLParser):
    """The references of a page, the nesting of its elements, and whether they are closed in order."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inside: dict[str, list[list[str]]] = {}  # by tag and class of an element: the elements around it
        self.words: list[tuple[str, str]] = []  # each text, with the tag and class of its element
        self.classed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found: dict[str, Any] = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
            named = ".".join([tag, *(found.get("class") or "").split()])
            self.inside.setdefault(named, []).append([*self.classed])
            self.classed.append(named)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[key] for key in ("href", "src", "xlink:href") if key in found]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.classed.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((data.strip(), self.classed[-1] if self.classed else ""))


def test_the_page_needs_nothing_else(report: Path) -> None:
    page = Page(report.read_text())
    assert page.open == []
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_the_pages_figures_take_its_colours(report: Path) -> None:
    text = report.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    drawn = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    for figure in drawn:
        assert "#1f2933" not in figure
        assert "#0072b2" not in figure
        assert 'role="img"' in figure
    labels = re.findall(r'<svg[^>]* aria-label="([^"]+)"', text)
    assert len(set(labels)) == len(drawn) == text.count("<figure>")


def test_the_curves_of_one_task_share_a_row_and_those_of_several_have_one_for_each_axis(
    report: Path, tmp_path: Path
) -> None:
    def figures_in_rows(page: Path) -> list[int]:
        text = page.read_text()
        learning = text[text.index('id="learning"') : text.index('id="scores"')]
        return [row.count("<figure>") for row in learning.split('<div class="grid ')[1:]]

    assert figures_in_rows(report) == [2, 2, 2]
    one = write_runs(comparison(tmp_path, "tasks.pusher=null"), APART)
    assert figures_in_rows(write_report(one)) == [2]  # no FLOPs were measured


def test_every_table_scrolls_in_a_box_of_its_own(report: Path) -> None:
    text = report.read_text()
    page = Page(text)
    assert len(page.inside["table"]) == 4 + 1 + 1 + 1 + 1 + 1  # scores, over all tasks, cost, erasing, arms, coverage
    assert all(found[-1] == "div.table" for found in page.inside["table"])
    boxes = re.findall(r'<div class="table" ([^>]*)>', text)
    assert len(boxes) == len(page.inside["table"])
    assert all('tabindex="0"' in box and re.search(r'aria-label="\w', box) for box in boxes)


def test_a_verdict_stands_with_its_arm_in_the_column_that_does_not_scroll(report: Path) -> None:
    text = report.read_text()
    verdicts = [words for words, place in Page(text).words if place.startswith("span.verdict")]
    assert {"higher", "no difference shown", "the reference"} == set(verdicts)
    assert len(verdicts) == 2 * 2 + 2 * 2  # pairs on two tasks, and arms over all tasks, in two metrics
    firsts = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</th>", text, flags=re.S)
    assert sum("verdict" in first for first in firsts) == len(verdicts)
    assert re.search(r"tr > :first-child \{ position: sticky; left: 0;", text)
    page = Page(text)
    assert all("div.table" not in found for found in page.inside["li"])


def test_the_coverage_of_all_intervals_is_the_last_table(report: Path) -> None:
    text = report.read_text()
    assert re.findall(r'<h2 id="(\w+)">', text)[-1] == "coverage"
    before, after = text.split('<h2 id="coverage">')
    assert "simulated" not in before
    for row in rows(report, "coverage"):
        told = f"<td>{float(row['covered']):.2f}</td>" if row["covered"] else "<td>no interval</td>"
        assert told in after
    assert after.count('<th scope="row">') == len({row["interval"] for row in rows(report, "coverage")})


def test_figures_are_files_too(report: Path) -> None:
    figures = report.parent / "figures"
    names = {path.stem for path in figures.glob("*.svg")}
    assert names == {path.stem for path in figures.glob("*.png")}
    assert names >= {"learning", "curves-flops-reacher", "final-pusher", "profile", "improvement", "gates-pusher@delta"}
    for path in figures.glob("*.svg"):
        ElementTree.parse(path)


def test_the_same_records_give_the_same_report(report: Path, tmp_path: Path) -> None:
    again = write_report(report.parents[1], out=tmp_path / "again")
    for path in (p for p in report.parent.rglob("*") if p.is_file()):
        assert path.read_bytes() == (again.parent / path.relative_to(report.parent)).read_bytes()


def test_another_reference(report: Path) -> None:
    assert {pair.arm for pair in analyse(read_study(report.parents[1]), "delta").pairs} == {"residual"}
    with pytest.raises(ConfigError, match="no arm 'detla'; did you mean 'delta'"):
        write_report(report.parents[1], "detla")


# Refusals


def test_a_folder_that_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no comparison"):
        write_report(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        write_report(tmp_path / "none")


def test_a_comparison_of_which_nothing_has_finished(tmp_path: Path) -> None:
    folder = write_runs(comparison(tmp_path), {cell: [] for cell in APART})
    with pytest.raises(ConfigError, match="no task yet on which a run of every arm has finished"):
        write_report(folder)


def of_json(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), **changes}).encode()


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(old.encode(), new.encode(), content, count=1, flags=re.M)


def of_arrays(**changes: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        with np.load(io.BytesIO(content)) as arrays:
            changed = {**dict(arrays), **{f"gates/{name}": array for name, array in changes.items()}}
        file = io.BytesIO()
        np.savez(file, **changed)
        return file.getvalue()

    return change


ANYTHING = [
    lambda _: b"step,return\n{not json",
    lambda _: b"",
    lambda _: b"\xff\x00",
    lambda content: content[: len(content) * 2 // 5],
]
RUN_FILES = ("evaluations.csv", "metrics.jsonl", "result.json", "config.yaml", "provenance.json", "gates.npz")
DAMAGES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    *(
        (name, change, "")
        for name in RUN_FILES
        for change in ANYTHING
        if (name, change) != ("metrics.jsonl", ANYTHING[1])
    ),
    ("result.json", of_json(final_return_mean=None), "final_return_mean"),
    ("result.json", of_json(final_return_mean=99999.0), "contradicts evaluations.csv: final_return_mean: expected"),
    ("result.json", of_json(final_return_mean=math.nan), "NaN is not a JSON number"),
    ("result.json", of_json(seed=4), "has seed 3, but its result has seed 4"),
    (
        "evaluations.csv",
        lambda _: b"step,episode,return,length,success\n",
        "contradicts evaluations.csv: steps: expected",
    ),
    ("evaluations.csv", replaced(r"^step,", "steps,"), "'step' is missing"),
    ("evaluations.csv", replaced(r"^12500,0", "twelve,0"), "invalid literal"),
    ("evaluations.csv", replaced(r"^12500,1", "12500,7"), "expected episode 1, got 7"),
    ("evaluations.csv", replaced(r"^12500,0,[^,]*", "12500,0,inf"), "expected a finite number"),
    ("metrics.jsonl", lambda _: b"5\n", "line 1: expected an object, got 5"),
    ("metrics.jsonl", lambda _: b"[1, 2]\n", "line 1: expected an object"),
    ("metrics.jsonl", replaced(r'"step": \d+', '"step": "one"'), "step: expected an integer"),
    ("metrics.jsonl", replaced(r'"wall_seconds": [\d.]+', '"wall_seconds": null'), "expected a finite number"),
    ("metrics.jsonl", replaced(r'"train/n_updates": \d+', '"train/n_updates": "many"'), "expected a finite number"),
    ("metrics.jsonl", replaced(r'"train/n_updates": \d+', '"train/n_updates": [1]'), "more than numbers"),
    ("provenance.json", lambda _: b"{}", "'command' is missing"),
    ("provenance.json", of_json(command=["deltarl"]), "command: expected a text"),
    ("provenance.json", of_json(packages=[]), "packages: expected an object"),
    ("config.yaml", replaced(r"^seeds:\n- 3", "seeds: [3, 4]"), "seeds: expected a single seed"),
    ("config.yaml", replaced(r"^name: delta", "name: residual"), "is a run of arm residual on task pusher"),
    ("config.yaml", replaced(r"^out: .*", "out: toy/reacher"), "is a run of arm delta on task reacher"),
    ("config.yaml", replaced(r"^total_timesteps: .*", "total_timesteps: 90000000"), "config.yaml requires 90,000,000"),
    ("config.yaml", replaced(r"^  kwargs: {}", "  kwargs: {frame_skip: null}"), "env.kwargs.frame_skip is None"),
    ("config.yaml", replaced(r"^threads: 1", "threads: &a 1\nx: *a"), "YAML aliases"),
    ("gates.npz", of_arrays(**{"policy/beta_mean": np.ones((4, 2, 2))}), "is not an array of 4 measurements"),
    ("gates.npz", of_arrays(**{"policy/beta_mean": np.ones((3, 2))}), "is not an array of 4 measurements"),
    ("gates.npz", of_arrays(**{"$\\frac$/beta_mean": np.ones((4, 2))}), "is not an array of 4 measurements"),
    ("gates.npz", of_arrays(**{"policy/beta_mean": np.array([["a", "b"]] * 4)}), "is not an array of 4 measurements"),
    (
        "gates.npz",
        of_arrays(**{"policy/erase_share": np.ones((4, 1))}),
        "has 1 blocks, other arrays of gates/policy have 2",
    ),
    (
        "gates.npz",
        of_arrays(**dict.fromkeys(("policy/beta_mean", "policy/erase_share"), np.ones((4, 3)))),
        "has different networks",
    ),
    ("../../../costs.json", lambda _: b"[]", "expected an object"),
    ("../../../costs.json", lambda _: b'{"pusher": {"delta": {"flops_per_step": "many"}}}', "flops_per_step"),
    ("../../../sizes.json", lambda _: b'{"pusher": 7}', "pusher"),
    ("../../../comparison.yaml", lambda _: b"arms: [delta", "not valid YAML"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGES)
def test_a_damaged_record_is_named_in_one_line(
    name: str, change: Callable[[bytes], bytes], message: str, report: Path
) -> None:
    folder = report.parents[1]
    path = (folder / "pusher" / "delta" / "seed-3" / name).resolve()
    content = path.read_bytes()
    path.write_bytes(change(content))
    try:
        with pytest.raises(ConfigError) as caught:
            gates(read_study(folder), "pusher", "delta")
    finally:
        path.write_bytes(content)
    assert str(path.parent) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_of_a_later_version_are_read(report: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(report.parents[1], tmp_path / "toy"))
    for name, content in (("result.json", of_json(new=1)), ("provenance.json", of_json(new="\x1b[31mred"))):
        path = folder / "pusher" / "delta" / "seed-3" / name
        path.write_bytes(content(path.read_bytes()))
    [record] = (each for each in read_study(folder).of("pusher", "delta") if each.seed == 3)
    assert record.provenance["new"] == "\\x1b[31mred"


def test_a_place_that_cannot_be_written(report: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out: .* cannot be used"):
        write_report(report.parents[1], out=tmp_path / "file")
