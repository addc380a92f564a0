"""Searches from start to finish, with real runs and Optuna."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import time
from pathlib import Path

import forked
import optuna
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl.cli import main
from deltarl.cli.tables import UNLIMITED_WIDTH
from deltarl.errors import ConfigError
from deltarl.launch import train
from deltarl.library import load_config
from deltarl.search import Tuned, load_search, tune
from deltarl.search.report import found_in
from deltarl.search.storage import MOST_DEATHS, Place, claimed, open_study
from deltarl.search.trials import aggregated
from deltarl.training import TrainingStopped
from deltarl.training.result import result_in

SPACE = """
space:
  agent.learning_rate: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  agent.gamma: {type: float, low: 0.9, high: 0.999, log_of_complement: true}
  torso.kind: [delta, mlp]
  torso.width: {type: choice, values: [16, 20], when: {torso.kind: delta}}
  torso.head_width: {type: choice, values: [4, 8], when: {torso.kind: delta}}
sampler: {name: random, seed: 1}
pruner: {name: median, n_startup_trials: 2, n_warmup_steps: 1}
"""
SMALL = (
    "env=inverted_pendulum",
    "env.n_envs=1",
    "total_timesteps=128",
    "agent.n_steps=32",
    "agent.batch_size=32",
    "agent.n_epochs=1",
    "torso.depth=1",
    "eval={every: 32, episodes: 2}",
    "checkpoint.every=32",
    "gates.every=null",
    "device=cpu",
    "n_seeds=2",
    "name=small",
)
TRIALS = 5


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spaces") / "space.yaml"
    path.write_text(SPACE)
    return path


def run(space: Path, out: Path, *overrides: str, trials: int = TRIALS, **options: object) -> tuple[Tuned, str]:
    search = load_search("quickstart", str(space), *SMALL, f"out={out}", *overrides)
    held = io.StringIO()
    console = Console(file=held, width=UNLIMITED_WIDTH)
    return tune(search, console, ["deltarl", "tune"], trials=trials, jobs=1, **options), held.getvalue()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tuned(space: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tuned, str]:
    return run(space, tmp_path_factory.mktemp("runs"))


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_trials_end_in_each_of_the_ways_and_are_listed(tuned: tuple[Tuned, str]) -> None:
    found, shown = tuned
    states = found.found.counts
    assert sum(states.values()) == TRIALS
    assert {"complete", "pruned", "fail"} <= states.keys()
    rows = table(found.folder)
    assert [row["state"] for row in rows] == [row.state for row in found.found.rows]
    for row in rows:
        runs = sorted((found.folder / "trials" / f"trial-{int(row['trial']):04}").glob("seed-*/result.json"))
        assert len(runs) == {"complete": 2, "fail": 0}.get(row["state"], len(runs))
        assert ("do not divide width 20" in row["reason"]) == (row["state"] == "fail")
        assert bool(row["torso.width"]) == (row["torso.kind"] == "delta")
        assert f"trial {row['trial']}  " in shown
        if row["state"] == "pruned":
            assert result_in(runs[-1].parent).status == "stopped"
            assert result_in(runs[-1].parent).steps < 128
    assert f"({TRIALS} of {TRIALS} trials: " in shown


def test_the_best_config_reproduces_its_trials_scores_exactly(tuned: tuple[Tuned, str], tmp_path: Path) -> None:
    found, _ = tuned
    best = found.found.best[0]
    assert best.score == max(row.score for row in found.found.rows if row.score is not None)
    assert best.score == sum(best.scores) / 2
    assert found.best is not None
    spec = load_config(str(found.best), f"out={tmp_path}")
    assert spec.seeds == (900_000, 900_001)
    results = train(spec, Console(file=io.StringIO()), jobs=1)
    assert tuple(result.final_return_mean for result in results) == best.scores
    assert (tmp_path / "small-best" / "seed-900000").is_dir()


def test_plots_are_one_page_that_needs_no_network(tuned: tuple[Tuned, str]) -> None:
    page = tuned[0].page.read_text()
    for title in ("History", "Evaluations", "Importances", "Slices", "Parallel coordinates"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("Plotly.newPlot(") == 5
    assert "<script src=" not in page
    assert "cdn.plot.ly" not in page.replace("https://cdn.plot.ly/un/", "")  # a map's data, asked for by maps only


def test_trials_are_runs_of_tensorboard_with_values_and_score(tuned: tuple[Tuned, str]) -> None:
    found, _ = tuned
    best = found.found.best[0]
    events = EventAccumulator(str(found.folder / "summary" / f"trial-{best.number:04}"))
    events.Reload()
    assert events.Scalars("tune/score")[0].value == pytest.approx(best.score)
    stored = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"agent.learning_rate" in stored
    assert b"torso.kind" in stored
    assert list((found.folder / "trials" / f"trial-{best.number:04}" / "seed-900000").glob("events.out.tfevents.*"))


def test_the_same_command_trains_nothing_and_a_larger_number_continues(
    tuned: tuple[Tuned, str], space: Path, tmp_path: Path
) -> None:
    before = tuned[0].found.rows
    shutil.copytree(tuned[0].folder, tmp_path / "small")
    again, shown = run(space, tmp_path)
    assert (again.found.rows, shown) == (before, "")
    more, shown = run(space, tmp_path, trials=TRIALS + 1)
    assert more.found.rows[:TRIALS] == before
    assert f"trial {TRIALS}  " in shown
    assert len(more.found.rows) == TRIALS + 1


def test_a_study_of_other_runs_is_refused_and_left_as_it_is(
    tuned: tuple[Tuned, str], space: Path, tmp_path: Path
) -> None:
    out = tuned[0].folder.parent
    kept = (tuned[0].folder / "study.yaml").read_bytes()
    for changes, message in (
        (["agent.n_epochs=2"], "small: this study has run.agent.n_epochs 1, but it is now 2; change it back"),
        (["n_seeds=3"], "this study has n_seeds 2, but it is now 3"),
    ):
        with pytest.raises(ConfigError) as refused:
            run(space, out, *changes)
        assert message in str(refused.value)
    with pytest.raises(ConfigError, match="has storage None, but it is now journal:"):
        run(space, out, storage=f"journal:{tmp_path / 'j.log'}")
    assert (tuned[0].folder / "study.yaml").read_bytes() == kept
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"contains files but no study\.yaml"):
        run(space, tmp_path)
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["notes.txt"]


def test_a_stopped_study_continues_as_if_it_had_not_been_stopped(
    tuned: tuple[Tuned, str], space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of the first trial, in a journal file this time."""
    storage = f"journal:{tmp_path / 'journal.log'}"

    signals = [signal.SIGINT]  # a second one would end this process

    def interrupt(self: object, worker: str, progress: object) -> None:
        del self, worker, progress
        if signals:
            os.kill(os.getpid(), signals.pop())

    with monkeypatch.context() as patch:
        patch.setattr("deltarl.search.progress.Board.update", interrupt)
        with pytest.raises(TrainingStopped, match=r"^SIGINT: stopped; repeat the command"):
            run(space, tmp_path, storage=storage)
    [running] = table(tmp_path / "small")
    assert running["state"] == "running"
    assert not (tmp_path / "small" / "best.yaml").exists()
    run_folder = tmp_path / "small" / "trials" / "trial-0000" / "seed-900000"
    assert list((run_folder / "checkpoints").iterdir())
    resumed, _ = run(space, tmp_path, trials=2, storage=storage)
    assert (run_folder / "resumes.jsonl").exists()
    assert resumed.found.rows == tuned[0].found.rows[:2]


