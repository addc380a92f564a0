"""Comparisons whose arms are tuned: what is searched, what is trained, what the report says, and refused input."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path

import pytest
from rich.console import Console

from deltarl.cli import main
from deltarl.comparison import Compared, Comparison, compare, load_comparison, write_report
from deltarl.comparison.records import read_study
from deltarl.comparison.searches import layer_of
from deltarl.comparison.tuned_arms import tuned_arms
from deltarl.comparison.tuning import applied, untuned
from deltarl.comparison.tuning_record import Tuned, read_tuning
from deltarl.errors import ConfigError
from deltarl.training.folder import load_spec
from tests.comparison.records import write_runs

SPACE = """
space:
  agent.learning_rate: [1.0e-3, 3.0e-3]
  torso.head_width: {type: choice, values: [4, 16], when: {torso.kind: delta}}
sampler: {name: random, seed: 3}
pruner: none
"""
SMALL = (
    "tasks.reacher=null",
    "tasks.pendulum.env=inverted_pendulum",
    "total_timesteps=64",
    "agent.n_steps=32",
    "agent.batch_size=32",
    "agent.n_epochs=1",
    "agent.learning_rate=1.0e-3",
    "env.n_envs=1",
    "torso.width=16",
    "torso.depth=1",
    "eval={every: 32, episodes: 1}",
    "gates.every=null",
    "device=cpu",
    "seeds=[0,1]",
    "name=small",
)


pytestmark = pytest.mark.usefixtures("imported_once")


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def loaded(space: Path, *overrides: str) -> Comparison:
    own = (f"tune.space={space}", "tune.trials=2", "tune.seeds=[100, 101]", f"out={space.parent / 'runs'}")
    return load_comparison("quick", *SMALL, *own, *overrides)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def run(comparison: Comparison) -> tuple[Compared, str]:
    held = io.StringIO()
    return compare(comparison, Console(file=held, width=200), ["deltarl", "compare"], jobs=1), held.getvalue()


def test_each_arm_has_a_search_on_each_task(space: Path) -> None:
    comparison = loaded(space, "tasks.reacher.env=reacher")
    assert {task: list(arms) for task, arms in comparison.searches.items()} == {
        "pendulum": ["residual", "delta"],
        "reacher": ["residual", "delta"],
    }
    delta = comparison.searches["pendulum"]["delta"]
    assert (delta.folder, delta.seeds) == (comparison.folder / "tuning" / "pendulum" / "delta", (100, 101))
    assert delta.spec.trials == 2  # type: ignore[attr-defined]
    assert comparison.notes == (
        "tuning residual: not searched, because their conditions are not met by this config: torso.head_width",
    )


def test_without_values_a_search_has_the_runs_of_the_comparison(space: Path) -> None:
    comparison = loaded(space)
    place = {"name": "", "out": "", "seeds": (0,)}
    for cell in comparison.cells:
        settled = comparison.searches[cell.task][cell.arm].settled({})
        assert settled.model_copy(update=place) == cell.spec.model_copy(update=place)


def test_trials_have_the_size_of_the_reference(space: Path) -> None:
    search = loaded(space).searches["pendulum"]["delta"]
    inner = [search.settled({"torso.head_width": width}).actor_torso.inner for width in (4, 16)]
    assert inner[0] != inner[1]
    # What matches them goes to the processes that train.
    assert pickle.loads(pickle.dumps(search)).settled({"torso.head_width": 4}).actor_torso.inner == inner[0]


def test_options_that_size_the_reference_are_tuned_only_if_sizes_are_free(space: Path) -> None:
    space.write_text("space: {torso.width: [8, 16, 32], agent.gamma: [0.9, 0.99]}\n")
    kept = loaded(space)
    assert "not tuned: torso.width: arms keep the size of the reference; with match: width they are tuned" in kept.notes
    assert list(kept.searches["pendulum"]["residual"].spec.space) == ["agent.gamma"]
    assert list(loaded(space, "match=width").searches["pendulum"]["delta"].spec.space) == ["torso.width", "agent.gamma"]


def test_what_an_arm_is_is_not_tuned(space: Path) -> None:
    comparison = loaded(space, "arms.delta.torso.head_width=8")
    assert list(comparison.searches["pendulum"]["delta"].spec.space) == ["agent.learning_rate"]
    assert "tuning delta: torso.head_width is what the arm is, and not tuned" in comparison.notes


@pytest.mark.parametrize(
    ("arm", "space"),
    [
        ("critic_torso={activation: relu}", "torso.activation: [gelu, tanh]"),
        ("torso={kind: delta, activation: relu}", "actor_torso.activation: [gelu, tanh]"),
        (
            "torso={kind: delta, head_width: 8}",
            "torso.head_width: {type: choice, values: [4], when: {torso.kind: delta}}",
        ),
    ],
)
def test_what_an_arm_is_is_kept_whichever_way_it_is_named(arm: str, space: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"space:\n  agent.gamma: [0.9, 0.99]\n  {space}\n")
    comparison = loaded(path, "arms.delta=null", f"arms.own.{arm}")
    assert list(comparison.searches["pendulum"]["own"].spec.space) == ["agent.gamma"]


def test_options_of_a_policy_that_size_the_reference_are_not_tuned(space: Path) -> None:
    space.write_text("space: {agent.policy.n_quantiles: [5, 50], agent.gamma: [0.9, 0.99]}\n")
    comparison = load_comparison(
        "quick",
        f"tune.space={space}",
        "agent=tqc",
        "torso.width=16",
        "tasks.reacher.env.n_envs=1",
        f"out={space.parent}",
    )
    assert list(comparison.searches["reacher"]["residual"].spec.space) == ["agent.gamma"]


def test_arms_that_differ_in_the_critic_keep_the_actor_of_the_reference(space: Path) -> None:
    space.write_text("space: {torso.activation: [relu, gelu]}\n")
    comparison = loaded(space, "torso.width=64", "arms.delta=null", "arms.own={torso: residual, critic_torso: delta}")
    searches = comparison.searches["pendulum"]
    for activation in ("relu", "gelu"):
        runs = {arm: search.settled({"torso.activation": activation}) for arm, search in searches.items()}
        assert runs["own"].actor_torso == runs["residual"].actor_torso
        assert runs["own"].critic_torso.inner != runs["residual"].critic_torso.inner


def test_a_condition_decides_whether_an_option_sizes_the_reference(space: Path) -> None:
    space.write_text(
        "space:\n  agent.gamma: [0.9, 0.99]\n  torso.depth: {type: int, low: 1, high: 2, when: {torso.kind: delta}}\n"
    )
    assert list(loaded(space).searches["pendulum"]["delta"].spec.space) == ["agent.gamma", "torso.depth"]


def test_integer_keys_of_an_environment_stay(space: Path) -> None:
    search = loaded(space).searches["pendulum"]["delta"]
    run = search.run.model_copy(update={"env": search.run.env.model_copy(update={"kwargs": {"x": {1: 2}}})})
    assert layer_of(run).data["env"]["kwargs"] == {"x": {1: 2}}


def test_what_was_resolved_says_all(space: Path) -> None:
    """The file in the comparison's folder contains the space, which may change later."""
    first = loaded(space)
    path = space.parent / "resolved.yaml"
    path.write_text(first.text)
    space.unlink()
    second = load_comparison(str(path))
    assert (second.spec, second.cells, second.text) == (first.spec, first.cells, first.text)


