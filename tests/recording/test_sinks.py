"""The sinks of a run's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, Logger, TensorBoardOutputFormat

from deltarl import recording
from deltarl.recording import SINKS, FileSink, Sink, TensorBoard, make_logger, sinks_of
from deltarl.recording.spec import LoggerSpec, TableSpec, TensorBoardSpec


def log(logger: Logger, step: int, **values: float) -> None:
    for name, value in values.items():
        logger.record(f"train/{name}", value)
    logger.record("train/of_the_table", 7, exclude="tensorboard")
    logger.dump(step)


def test_each_sink_of_a_run_takes_what_is_logged(tmp_path: Path) -> None:
    logger = make_logger(tmp_path)
    log(logger, 10, loss=0.5, nothing=math.nan)
    logger.close()
    assert [type(sink) for sink in sinks_of(logger)] == list(SINKS)
    assert all(issubclass(kind, FileSink) for kind in SINKS)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert {name: row[name] for name in row if name != "wall_seconds"} == {
        "step": 10,
        "train/loss": 0.5,
        "train/nothing": None,
        "train/of_the_table": 7,
    }
    assert sorted((tmp_path / "progress.csv").read_text().splitlines()[0].split(",")) == sorted(list(row)[2:])
    [events] = TensorBoard.growing(tmp_path)
    assert b"train/loss" in (content := events.read_bytes())
    assert b"of_the_table" not in content


def test_what_came_after_a_checkpoint_is_taken_back(tmp_path: Path) -> None:
    logger = make_logger(tmp_path)
    log(logger, 10, loss=0.5)
    sizes = recording.sizes(tmp_path, logger)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in sizes}
    assert {name: len(content) for name, content in before.items()} == sizes
    assert len(sizes) == 2  # the table is written again from metrics.jsonl
    log(logger, 20, loss=0.25)
    logger.close()
    (tmp_path / "events.out.tfevents.9.later").write_bytes(b"of a process that went on too far")

    recording.truncate(tmp_path, sizes)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".csv"} == before
    make_logger(tmp_path).close()
    assert len((tmp_path / "progress.csv").read_text().splitlines()) == 2


def test_in_a_script_stable_baselines3s_own_output_for_tensorboard_is_a_sink(tmp_path: Path) -> None:
    outputs = [HumanOutputFormat(str(tmp_path / "log")), CSVOutputFormat(str(tmp_path / "csv"))]
    logger = Logger(str(tmp_path), [*outputs, TensorBoardOutputFormat(str(tmp_path))])
    [sink] = sinks_of(logger)
    sink.scalars({"gates/actor/0/beta_mean": 0.5}, 3)
    sink.histogram("gates/actor/0/beta", torch.ones(3), 3)
    sink.text("config", "a: 1")
    sink.video("eval/clip", b"GIF89a", (2, 3), 3)
    sink.charts({"gates actor": {"beta": "^gates/actor/"}})
    logger.close()
    [events] = TensorBoard.growing(tmp_path)
    content = events.read_bytes()
    for told in (
        b"gates/actor/0/beta_mean",
        b"gates/actor/0/beta",
        b"config/text_summary",
        b"GIF89a",
        b"custom_scalars",
    ):
        assert told in content


@pytest.mark.parametrize("excluded", [("mine",), ("csv", "mine"), ("csv",), None])
def test_a_user_defined_sink_overrides_only_what_it_accepts(excluded: tuple[str, ...] | None, tmp_path: Path) -> None:
    class Mine(Sink):
        name = "mine"

        def __init__(self) -> None:
            self.taken: dict[str, float] = {}

        def scalars(self, values, step):  # type: ignore[no-untyped-def]
            self.taken |= {name: value + step for name, value in values.items()}

    sink = Mine()
    logger = Logger(str(tmp_path), [sink])
    logger.record("loss", 0.5)
    logger.record("secret", 1.0, exclude=excluded)
    logger.dump(2)
    sink.histogram("beta", torch.ones(2), 2)
    sink.flush()
    logger.close()
    assert sinks_of(logger) == [sink]
    assert sink.taken == {"loss": 2.5, **({} if excluded and "mine" in excluded else {"secret": 3.0})}


@pytest.mark.parametrize(
    ("given", "files"),
    [((), []), ((TensorBoardSpec(),), ["events"]), ((TableSpec(), TensorBoardSpec()), ["events", "progress"])],
)
def test_a_run_has_the_loggers_that_its_config_names(
    given: tuple[LoggerSpec, ...], files: list[str], tmp_path: Path
) -> None:
    logger = make_logger(tmp_path, loggers=given)
    log(logger, 10, loss=0.5)
    logger.close()
    assert sorted(path.name.partition(".")[0] for path in tmp_path.iterdir()) == sorted(["metrics", *files])