def test_a_trial_is_worked_on_by_one_process_and_a_dead_ones_is_taken_over(space: Path, tmp_path: Path) -> None:
    search = load_search("quickstart", str(space), *SMALL, f"out={tmp_path}")
    place = Place(search.folder)
    place.folder.mkdir()
    study = open_study(search, place)
    values = []
    for deaths in range(MOST_DEATHS):
        with claimed(search, place, study, 2) as claim:
            assert claim is not None
            assert claim.trial.number == 0
            values.append(claim.values)
            if deaths == 0:
                with claimed(search, place, study, 2) as other:
                    assert other is not None
                    assert other.trial.number == 1
                    study.tell(other.trial, 1.0)
                    with claimed(search, place, study, 2) as third:
                        assert third is None
    assert values[1:] == values[:-1]
    with claimed(search, place, study, 2) as claim:
        assert claim is None
    row = found_in(study).rows[0]
    assert (row.state, row.reason) == ("fail", f"its process died {MOST_DEATHS} times")


def test_scores_are_aggregated() -> None:
    scores = [0.0, 1.0, 2.0, 3.0, 100.0, 4.0, 5.0, 6.0]
    assert aggregated(scores, "mean") == sum(scores) / 8
    assert aggregated(scores, "median") == 3.5
    assert aggregated(scores, "iqm") == 3.5
    assert aggregated([7.0], "iqm") == 7.0


