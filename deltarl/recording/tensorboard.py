"""TensorBoard's event files."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

from deltarl.recording.sink import FileSink

log = logging.getLogger(__name__)

MOST_SECONDS = 2


class TensorBoard(FileSink):
    """Writes event files through Stable-Baselines3's own output.

    Args:
        output: the output, which may be the user's.
    """

    name = "tensorboard"
    compares_runs = True

    def __init__(self, output: TensorBoardOutputFormat) -> None:
        self._output, self._writer = output, output.writer

    @classmethod
    def open(cls, folder: Path, elapsed_seconds: float = 0.0) -> Self:
        """Open a new event file; TensorBoard reads all files in the folder in order."""
        del elapsed_seconds
        _wait_for_a_later_second(folder)
        return cls(TensorBoardOutputFormat(str(folder)))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._output.write(key_values, key_excluded, step)  # which also handles figures and videos that the user logs

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, values: torch.Tensor, step: int) -> None:
        self._writer.add_histogram(tag, values, step)

    def figure(self, tag: str, png: bytes, size: tuple[int, int], step: int) -> None:
        self._image(tag, png, size, step, colorspace=4)

    def video(self, tag: str, gif: bytes, size: tuple[int, int], step: int) -> None:
        # As an image, because TensorBoard plays animated images and this does not need MoviePy.
        self._image(tag, gif, size, step, colorspace=3)

    def _image(self, tag: str, encoded: bytes, size: tuple[int, int], step: int, *, colorspace: int) -> None:
        height, width = size
        image = Summary.Image(height=height, width=width, colorspace=colorspace, encoded_image_string=encoded)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]

    def text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text)

    def hparams(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        self._output.write({"hparams": HParam(settings, scores)}, {"hparams": ()})

    def charts(self, charts: Mapping[str, Mapping[str, str]]) -> None:
        self._writer.add_custom_scalars(
            {
                category: {title: ["Multiline", [pattern]] for title, pattern in titles.items()}
                for category, titles in charts.items()
            }
        )

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._output.close()

    @classmethod
    def growing(cls, folder: Path) -> list[Path]:
        return sorted(folder.glob("events.out.tfevents.*"))


def _wait_for_a_later_second(folder: Path) -> None:
    """TensorBoard reads event files in the order of their names, which start with their creation time in seconds."""
    names = (re.match(r"events\.out\.tfevents\.(\d{1,12})\.", path.name) for path in folder.glob("events.*"))
    made = [int(name[1]) for name in names if name is not None]
    if not made:
        return
    if (wait := max(made) + 1 - time.time()) > MOST_SECONDS:
        log.warning("%s: its event files are from the future; TensorBoard may show its curves out of order", folder)
    elif wait > 0:
        time.sleep(wait)
