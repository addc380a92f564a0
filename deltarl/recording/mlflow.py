"""MLflow: an experiment for each run, and a run of MLflow for each seed."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deltarl.recording.spec import MlflowSpec
from deltarl.recording.tracker import About, Ending, Row, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

# MLflow's limits; older servers take fewer characters in a value than newer ones.
MOST_METRICS, MOST_PARAMS = 1_000, 100
LONGEST_NAME, LONGEST_VALUE = 250, 500
_REFUSED = re.compile(r"[^\w\-. :/]")
_STATUS: dict[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Files of the run's folder that are uploaded when it ends.
_FILES = ("config.yaml", "provenance.json", "result.json", "gates.npz")


def target(folder: Path) -> str:
    """The server or store; by default a file next to the seeds' folders, because its content names absolute paths."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_beside(folder)}/mlflow.db"


def _beside(folder: Path) -> Path:
    return folder.absolute().parent


class Mlflow(Tracker):
    """A run of MLflow. Histograms have no place in it; the record of the gates is uploaded as a file.

    Args:
        spec: its options.
        about: the run.
        id: of the run to continue; empty for a new one.
    """

    name = "mlflow"

    def __init__(self, spec: MlflowSpec, about: About, id: str = "") -> None:  # noqa: A002
        from mlflow import MlflowClient  # noqa: PLC0415

        self._folder = about.folder
        uri = target(about.folder)
        with _quiet(), _alone(_beside(about.folder)):
            self._client = MlflowClient(tracking_uri=uri)  # which leaves MLflow's global state alone
            if id:
                self.id = id
                self._client.update_run(id, status="RUNNING")
            else:
                experiment = spec.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or about.name
                place = None if "MLFLOW_TRACKING_URI" in os.environ else _beside(about.folder) / "mlflow"
                experiment_id = self._experiment(experiment, None if place is None else place.as_uri())
                self.id = self._client.create_run(experiment_id, run_name=f"seed-{about.seed}").info.run_id
        self.where = f"{uri}, run {self.id}"
        self._describe(about, params=not id)

    def _experiment(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        if (found := self._client.get_experiment_by_name(name)) is None:
            # Another seed may create it at the same time.
            with suppress(MlflowException):
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise RuntimeError(f"the experiment '{name}' cannot be created")
        return str(found.experiment_id)

    def _describe(self, about: About, *, params: bool) -> None:
        from mlflow.entities import Param, RunTag  # noqa: PLC0415

        facts = {"task": about.task, "algorithm": about.algorithm, "seed": about.seed, "folder": str(about.folder)}
        tags = [RunTag(_name(key), _value(value)) for key, value in (facts | _flat(about.facts)).items()]
        # Parameters of a run cannot be changed later.
        pairs = [Param(_name(key), _value(value)) for key, value in about.settings.items()] if params else []
        for start in range(0, max(len(tags), len(pairs)), MOST_PARAMS):
            part = slice(start, start + MOST_PARAMS)
            self._client.log_batch(self.id, params=pairs[part], tags=tags[part])

    def rows(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        metrics = [
            Metric(_name(tag), value, round(row.time * 1000), row.step)
            for row in rows
            for tag, value in row.values.items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.id, metrics=metrics[start : start + MOST_METRICS])

    def image(self, tag: str, png: bytes, step: int) -> None:
        self._upload(f"{_name(tag)}/{step:09d}.png", png)

    def video(self, tag: str, gif: bytes, step: int) -> None:
        self._upload(f"{_name(tag)}/{step:09d}.gif", gif)

    def _upload(self, name: str, content: bytes) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(content)
            self._client.log_artifact(self.id, str(path), str(Path(name).parent))

    def summary(self, scores: Mapping[str, float | str], step: int) -> None:
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415

        metrics, tags = [], []
        for name, value in scores.items():
            if isinstance(value, str):
                tags.append(RunTag(f"final.{name}", _value(value)))
            else:
                metrics.append(Metric(f"final/{name}", value, 0, step))
        self._client.log_batch(self.id, metrics=metrics, tags=tags)

    def close(self, ending: Ending) -> None:
        try:
            for path in (self._folder / name for name in _FILES):
                if path.is_file():
                    self._client.log_artifact(self.id, str(path))
        finally:
            self._client.set_terminated(self.id, _STATUS[ending])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: several seeds start together, and MLflow creates a database for the first that comes."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's lines about the tables of a new store, unless the user has chosen a level."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _flat(facts: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in facts.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return found


def _name(tag: str) -> str:
    """A name that MLflow accepts; also as a path, which must not leave its folder."""
    name = _REFUSED.sub("_", tag)[:LONGEST_NAME]
    return "/".join(part if part.strip(".") else "_" for part in name.split("/"))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:LONGEST_VALUE]