def test_the_seeds_of_a_space_are_the_default(space: Path) -> None:
    space.write_text(SPACE + "n_seeds: 3\n")
    assert loaded(space).spec.tune.seeds == (100, 101)  # type: ignore[union-attr]
    defaults = load_comparison("quick", *SMALL, f"tune.space={space}").searches["pendulum"]["delta"]
    assert defaults.seeds == (900_000, 900_001, 900_002)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("tune.seeds=[1, 100]",), r"command line: tune\.seeds: 1 is among the seeds of the comparison"),
        (("tune.trials=0",), r"command line: tune\.trials: .*greater than or equal to 1; got 0"),
        (("tune.trails=3",), r"command line: tune\.trails: unknown key; did you mean 'trials'\?"),
        (("tune.space=pp",), r"command line: tune\.space: no space 'pp'; did you mean 'ppo'\?"),
        (("tune.sampler=tp",), r"command line: tune\.sampler\.name: unknown name 'tp'; did you mean 'tpe'\?"),
        (("tune=3",), r"command line: tune: expected a mapping; got 3"),
        (("tune.space={agent.gama: [0.9]}",), r"tune\.space\.agent\.gama: unknown key; did you mean 'gamma'\?"),
        (("tune.space={env.n_envs: [1, 2]}",), r"tune\.space\.env\.n_envs: tuning may change what an arm may change"),
        (("tune.space={env.id: [a, b]}",), r"tune\.space\.env\.id: scores in different tasks cannot be compared"),
        (("tune.space={seeds: [1, 2]}",), r"tune\.space\.seeds: seeds is a condition of the search"),
        (("tune.space={torso.hidden: [8, 9]}",), r"tune\.space\.torso\.hidden: match: parameters chooses this value"),
        (
            ("tune.space={agent: [{base: ppo}, {base: a2c}]}",),
            r"space\.agent: name one of its options, such as agent\.le",
        ),
        (
            ("axes.torso.activation=[relu, gelu]", "tune.space={actor_torso.activation: [relu, tanh]}"),
            r"actor_torso\.activation: is an axis of the comparison",
        ),
        (("axes.agent.learning_rate=[1.0e-3, 1.0e-2]",), r"space\.agent\.learning_rate: is an axis of the comparison"),
        (
            ("variants={a: {}, b: {agent: {gamma: 0.9}}}", "reference=residual+a"),
            r"tune: cannot be combined with variants",
        ),
        (
            ("arms.residual.agent={learning_rate: 1.0e-3}", "arms.delta.torso.head_width=8"),
            r"tune\.space: nothing to tune for arm residual: every option is given by the arm",
        ),
    ],
)
def test_tuning_that_cannot_be_is_refused(overrides: tuple[str, ...], said: str, space: Path) -> None:
    if "nothing to tune" in said:
        space.write_text("space: {agent.learning_rate: [1.0e-3, 3.0e-3]}\n")
    with pytest.raises(ConfigError, match=said):
        loaded(space, *overrides)
    assert not (space.parent / "runs").exists()


