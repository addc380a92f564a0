"""Video files are complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from deltarl import ConfigError
from deltarl.training.films import FPS, GIF_WIDTH, Film, Frame, check_path


def frames(count: int, width: int = 64, height: int = 48) -> Iterator[Frame]:
    for index in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:, : 1 + index * width // count] = 255
        yield frame


def test_an_mp4_has_each_frame_at_its_size(tmp_path: Path) -> None:
    with Film(tmp_path / "a.mp4", FPS) as film:
        for frame in frames(12):
            film.add(frame)
    assert (film.frames, film.seconds) == (12, 0.4)
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))[0] == 12
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4")))["size"] == (64, 48)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("shrink", "width"), [(True, GIF_WIDTH), (False, 480)])
def test_a_gif_is_small_unless_a_size_was_asked_for(shrink: bool, width: int, tmp_path: Path) -> None:
    with Film(tmp_path / "a.gif", 25, shrink=shrink) as film:
        for frame in frames(5, 480, 320):
            film.add(frame)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size[0], image.info["duration"]) == (5, width, 40)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_early_leaves_what_was_there(name: str, error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"an older film")

    def stopped() -> None:
        with Film(tmp_path / name, FPS) as film:
            film.add(next(frames(1)))
            raise error

    with pytest.raises(error):
        stopped()
    assert (tmp_path / name).read_bytes() == b"an older film"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_folder_that_goes_away_is_one_message(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "gone"

    def write() -> None:
        with Film(folder / name, FPS) as film:
            for frame in frames(300):
                film.add(frame)

    with pytest.raises(ConfigError, match=rf"^--video: .*gone/{name} cannot be written: [^\n]+$"):
        write()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.avi", r"film\.avi: expected a name that ends in \.mp4 or \.gif"),
        ("nowhere/film.mp4", "nowhere: no such folder"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        check_path(tmp_path / name)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"imageio-ffmpeg: pip install 'deltarl\[video\]'"):
        check_path(tmp_path / "film.mp4")
    check_path(tmp_path / "film.gif")
