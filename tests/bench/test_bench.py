"""The benchmark: cases, comparisons and the wording of its tables."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import torch
from torch import nn

from deltarl import ConfigError
from deltarl.bench import chosen
from deltarl.bench.cases import ALGORITHMS, NETWORKS, Case, build, has_sbx
from deltarl.bench.clock import Products, Ratio, cores, in_turns, threads
from deltarl.bench.measure import ratios
from deltarl.cli import main
from deltarl.comparison.matching import flops_of
from deltarl.fast import SAC


@pytest.fixture(scope="module")
def printed_and_kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The output of `deltarl bench a2c`, and the file it writes."""
    path = tmp_path_factory.mktemp("bench") / "a2c.json"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["deltarl", "bench", "a2c", "--rounds=2", "--seconds=0", f"--out={path}"])
        with pytest.raises(SystemExit) as exit_:
            main()
    assert not exit_.value.code, err.getvalue()
    assert err.getvalue().splitlines() == [f"a2c: {what}" for what in STAGES]
    return out.getvalue(), json.loads(path.read_text())


@pytest.fixture(scope="module")
def report(printed_and_kept: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return printed_and_kept[1]


STAGES = (
    "starting",
    "whole training steps",
    *(["numbers of threads"] if len(cores()) > 1 else []),
    "environments",
    "updates and their products alone",
)


def test_every_algorithm_is_timed_with_every_network() -> None:
    assert chosen([]) == [Case(name, network) for name in ALGORITHMS for network in NETWORKS]
    assert [case.algorithm for case in chosen(["ppo"])] == ["ppo"] * len(NETWORKS)


def test_an_algorithm_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"bench: no algorithm 'scc'; did you mean 'sac'\?"):
        chosen(["scc"])


def test_both_implementations_are_built_alike() -> None:
    case = Case("sac", "mlp")
    ours, theirs = (build(case, way, "cpu") for way in ("deltarl", "sb3"))
    assert type(ours) is SAC
    assert type(theirs) is SAC.__mro__[3]
    for key, tensor in theirs.policy.state_dict().items():
        assert torch.equal(tensor, ours.policy.state_dict()[key]), key


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_delta_at_the_mlps_flops_has_them(algorithm: str) -> None:
    mlp, delta = (
        flops_of(build(Case(algorithm, network), "deltarl", "cpu").policy) for network in ("mlp", NETWORKS[-1])
    )
    assert delta == pytest.approx(mlp, rel=0.02)


def test_the_report_is_whole(report: dict[str, Any]) -> None:
    assert report.keys() == {"machine", "rounds", "seconds", "steps", "updates", "envs", "starts", "threads"}
    ways = {(row["network"], row["way"]) for row in report["steps"]}
    sbx = {("mlp", "sbx")} if has_sbx("a2c") else set()
    expected = {(network, way) for network in NETWORKS[:-1] for way in ("sb3", "deltarl")} | {(NETWORKS[-1], "deltarl")}
    assert ways == expected | sbx
    for table in ("steps", "updates", "envs"):
        assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in report[table])
    assert {row["way"] for row in report["envs"]} == {"physics", "sb3", "deltarl"}
    assert all(row["break_even"] is None or row["break_even"] >= 0 for row in report["starts"] if "break_even" in row)


def test_numbers_of_threads_up_to_one_a_core(report: dict[str, Any]) -> None:
    counts = {row["threads"] for row in report["threads"]}
    assert not counts or {1, len(cores())} <= counts <= set(range(1, len(cores()) + 1))
    assert len(report["threads"]) == len(counts) * len(NETWORKS)


def test_the_floor_of_an_update_is_measured_with_it(report: dict[str, Any]) -> None:
    times = {(row["network"], row["way"], row["what"]): min(row["seconds"]) for row in report["updates"]}
    for network in NETWORKS:
        assert 0 < times[network, "deltarl", "floor"] < 2 * times[network, "deltarl", "update"]


def test_the_scoreboard_tells_the_ratios(printed_and_kept: tuple[str, dict[str, Any]]) -> None:
    text, report = printed_and_kept
    assert text.count("###") == 5 + bool(report["threads"])
    for row in ratios(report):
        assert f"{row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f})" in text
    assert {row["what"] for row in ratios(report)} == {"sb3 / deltarl", "delta / residual"}


def test_a_ratio_is_of_the_same_rounds() -> None:
    ratio = Ratio.of([1.0, 20.0, 3.0], [1.0, 10.0, 1.0])
    assert ratio == Ratio(2.0, 1.5, 2.5)
    assert str(ratio) == "2.00 (1.50 to 2.50)"


def test_calls_are_timed_in_turns() -> None:
    order: list[str] = []
    found, units = in_turns({name: lambda _n, name=name: order.append(name) for name in "ab"}, rounds=2, at_least=0.0)
    assert order[-4:] == ["a", "b", "b", "a"]
    assert units == {"a": 1, "b": 1}
    assert all(len(each) == 2 for each in found.values())


def test_products_are_noted_and_done_again() -> None:
    """One Linear whose input needs a gradient: three products in a forward and backward pass, and nothing else."""
    linear, x = nn.Linear(4, 3), torch.randn(5, 4, requires_grad=True)
    with Products() as products:
        linear(x).relu().sum().backward()
    assert len(products) == 3
    products.alone()()


def test_products_of_expanded_operands_are_done_again() -> None:
    with Products() as products:
        torch.ones(1, 1).expand(5, 1) @ torch.ones(1, 3)
    products.alone()()


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads(1):
            assert torch.get_num_threads() == 1
            assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(os.sched_getaffinity(0)) == os.cpu_count()