def test_a_tuned_comparison_cannot_be_divided(space: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--shard: a comparison with tune cannot be divided among machines"):
        compare(loaded(space), shard=(1, 2))
    assert not (space.parent / "runs").exists()


def test_a_dry_run_counts_the_trials(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = (f"tune.space={space}", "tune.trials=5", f"out={space.parent}")
    monkeypatch.setattr("sys.argv", ["deltarl", "compare", "quick", *SMALL, *own, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = "tuning first: 2 searches of 5 trials, at most 12 runs; then 4 runs without tuning and, with it:"
    assert said in capsys.readouterr().out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Compared, str]:
    """A small comparison that was tuned, from start to end; the space does not contain the arms' own values."""
    path = tmp_path_factory.mktemp("tuned") / "space.yaml"
    path.write_text(SPACE.replace("1.0e-3", "2.0e-3"))
    comparison = loaded(path, "seeds=[0]", "tune.seeds=[100]")
    return comparison, *run(comparison)


def test_every_arm_has_the_same_number_of_trials_and_tries_the_others_values(
    whole: tuple[Comparison, Compared, str],
) -> None:
    comparison, _, shown = whole
    for arm in ("residual", "delta"):
        assert shown.count(f"tuning {arm} on pendulum") == 2
        rows = table(comparison.folder / f"tuning/pendulum/{arm}/trials.csv")
        assert {float(row["agent.learning_rate"]) for row in rows} <= {2e-3, 3e-3}
        assert {row["state"] for row in rows} == {"complete"}
        assert len(rows) in {2, 3}  # with the other arm's values, unless they are its own
    found = read_tuning(comparison.folder)
    assert found is not None
    [by_arm] = found[1].values()
    for own, other in (("residual", "delta"), ("delta", "residual")):
        assert list(by_arm[own].with_others) == [other]
        score = by_arm[own].with_others[other]
        assert score is not None
        assert score <= by_arm[own].score
        # Of head_width, which one arm has, the other's value says nothing.
        assert ("torso.head_width" in by_arm[own].values) == (own == "delta")


def test_runs_have_the_chosen_values_and_the_others_their_own(whole: tuple[Comparison, Compared, str]) -> None:
    comparison, compared, shown = whole
    assert (compared.finished, compared.failed, compared.stopped) == (2, {}, {})
    assert "the same without tuning" in shown
    found = read_tuning(comparison.folder)
    assert found is not None
    for arm in ("residual", "delta"):
        values = found[1]["pendulum"][arm].values
        after = load_spec(comparison.folder / "pendulum" / arm / "seed-0")
        before = load_spec(comparison.folder / "untuned" / "pendulum" / arm / "seed-0")
        assert after.agent.learning_rate == values["agent.learning_rate"]
        assert before.agent.learning_rate == 1e-3
        assert values["agent.learning_rate"] in {2e-3, 3e-3}


def test_repeating_the_command_changes_nothing(whole: tuple[Comparison, Compared, str]) -> None:
    comparison, _, _ = whole
    files = {path: path.stat().st_mtime_ns for path in comparison.folder.rglob("*") if path.is_file()}
    again, shown = run(comparison)
    assert again.finished == 2
    assert "trial" not in shown
    assert {path: path.stat().st_mtime_ns for path in comparison.folder.rglob("*") if path.is_file()} == files


def test_the_untuned_runs_are_a_comparison_of_their_own(whole: tuple[Comparison, Compared, str]) -> None:
    comparison, _, _ = whole
    study = read_study(comparison.folder / "untuned")
    assert (len(study.records), study.missing, study.spec.tune) == (2, (), None)
    again = load_comparison(str(comparison.folder / "untuned" / "comparison.yaml"))
    assert again.folder == comparison.folder / "untuned"
    assert again.cells == untuned(comparison).cells


def test_a_tuned_arm_that_has_changed_is_refused_and_nothing_is_written(
    whole: tuple[Comparison, Compared, str],
) -> None:
    comparison, _, _ = whole
    out, space = f"out={comparison.folder.parent}", comparison.folder.parent.parent / "space.yaml"
    before = {path: path.read_bytes() for path in comparison.folder.rglob("*") if path.is_file()}
    for changes, said in (
        (("arms.delta.torso.head_width=16",), r"this study has .*head_width"),
        (("tune.trials=5",), r"this study has trials 2, but it is now 5"),
        (("total_timesteps=128",), r"this study has run\.total_timesteps 64, but it is now 128"),
    ):
        with pytest.raises(ConfigError, match=said):
            run(loaded(space, "seeds=[0]", "tune.seeds=[100]", out, *changes))
    after = {path: path.read_bytes() for path in comparison.folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_comparison_that_was_begun_without_tuning_is_not_tuned(space: Path) -> None:
    scores = {("pendulum", "residual"): [50.0, 52.0], ("pendulum", "delta"): [60.0, 61.0]}
    out = f"out={space.parent / 'runs'}"
    folder = write_runs(load_comparison("quick", *SMALL, out), scores)
    with pytest.raises(ConfigError, match=r"seed-0: was trained without tuning; remove tune, or give the comparison"):
        compare(loaded(space))
    assert "tune" not in (folder / "comparison.yaml").read_text()
    # Nor does a record that is left from elsewhere make it a tuned one.
    (folder / "tuning.json").write_text(json.dumps({"tune": {}, "arms": {"pendulum": {"delta": vars(ANOTHERS)}}}))
    assert read_study(folder).tuning == {}


OWN = Tuned({"agent.learning_rate": 1e-3}, -4.0, "the config", -4.0, (-5.0, -7.0), 1, 0, {"delta": None})
ANOTHERS = Tuned(
    {"agent.learning_rate": 1e-3, "torso.head_width": 8}, -3.0, "arm residual", -6.0, (-3.5,), 0, 1, {"residual": -3.0}
)


def test_the_report_says_what_tuning_did(space: Path) -> None:
    scores = {("pendulum", "residual"): [50.0, 52.0], ("pendulum", "delta"): [60.0, 61.0]}
    before = {("pendulum", "residual"): [50.0, 52.0], ("pendulum", "delta"): [40.0, 45.0]}
    comparison = loaded(space)
    folder = write_runs(applied(comparison, {"pendulum": {"residual": OWN, "delta": ANOTHERS}}), scores)
    write_runs(untuned(comparison), before)
    record = {"tune": {}, "arms": {"pendulum": {"residual": vars(OWN), "delta": vars(ANOTHERS)}}}
    (folder / "tuning.json").write_text(json.dumps(record))
    residual, delta = tuned_arms(read_study(folder))
    assert (residual.change is not None, delta.change is not None) == (True, True)
    assert [each.change.estimate for each in (residual, delta) if each.change] == [0.0, 18.0]
    assert delta.quartiles == (-3.5, -3.5, -3.5)
    assert (delta.losses, residual.losses) == ({"residual": 0.0}, {"delta": None})
    page = write_report(folder).read_text(encoding="utf-8")
    assert "learning_rate 0.001, head_width 8" in page
    assert "delta on pendulum has the values that were chosen for residual" in page
    [_, row] = table(folder / "report" / "tuning.csv")
    assert (row["before"], row["after"], row["change"]) == ("42.5", "60.5", "18.0")
    assert (row["finished"], row["pruned"], row["failed"], row["from"]) == ("1", "0", "1", "arm residual")


def test_a_damaged_record_is_refused(space: Path) -> None:
    comparison = loaded(space)
    comparison.folder.mkdir(parents=True)
    (comparison.folder / "tuning.json").write_text('{"tune": {}, "arms": {"pendulum": 3}}')
    with pytest.raises(ConfigError, match=r"tuning\.json"):
        compare(comparison)
