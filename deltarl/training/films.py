"""Films: frames written to an MP4 or GIF file as they are drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from deltarl import places
from deltarl.errors import ConfigError

Frame = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # height, width, RGB
FORMATS = (".mp4", ".gif")
FPS = 30
GIF_FPS = 25  # the delay between the frames of a GIF is a whole number of hundredths of a second
GIF_WIDTH = 240


class Film:
    """A video file, written next to its target and moved there once it is complete.

    Use it as a context manager: if the body raises, nothing is left behind.

    Args:
        path: ends in `.mp4` (H.264) or `.gif`; an existing file is replaced.
        fps: frames a second.
        shrink: make the frames of a GIF at most 240 pixels wide and high.

    Raises:
        ConfigError: from `add` and on leaving, if the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, *, shrink: bool = True) -> None:
        self.path, self.fps, self.frames = path, fps, 0
        self._beside = path.with_name(f".{path.name}.partial{path.suffix}")
        self._is_gif = path.suffix.lower() == ".gif"
        self._shrink = shrink
        self._kept: list[Frame] = []
        self._writer: Any = None

    @property
    def seconds(self) -> float:
        """The length of the film so far."""
        return self.frames / self.fps

    def add(self, frame: Frame) -> None:
        """Append a frame, `[height, width, 3]`; for an MP4, height and width must be even."""
        self.frames += 1
        if self._is_gif:
            self._kept.append(small(frame) if self._shrink else frame)
            return
        try:
            if self._writer is None:
                options: dict[str, Any] = {"macro_block_size": 2, "ffmpeg_log_level": "quiet"}
                self._writer = imageio.get_writer(self._beside, fps=self.fps, **options)
            self._writer.append_data(frame)
        except OSError as error:
            raise self._unwritten(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                if self._is_gif:
                    self._beside.write_bytes(gif(self._kept, self.fps))
                self._beside.rename(self.path)
        except OSError as failed:
            if kind is None:
                raise self._unwritten(failed) from None
        finally:
            self._beside.unlink(missing_ok=True)

    def _unwritten(self, error: OSError) -> ConfigError:
        # ffmpeg's errors quote its command line and output; only their first line is useful.
        said = error.strerror or str(error).partition("\n")[0].strip() or type(error).__name__
        return ConfigError(f"--video: {self.path} cannot be written: {said}")


def check_path(path: Path) -> None:
    """Check that a film can be written to `path`, before anything is drawn.

    Raises:
        ConfigError: for an unknown format, a folder that does not exist or is not writable, or a missing package.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--video: {path}: expected a name that ends in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"--video: {path.parent}: no such folder")
    places.check_file(path, "--video")
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # type: ignore[import-untyped]  # noqa: F401, PLC0415
        except ImportError:
            raise ConfigError(
                "--video: MP4 files need the package imageio-ffmpeg: pip install 'deltarl[video]'; or write a .gif"
            ) from None


def small(frame: Frame) -> Frame:
    """Shrink a frame for a GIF to at most 240 pixels wide and high, keeping its proportions."""
    image = Image.fromarray(frame)
    image.thumbnail((GIF_WIDTH, GIF_WIDTH))
    return np.asarray(image)


def gif(frames: Sequence[Frame], fps: float) -> bytes:
    """Encode one or more frames as a GIF that loops forever."""
    first, *rest = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    options: dict[str, Any] = {"append_images": rest, "save_all": True, "loop": 0, "duration": 1000 / fps}
    first.save(file, format="GIF", **options)
    return file.getvalue()
