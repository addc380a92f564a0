"""All verbs except `train`, as a user types them."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from PIL import Image
from rich.console import Console

from deltarl import RunResult, __version__, load_config, rendering, task_packages, train
from deltarl.agents import build_policy
from deltarl.cli import main
from deltarl.cli.doctor import WITHOUT
from deltarl.cli.evaluate import over_seeds
from deltarl.cli.gates import gates
from deltarl.cli.list_runs import Order, Row, ordered
from deltarl.envs import build_envs
from deltarl.library import KINDS, find, names, read_yaml
from deltarl.torsos import FAMILIES
from tests.quick import QUICK

Deltarl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def deltarl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Deltarl:
    """Run a command in an empty folder; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["deltarl", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        printed = capsys.readouterr()
        return int(exit_.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    out = tmp_path_factory.mktemp("runs")
    spec = load_config("quickstart", *QUICK, f"out={out}", "name=done", "device=cpu")
    return train(spec, console=Console(file=io.StringIO()))[0]


VERBS = (
    *("train", "resume", "tune", "compare", "report", "evaluate", "play", "plot", "gates", "export"),
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


# evaluate, play


def test_evaluate_repeats_the_runs_own_score(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("evaluate", finished.folder)
    assert status == 0
    assert f"return {finished.final_return_mean:,.1f} +- {finished.final_return_std:,.1f} over 2 episodes" in out
    assert "over 1 episode\n" in deltarl("evaluate", finished.folder, "--episodes", "1", "--seed", "7")[1]


def test_evaluate_scores_all_seeds_of_a_run_and_their_mean(finished: RunResult, deltarl: Deltarl) -> None:
    for seed in (10, 2):
        shutil.copytree(finished.folder, f"runs/quickstart/seed-{seed}")
    status, out, _ = deltarl("evaluate", "runs/quickstart", "--episodes", "1")
    first, score, second, same, over = out.splitlines()
    assert (status, score) == (0, same)
    assert first.endswith("runs/quickstart/seed-2")
    assert second.endswith("runs/quickstart/seed-10")
    assert over == f"2 seeds: mean return {score.split()[1]}"  # the same policy twice: no interval


def test_the_mean_over_seeds_has_an_interval() -> None:
    said = over_seeds([1.0, 3.0, 5.0])
    assert said == "3 seeds: mean return 3.0, 95% interval [-2.0, 8.0] (Student's t over seeds)"


class Payload:
    """Leaves a folder behind when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("opened",)


def test_play_writes_a_film_and_opens_no_pickle(
    finished: RunResult, deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = rendering.working_backend()
    if backend is None:
        pytest.skip("no frame can be drawn here")
    monkeypatch.setenv("MUJOCO_GL", backend)
    shutil.copytree(finished.folder, "seed-0")
    for name in ("model.zip", "vecnormalize.pkl", "policy.pkl"):
        Path("seed-0", name).write_bytes(pickle.dumps(Payload()))
    status, out, _ = deltarl("play", "seed-0", "--video", "film.mp4")
    assert status == 0
    assert out.startswith("film.mp4: ")
    assert Path("film.mp4").stat().st_size > 1000
    assert not Path("opened").exists()


# list


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
    out_folder = finished.folder.parent.parent
    unfinished = out_folder / "begun" / "seed-4"
    unfinished.mkdir(parents=True)
    (unfinished / "config.yaml").write_bytes((finished.folder / "config.yaml").read_bytes())
    _, out, _ = deltarl("list", "runs", "--out", out_folder)
    rows = {line.split()[-1]: line for line in out.splitlines()[1:]}
    assert rows[str(unfinished)].startswith("unfinished ")
    assert re.match(r"[\d.,]+ \+- [\d.,]+ +Hopper-v5 +ppo +64 ", rows[str(finished.folder)])


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


# plot


def test_plot_draws_runs_into_a_file(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("plot", finished.folder.parent, "--to", "curves.svg")
    assert (status, out) == (0, "curves.svg: rollout/ep_rew_mean of 1 run\n")
    assert "training episodes" in Path("curves.svg").read_text()


# show, copy, validate


def test_show_says_why_parameters_are_not_counted(deltarl: Deltarl) -> None:
    status, out, err = deltarl("show", "hopper_sac", "env.kwargs={no_such: 1}")
    assert status == 0
    assert err.startswith("note: cannot count parameters: env: Hopper-v5 cannot be built")
    assert yaml.safe_load(out)["env"]["kwargs"] == {"no_such": 1}


@pytest.mark.parametrize(
    ("config", "agent", "actor", "critic"),
    [
        ("hopper_sac", "sac_simba", ("residual", 128, 1, 512), ("residual", 512, 2, 2048)),
        ("hopper_sac", "sac_simbav2", ("simbav2", 128, 1, 512), ("simbav2", 512, 2, 2048)),
        ("hopper_sac", "sac_bro", ("bronet", 256, 1, 256), ("bronet", 512, 2, 512)),
        ("hopper_ppo", "ppo_deep", ("delta", 64, 8, 128), ("delta", 64, 8, 128)),
    ],
)
def test_agents_have_the_networks_that_their_files_name(
    config: str, agent: str, actor: tuple[Any, ...], critic: tuple[Any, ...]
) -> None:
    """This also holds if a config overrides some of them."""
    spec = load_config(config, f"agent={agent}")
    for torso, expected in ((spec.actor_torso, actor), (spec.critic_torso, critic)):
        assert (torso.kind, torso.width, torso.depth, torso.hidden) == expected


def test_what_show_prints_is_the_same_run(deltarl: Deltarl) -> None:
    _, out, _ = deltarl("show", "hopper_sac", "torso=residual")
    Path("mine.yaml").write_text(out)
    mine = load_config("mine.yaml")
    assert mine.name == "mine"
    assert mine.digest() == load_config("hopper_sac", "torso=residual").digest()
    assert yaml.safe_load(out)["actor_torso"]["kind"] == "residual"
    counts = re.findall(r"^# (\w+): ([\d,]+) parameters$", out, re.MULTILINE)
    assert [role for role, _ in counts] == ["actor_torso", "critic_torso"]
    with closing(build_envs(mine.env, 0, 1)) as envs:
        critic = build_policy(mine.agent, mine.actor_torso, mine.critic_torso, envs).critic
    assert int(counts[1][1].replace(",", "")) == sum(p.numel() for p in critic.parameters())


def test_a_copy_is_found_before_the_shipped_file(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("copy", "quickstart")
    assert status == 0
    assert out.startswith("configs/quickstart.yaml, a copy of ")
    copy = Path("configs/quickstart.yaml")
    copy.write_text(copy.read_text().replace("300_000", "7_000"))
    assert load_config("quickstart").total_timesteps == 7_000
    assert deltarl("copy", "envs/hopper", "--to", "mine")[0] == 0
    assert deltarl("copy", "ppo")[1].startswith("agents/ppo.yaml, ")
    assert deltarl("copy", "configs/search/ppo")[0] == 0
    assert load_config("quickstart", "env=mine").env.id == "Hopper-v5"


# In the default tests, tests/test_library.py loads the configs, tests/test_envs.py builds the environments,
# tests/comparison/test_spec.py matches the comparisons, and a test below checks all of them against their schemas.
@pytest.mark.slow
def test_all_that_is_shipped_is_valid(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("validate")
    assert status == 0
    assert out == f"{sum(len(names(kind)) for kind in KINDS)} files are valid\n"


def test_validate_names_every_file_that_is_wrong(deltarl: Deltarl) -> None:
    Path("agent.yaml").write_text("algorithm: ppo\nn_stepss: 3\n")
    Path("env.yaml").write_text("id: Hopper-v5\nkind: swimming\n")
    Path("config.yaml").write_text("agent: ppo\nenv: hopper\ntotal_timesteps: 10\n")
    status, _, err = deltarl("validate", "agent.yaml", "env.yaml", "config.yaml")
    assert status == 2
    assert err.splitlines() == [
        "deltarl: error: agent.yaml:2: agent.n_stepss: unknown key; did you mean 'n_steps'?",
        "deltarl: error: env.yaml:2: env.kind: 'swimming' is not one of locomotion, manipulation, navigation",
    ]


def test_validate_knows_a_comparison_by_its_keys(deltarl: Deltarl) -> None:
    Path("mine.yaml").write_text("reference: delta\ntasks: {hopper: quickstart}\n")
    status, _, err = deltarl("validate", "mine.yaml")
    assert (status, err) == (2, "deltarl: error: mine.yaml: arms: missing\n")


# compare


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


# schema


@pytest.mark.parametrize("folder", KINDS)
def test_every_shipped_file_keeps_to_its_schema(folder: str, deltarl: Deltarl) -> None:
    _, out, _ = deltarl("schema", KINDS[folder])
    schema = json.loads(out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for name in names(folder):
        validator.validate(read_yaml(find(folder, name, "test")).data)
    assert not validator.is_valid({"algorithmm": "ppo"})


def test_the_schema_takes_numbers_as_editors_read_them(deltarl: Deltarl) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(deltarl("schema")[1]))
    config = {"agent": "ppo", "env": "hopper", "total_timesteps": "1_000_000", "seeds": 3}
    assert validator.is_valid(config)
    assert not validator.is_valid({**config, "total_timesteps": "soon"})
    assert not validator.is_valid({**config, "agent": {"base": "ppo", "gamma": 2}})


# doctor


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


# Bad input


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
            "list: cannot list 'cats'; expected one of agents, envs, configs, comparisons, spaces, torsos, runs",
        ),
        (("list", "runs"), "no folder 'runs'; give --out"),
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


def test_a_window_needs_a_screen(deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    assert "no screen to open a window on; give --video FILE.mp4" in deltarl("play", "nowhere")[2]


# gates


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


def test_gates_blames_no_file_if_nobody_reads_what_it_says(
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


# resume


@pytest.fixture
def interrupted(finished: RunResult, tmp_path: Path) -> Path:
    """A run that was killed between its training and its final evaluation."""
    folder = tmp_path / "runs" / "done" / "seed-0"
    shutil.copytree(finished.folder, folder)
    (folder / "result.json").unlink()
    return folder


def test_resume_continues_and_says_how_exactly(interrupted: Path, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("resume", "runs/done", "total_timesteps=96")
    assert status == 0
    assert "  resumed  1 time, exactly" in out
    assert "96 steps in" in out
    assert json.loads((interrupted / "result.json").read_text())["steps"] == 96


def test_train_can_be_given_again_with_resume(interrupted: Path, deltarl: Deltarl) -> None:
    command = ("train", str(interrupted / "config.yaml"), "out=runs", "name=done", "seeds=[0]", "--resume")
    for _ in range(2):  # the second time nothing is left to do, and the output is the same
        status, out, _ = deltarl(*command)
        assert status == 0
        assert "  resumed  1 time, exactly" in out
    status, _, error = deltarl(*command[:-1])
    assert (status, "this run has already finished" in error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs/nowhere",), "runs/nowhere: no such folder"),
        (("runs",), "runs: contains no run"),
        (
            ("runs/done/seed-0", "agent.gamma=0.5"),
            "cannot resume with another config; these keys differ: agent.gamma (0.99",
        ),
        (("runs/done/seed-0", "agent.gama=0.5"), "unknown key; did you mean 'gamma'?"),
        (("runs/done/seed-0", "out=elsewhere"), "command line: out: cannot change when a run is resumed"),
        (("runs/done/seed-0", "seeds=[1]"), "command line: seeds: cannot change when a run is resumed"),
        (("runs/done/seed-0", "total_timesteps=32"), "total_timesteps (64 in the run, 32 given; it can only grow)"),
        (("runs/done/seed-0", "every=3"), "did you mean 'eval.every' or 'checkpoint.every' or 'gates.every'?"),
    ],
)
def test_resume_refuses_in_one_line(
    arguments: tuple[str, ...], message: str, interrupted: Path, deltarl: Deltarl, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, out, error = deltarl("resume", *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("deltarl: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before
    assert not (interrupted / "result.json").exists()


def test_the_best_policy_can_be_evaluated_and_played(finished: RunResult, deltarl: Deltarl) -> None:
    status, out, _ = deltarl("evaluate", finished.folder, "--best", "--episodes", "2")
    assert status == 0
    assert f"return {finished.final_return_mean:,.1f} " in out  # a run with one evaluation shows that one
    assert deltarl("evaluate", finished.folder.parents[1], "--best")[0] == 2


def test_a_number_that_is_not_finite_ends_in_one_line_and_status_1(deltarl: Deltarl) -> None:
    # Steps so large that the first update overflows.
    status, out, error = deltarl(
        "train", "quickstart", *QUICK, "agent.target_kl=null", "agent.learning_rate=1.0e+30", "out=runs"
    )
    assert (status, out) == (1, "")
    pattern = r"^deltarl: error: .*seed-0: step 32: .*(is nan|is -?inf|is not finite).*; there is no checkpoint yet$"
    assert re.search(pattern, error.splitlines()[-1])
    assert "Traceback" not in error
