"""Spaces and searches as data: what is accepted, what is refused and in which words, and what is drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from deltarl.cli import main
from deltarl.errors import ConfigError
from deltarl.library.lookup import names
from deltarl.search import load_search
from deltarl.search.engines import make_pruner, make_sampler
from deltarl.search.load import KIND, read_space
from deltarl.search.space import ChoiceSpec, FloatSpec, is_met
from deltarl.search.storage import Place, check_packages, open_study

# A config that each shipped space is made for.
CONFIGS = {
    "ppo": "hopper_ppo",
    "sac": "half_cheetah_sac",
    "tqc_her": "fetch_push_tqc_her",
    "torsos": "quickstart",
    "everything": "fetch_push_tqc_her",
}


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "s.yaml"


@pytest.mark.parametrize("name", names(KIND))
def test_every_shipped_space_fits_a_config_and_nearly_all_of_it_is_valid(name: str) -> None:
    search = load_search(CONFIGS[name], name)
    assert not [note for note in search.notes if "valid configs" in note]
    assert {"agent.learning_rate"} <= search.spec.space.keys()


BAD = {
    "agent.learning_rat: [1, 2]": "s.yaml:2: space.agent.learning_rat: unknown key; did you mean 'learning_rate'?",
    "torso.knd: [delta]": "s.yaml:2: space.torso.knd: unknown key; did you mean 'kind'?",
    "agnt.gamma: [0.9]": "s.yaml:2: space.agnt.gamma: unknown key; did you mean 'agent'?",
    "agent.gamma: [0.9, 2.0]": "s.yaml:2: space.agent.gamma: input should be less than or equal to 1; got 2.0",
    "agent.gamma: []": "space.agent.gamma.values: expected at least one value",
    "agent.gamma: [0.9, 0.9]": "space.agent.gamma.values: duplicate value",
    "agent.gamma: {type: float, low: 0.9, high: 0.8}": "space.agent.gamma.low: empty range",
    "agent.tau: {type: float, low: 0, high: 0.8, log: true}": "space.agent.tau.low: a log range cannot include 0",
    "agent.n_steps: {type: int, low: -1, high: 8, log: true}": "space.agent.n_steps.low: a log range cannot include 0",
    "agent.gamma: {type: float, low: 0.9, high: 1, log_of_complement: true}": "space.agent.gamma.high: log_of_compl",
    "agent.n_steps: {type: int, low: 3, high: 20, step: 4}": "space.agent.n_steps.step: 3 to 20 is not a multiple of 4",
    "agent.gamma: {type: flot, low: 0.1, high: 0.8}": "space.agent.gamma.type: unknown name 'flot'; did you me",
    "agent.gamma: {low: 0.1, high: 0.8}": "space.agent.gamma.type: missing",
    "env.id: [Hopper-v5, Ant-v5]": "s.yaml:2: space.env.id: scores in different tasks cannot be compared",
    "total_timesteps: [100, 200]": "s.yaml:2: space.total_timesteps: total_timesteps is a condition of the search",
    "torso.depth: {type: choice, values: [1], when: {torso.kin: delta}}": "torso.kin: unknown key; did you mean 'kin",
    "torso.kind: {type: choice, values: [mlp], when: {torso.kind: mlp}}": "conditions in a circle: torso.kind",
    "torso.depth: {type: choice, values: [1], when: {torso.kind: mlp}}": "no condition of any parameter is met",
}


@pytest.mark.parametrize(("line", "message"), BAD.items(), ids=list(BAD))
def test_a_space_that_cannot_be_searched_is_refused(line: str, message: str, space: Path) -> None:
    space.write_text(f"space:\n  {line}\n")
    with pytest.raises(ConfigError) as refused:
        load_search("quickstart", str(space))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler.n_startup=3"], "command line: sampler.n_startup: unknown key; did you mean 'n_startup_trials'?"),
        (["sampler=cma"], "command line: sampler.name: unknown name 'cma'; did you mean 'cmaes'?"),
        (["pruner.reduction_factor=1", "pruner=hyperband"], "pruner.reduction_factor: input should be greater than"),
        (["n_seeds=0"], "command line: n_seeds: input should be greater than or equal to 1"),
        (["seeds=[0,1]"], "give n_seeds= for their number"),
        (["space=ppo"], "give --space NAME"),
        (["agent.gamma=0.9"], "overrides give a value to every parameter"),
        (["agent.gama=0.9"], "command line: agent.gama: unknown key; did you mean 'gamma'?"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(overrides: list[str], message: str, space: Path) -> None:
    space.write_text("space:\n  agent.gamma: [0.9, 0.99]\n")
    with pytest.raises(ConfigError) as refused:
        load_search("quickstart", str(space), *overrides)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torso", "command line: space: no space 'torso'; did you mean 'torsos'?"),
        ("s.yaml", "s.yaml:2: space.agent.gama: unknown key; did you mean 'gamma'?"),
    ],
)
def test_bad_input_is_one_line_with_status_2_and_nothing_is_written(
    name: str, message: str, space: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space.write_text("space:\n  agent.gama: [0.9]\n")
    monkeypatch.setattr("sys.argv", ["deltarl", "tune", "quickstart", "--space", name])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"deltarl: error: {message}\n"
    assert list(space.parent.iterdir()) == [space]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////no/such/folder/study.db", None),
        ("journal:/no/such/folder/study.log", None),
        ("nonsense", None),
        ("postgresql://me:secret@localhost/db", "postgresql://me:***@localhost/db"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(
    url: str, shown: str | None, space: Path
) -> None:
    space.write_text("space:\n  agent.gamma: [0.9]\n")
    search = load_search("quickstart", str(space))
    with pytest.raises(ConfigError) as refused:
        open_study(search, Place(search.folder, url))
    assert str(refused.value).startswith(f"--storage: {shown or url} cannot be opened: ")
    assert "secret" not in str(refused.value)


def test_an_override_fixes_a_parameter_and_conditions_ask_the_config(space: Path) -> None:
    space.write_text(
        "space:\n"
        "  torso.head_width: {type: choice, values: [4, 8], when: {torso.kind: delta}}\n"
        "  torso.kind: [delta, mlp]\n"
        "  agent.gamma: [0.9, 0.99]\n"
    )
    search = load_search("quickstart", str(space), "torso=delta")
    assert search.pinned == ("torso.kind",)
    assert search.is_searched("torso.head_width", {})
    assert "torso.kind is given as an override, and not searched" in search.notes
    other = load_search("quickstart", str(space), "torso=mlp")
    assert not other.is_searched("torso.head_width", {})
    free = load_search("quickstart", str(space))
    assert list(free.spec.space).index("torso.kind") < list(free.spec.space).index("torso.head_width")
    assert free.is_searched("torso.head_width", {"torso.kind": "delta"})
    assert not free.is_searched("torso.head_width", {"torso.kind": "mlp"})


def test_a_trial_is_the_config_with_the_values_on_tuning_seeds(space: Path) -> None:
    space.write_text("space:\n  agent.learning_rate: [1.0e-3, {schedule: kl_adaptive}]\n")
    search = load_search("quickstart", str(space), "n_seeds=2", "out=there", "name=n", "score=iqm")
    run = search.trial(7, {"agent.learning_rate": {"schedule": "kl_adaptive"}})
    assert (run.out, run.name, run.seeds) == ("there/n/trials", "trial-0007", (900_000, 900_001))
    assert run.agent.learning_rate.schedule == "kl_adaptive"
    assert search.spec.score == "iqm"


def test_values_that_do_not_go_together_are_noted_and_a_pruner_without_evaluations(space: Path) -> None:
    space.write_text("space:\n  torso.width: [16, 20]\n  torso.head_width: [4, 8]\n")
    idle, misfits = load_search("quickstart", str(space), "eval.every=null").notes
    assert "of the space are not valid configs, and such trials fail" in misfits
    assert "do not divide width 20" in misfits
    assert idle == "no trial is pruned, because eval.every is null"
    assert load_search("quickstart", str(space), "eval.every=null", "pruner=none").notes == (misfits,)


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.write_text("space:\n  agent.gamma: [0.9, 0.99]\n")
    monkeypatch.setitem(sys.modules, "cmaes", None)
    check_packages(load_search("quickstart", str(space)))
    with pytest.raises(ConfigError, match=r"^tune: cmaes not installed; install with: pip install 'deltarl\[tune\]'$"):
        check_packages(load_search("quickstart", str(space), "sampler=cmaes"))


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "qmc", "tpe group"])
def test_what_is_drawn_depends_on_the_trial_and_the_seed_alone(sampler: str, space: Path) -> None:
    name, *group = sampler.split()
    space.write_text(
        "space:\n  agent.gamma: {type: float, low: 0.9, high: 0.999, log_of_complement: true}\n"
        "  agent.learning_rate: {type: float, low: 0.001, high: 0.1, log: true}\n"
        "  agent.n_epochs: {type: int, low: 1, high: 9, step: 2}\n  torso.kind: [delta, mlp]\n"
    )
    changes = [f"sampler={name}", *(["sampler.group=true"] if group else []), "pruner=none"]

    def drawn(seed: int) -> list[dict[str, Any]]:
        spec = load_search("quickstart", str(space), *changes, f"sampler.seed={seed}").spec
        study = optuna.create_study(direction="maximize", pruner=make_pruner(spec.pruner, 10))
        found = []
        for number in range(14):
            study.sampler = make_sampler(spec.sampler, number)
            trial = study.ask()
            values = {path: parameter.draw(trial, path) for path, parameter in spec.space.items()}
            study.tell(trial, float(values["agent.gamma"]))
            found.append(values)
        return found

    first = drawn(1)
    assert first == drawn(1)
    assert len({str(values) for values in first}) == len(first)
    assert all(0.9 <= values["agent.gamma"] <= 0.999 for values in first)
    assert {values["agent.n_epochs"] for values in first} <= {1, 3, 5, 7, 9}
    if name != "qmc":  # whose sequence is the same, unless it is scrambled
        assert first != drawn(2)


@pytest.mark.parametrize("name", ["median", "successive_halving", "hyperband", "none"])
def test_pruners_take_their_arguments_by_name(name: str, space: Path) -> None:
    space.write_text(f"space:\n  agent.gamma: [0.9, 0.99]\npruner: {name}\n")
    kinds = {
        "median": optuna.pruners.MedianPruner,
        "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "none": optuna.pruners.NopPruner,
    }
    assert type(make_pruner(read_space(space).pruner, 10)) is kinds[name]


def test_a_choice_may_have_any_values_and_equal_numbers_are_not_booleans() -> None:
    study = optuna.create_study()
    choice = ChoiceSpec(values=(True, 1, None, {"schedule": "linear"}, "x"))
    drawn = [choice.draw(study.ask(), "p") for _ in range(60)]
    assert all(any(value is each for value in drawn) for each in choice.values)
    assert is_met({"a": (1,)}, {"a": 1})
    assert not is_met({"a": (1,)}, {"a": True})
    assert not is_met({"a": (1,)}, {})


def test_discount_factors_are_drawn_evenly_in_the_logarithm_of_their_complement() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    spec = FloatSpec(type="float", low=0.9, high=0.9999, log_of_complement=True)
    drawn = [spec.draw(study.ask(), "g") for _ in range(300)]
    assert 0.9 <= min(drawn) <= max(drawn) <= 0.9999
    assert 0.55 < sum(value > 0.99 for value in drawn) / 300 < 0.78  # two of three decades
