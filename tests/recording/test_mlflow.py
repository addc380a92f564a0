"""MLflow, as its own client reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from deltarl.recording import About, make_logger, png_of
from deltarl.recording.mlflow import LONGEST_VALUE
from deltarl.recording.sinks import logged
from deltarl.recording.spec import MlflowSpec
from deltarl.recording.tracker import Ending
from tests.trackers import offline


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with offline(tmp_path_factory.mktemp("trackers")) as uri:
        yield uri


def write(folder: Path, steps: range, ending: Ending = "finished", *, name: str = "hop") -> None:
    """Write rows as a run does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: hop")
    settings = {
        "torso.width": 8,
        "total_timesteps": steps[-1],
        "note": "x" * 9000,
        "env.kwargs.[0]": None,
        **{f"key{n}": n for n in range(150)},
    }
    facts = {"git": "abc", "packages": {"torch": "2"}}
    about = About(folder, name, 3, "Hopper-v5", "ppo", {}, settings, facts)
    logger = make_logger(folder, loggers=[MlflowSpec()], about=lambda: about)
    with logged(logger):
        [*_, sink] = logger.output_formats
        for step in steps:
            logger.record("train/loss (mean)", 1 / step)
            logger.dump(step)
        sink.histogram("beta", torch.ones(4), steps[-1])  # type: ignore[attr-defined]
        sink.figure("torso/figures/../beta", *png_of(Figure(figsize=(1, 1))), steps[-1])  # type: ignore[attr-defined]
        sink.video("eval/clip", b"GIF89a", (4, 4), steps[-1])  # type: ignore[attr-defined]
        if ending == "finished":
            sink.summary({"return_mean": 7.0, "status": "finished"}, steps[-1])  # type: ignore[attr-defined]
        sink.ended(ending)  # type: ignore[attr-defined]


def runs_of(uri: str, name: str = "hop") -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


def artifacts(client: Any, run_id: str, path: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run_id, path):
        if each.is_dir:
            yield from artifacts(client, run_id, each.path)
        else:
            yield each.path


def test_a_run_is_recorded_and_continued(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "hop" / "seed-3"
    write(folder, range(10, 40, 10), "stopped")
    client, [run] = runs_of(store)
    assert (run.info.run_name, run.info.status) == ("seed-3", "KILLED")
    assert len(run.data.params) == 154
    assert (run.data.params["torso.width"], run.data.params["env.kwargs._0_"]) == ("8", "null")
    assert run.data.params["note"] == "x" * LONGEST_VALUE
    wanted = {"task": "Hopper-v5", "algorithm": "ppo", "seed": "3", "git": "abc", "packages.torch": "2"}
    assert run.data.tags.items() >= wanted.items()

    write(folder, range(20, 60, 10))
    client, [run] = runs_of(store)
    history = client.get_metric_history(run.info.run_id, "train/loss _mean_")
    assert [(each.step, each.value) for each in history] == [(step, 1 / step) for step in range(10, 60, 10)]
    assert (run.info.status, run.data.metrics["final/return_mean"]) == ("FINISHED", 7.0)
    assert run.data.tags["final.status"] == "finished"
    assert sorted(artifacts(client, run.info.run_id)) == [
        "config.yaml",
        *(f"eval/clip/{step:09d}.gif" for step in (30, 50)),
        *(f"torso/figures/_/beta/{step:09d}.png" for step in (30, 50)),
    ]
    assert caplog.text == ""


@pytest.mark.slow  # a new database takes seconds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SQLAlchemy's, about MLflow's tables
def test_without_a_server_there_is_a_database_beside_the_seeds(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    del store
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for seed in (0, 1):
        write(tmp_path / "hop" / f"seed-{seed}", range(10, 40, 10))
    client, runs = runs_of(f"sqlite:///{tmp_path}/hop/mlflow.db")
    assert len(runs) == 2
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "train/loss _mean_")) == 3
        assert "config.yaml" in artifacts(client, run.info.run_id)
        assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(tmp_path / "hop" / "mlflow")
    assert caplog.text == ""