def test_the_command_prints_a_table_of_the_best_within_80_columns(
    tuned: tuple[Tuned, str],
    space: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(tuned[0].folder, tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    command = ["deltarl", "tune", "quickstart", "--space", str(space), *SMALL, "out=."]
    monkeypatch.setattr("sys.argv", [*command, "--trials", str(TRIALS)])
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    assert not exit_.value.code
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{TRIALS} trials: ")
    assert lines[1].split()[:2] == ["trial", str(tuned[0].found.best[0].number)]
    assert max(map(len, lines)) <= 80
    assert lines[-3:] == [
        "best: small/best.yaml",
        "evaluate it with fresh seeds",
        '  deltarl train small/best.yaml "seeds=[0,1,2,3,4]"',
    ]
    assert "failed: " in said.err
    monkeypatch.setattr("sys.argv", [*command, "--dry-run"])
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    assert "torso.head_width     4, 8" in shown
    assert shown.splitlines()[-1] == (
        "each trial: 2 runs of 128 steps, 4 evaluations each; sampler random, pruner median: small"
    )


@pytest.mark.slow
def test_processes_share_a_study_and_one_may_be_killed(space: Path, tmp_path: Path) -> None:
    """A command with two workers is killed in the middle of their trials; another one is at work at the same time."""
    trials, longer = 5, ("total_timesteps=256", "pruner=none")
    arguments = ["tune", "quickstart", *SMALL, *longer, f"out={tmp_path}", "--space", str(space)]
    arguments += ["--trials", str(trials)]

    def begun() -> int:
        return len(list(tmp_path.glob("small/trials/trial-*/seed-*/metrics.jsonl")))

    first = forked.Running(["deltarl", *arguments, "--jobs", "2"], tmp_path)
    while begun() < 1:
        assert not first.has_ended, first.wait()
        time.sleep(0.05)
    second = forked.Running(["deltarl", *arguments, "--jobs", "1"], tmp_path)
    while len(list(tmp_path.glob("small/trials/trial-*/.lock"))) < 3:
        assert not second.has_ended, second.wait()
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    ended = second.wait()
    assert ended.returncode == 0, ended.stderr
    # What the killed one left was taken over by the other one, or is by whoever comes next.
    again = forked.deltarl([*arguments, "--jobs", "1"], tmp_path)
    assert again.returncode == 0, again.stderr
    found = table(tmp_path / "small")
    alone, _ = run(space, tmp_path / "alone", *longer, trials=trials)
    assert [row["state"] for row in found] == [row.state for row in alone.found.rows]
    assert [row["score"] for row in found] == ["" if row.score is None else str(row.score) for row in alone.found.rows]
    storage = f"sqlite:///{tmp_path / 'small' / 'study.db'}"
    assert optuna.load_study(study_name="small", storage=storage).best_value == alone.found.best[0].score
