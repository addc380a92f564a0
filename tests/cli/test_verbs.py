"""All verbs: their help, bad input, and what has no file of its own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from deltarl import __version__, task_packages
from deltarl.cli.doctor import WITHOUT
from tests.quick import QUICK, Deltarl

VERBS = (
    *(
        "train",
        "resume",
        "tune",
        "compare",
        "report",
        "evaluate",
        "play",
        "plot",
        "gates",
        "export",
        "pack",
        "push",
        "pull",
    ),
    *("list", "show", "copy", "validate", "schema", "doctor", "bench"),
)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb: str, deltarl: Deltarl) -> None:
    status, out, _ = deltarl(verb, "--help")
    assert status == 0
    assert f"Example: deltarl {verb}" in out
    assert verb in deltarl("--help")[1]


def test_the_version_is_that_of_the_package(deltarl: Deltarl) -> None:
    assert deltarl("--version")[:2] == (0, f"deltarl {__version__}\n")


@pytest.mark.parametrize(
    ("words", "completed"),
    [("deltarl pla", ["play"]), ("deltarl train quicks", ["quickstart"]), ("deltarl compare quic", ["quick"])],
)
def test_shells_complete_verbs_and_names(
    words: str, completed: list[str], deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_DELTARL_COMPLETE", "complete_bash")
    monkeypatch.setattr(sys, "argv", ["deltarl"])
    status, out, error = deltarl()
    assert (status, out.split(), error) == (0, completed, "")


def test_a_dry_run_says_how_large_the_arms_are(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("compare", "quick", "arms.mlp=mlp", "--dry-run")
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert [row[:3] for row in rows[1:4]] == [
        ["reacher", "residual", "68,677"],
        ["reacher", "delta", "68,693"],
        ["reacher", "mlp", "9,925"],
    ]
    assert out.splitlines()[4].startswith("9 runs of 50,000 steps: runs/quick+mlp=mlp-")
    assert list(Path().iterdir()) == []


def test_doctor_says_what_works(deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    status, out, _ = deltarl("doctor")
    assert status == 0
    for package in (
        "torch",
        "stable-baselines3",
        "mujoco",
        *(name for each in task_packages.FAMILIES for name in each.distributions),
    ):
        assert re.search(rf"^{package} +\S", out, re.MULTILINE)
    assert all(
        f"pip install 'deltarl[{each.extra}]'" in WITHOUT[each.distributions[0]]
        for each in task_packages.FAMILIES
        if each.extra
    )
    assert "frame with nonsense failed: " in out
    assert "apt install libegl1 libgl1, or libosmesa6" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "nowhere"), "nowhere: no such folder"),
        (("evaluate",), "Missing argument 'RUN'"),
        (("train", "quickstart", "--seed", "3"), "no option --seed; write seeds=[3]"),
        (("train", "quickstart", "--sed", "3"), "No such option: --sed"),
        (("evaluate", ".", "--episodes", "0"), "Invalid value for '--episodes'"),
        (("play", "nowhere", "--video", "film.avi"), "film.avi: expected a name that ends in .mp4 or .gif"),
        (("play", "nowhere", "--video", "no/film.mp4"), "no: no such folder"),
        (("play", "nowhere", "--video", "a.mp4", "--size", "big"), "--size: expected WIDTHxHEIGHT, such as 640x480"),
        (("play", "nowhere", "--video", "a.mp4", "--size", "8x8"), "--size: expected 16 to 4096 pixels each way"),
        (("play", "nowhere", "--video", "a.mp4", "--size", "641x480"), "--size: an MP4 needs even numbers of pixels"),
        (("play", "nowhere", "--fps", "30"), "play: --fps applies to videos only; give --video FILE.mp4"),
        (
            ("list", "cats"),
            "list: cannot list 'cats'; expected one of agents, envs, configs, comparisons, spaces, torsos, encoders, "
            "trained, runs",
        ),
        (("list", "runs"), "no folder 'runs'; give --out"),
        (("list", "--out", "x"), "--out applies to runs only"),
        (("list", "envs", "--out", "x"), "--out applies to runs only, not to envs"),
        (("list", "agents", "--sort", "run"), "--sort applies to runs only, not to agents"),
        (
            ("list", "runs", "--sort", "score"),
            "Invalid value for '--sort': 'score' is not one of 'run', 'return', 'task', 'agent', 'steps'",
        ),
        (("plot", "nowhere", "--to", "a.png"), "nowhere: no such folder"),
        (("plot", ".", "--to", "a.png"), "holds no run"),
        (("plot", ".", "--to", "a.jpg"), "--to: a.jpg: expected a name that ends in .png, .svg or .pdf"),
        (("plot", ".", "--to", "no/a.png"), "--to: no: no such folder"),
        (("show", "quickstrat"), "no config 'quickstrat'; did you mean 'quickstart'?"),
        (("show", "quickstart", "torso.width=3"), "torso.width: input should be greater than or equal to 4"),
        (
            ("copy", "quickstrat"),
            "no agent, environment, config, comparison or space 'quickstrat'; did you mean 'quickstart'?",
        ),
        (("copy", "cats/hopper"), "no kind 'cats'"),
        (("copy", "../hopper"), "no kind '..'"),
        (("copy", "configs/nothing"), "no config 'nothing'"),
        (("copy", "hopper", "--to", "../x"), "--to: '../x' is not a name"),
        (("validate", "nowhere.yaml"), "nowhere.yaml: cannot be read: "),
        (("validate", "README.md"), "README.md: expected a file that ends in .yaml or .yml"),
        (("schema", "cat"), "'cat' is not one of 'config', 'agent', 'env', 'comparison', 'space'"),
        (("compare", "quik"), "no comparison 'quik'; did you mean 'quick'?"),
        (("compare", "quick", "--shard", "x"), "--shard: 'x' is not of the form I/N, such as 1/4"),
        (("compare", "quick", "--shard", "3/2"), "--shard: 3/2 is not among 1/2 to 2/2"),
        (("compare", "quick", "arms.delta.torso.heads=5"), "arms.delta.torso.heads: 5 heads do not divide width 64"),
        (("compare", "quick", "out=/proc/no"), "/proc/no/quick cannot be used"),
        (
            ("train", "quickstart", "out=~nobody-of-this-name/x"),
            "out: ~nobody-of-this-name/x: could not determine home",
        ),
        (("train", "quickstart", "init_from=~nobody-of-this-name/x"), "init_from: ~nobody-of-this-name/x: could not"),
        (("compare", "quick", "out=~nobody-of-this-name/x"), "out: ~nobody-of-this-name/x: could not determine home"),
        (("train", "quickstart", "out=/dev/null/x"), "out: /dev/null/x/quickstart/seed-0 cannot be used: /dev/null is"),
        (("copy", "quickstart", "--to", "x" * 300), "xxx' is not a name"),
        (("report", "nowhere"), "nowhere: no such folder; deltarl compare makes them"),
        (("bench", "scc"), "bench: no algorithm 'scc'; did you mean 'sac'?"),
        (("bench", "a2c", "--device", "tpu9"), "--device: no device 'tpu9'"),
        (("bench", "a2c", "--out", "no/bench.json"), "--out: no folder no"),
        (("bench", "a2c", "--rounds", "0"), "Invalid value for '--rounds'"),
        (("trian",), "No such command 'trian'"),
    ],
)
def test_bad_input_ends_in_one_line_status_2_and_nothing_written(
    arguments: tuple[str, ...], message: str, deltarl: Deltarl
) -> None:
    status, out, err = deltarl(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_a_number_that_is_not_finite_ends_in_one_line_and_status_1(deltarl: Deltarl) -> None:
    # Steps so large that the first update overflows.
    status, out, error = deltarl(
        "train", "quickstart", *QUICK, "agent.target_kl=null", "agent.learning_rate=1.0e+30", "out=runs"
    )
    assert (status, out) == (1, "")
    pattern = r"^deltarl: error: .*seed-0: step 32: .*(is nan|is -?inf|is not finite).*; there is no checkpoint yet$"
    assert re.search(pattern, error.splitlines()[-1])
    assert "Traceback" not in error
