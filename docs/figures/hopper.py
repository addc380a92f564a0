"""Make README's film of the trained hopper from a GIF that `deltarl play` has written.

    deltarl train quickstart
    deltarl play runs/quickstart/seed-0 --video hopper.gif --steps 800
    python docs/figures/hopper.py hopper.gif

writes hopper.gif next to this file: the first seconds, with one palette for all frames, which keeps the file small.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageSequence

TARGET = Path(__file__).resolve().parent / "hopper.gif"
SECONDS = 6
COLOURS = 64


def shorten(source: Path, target: Path) -> None:
    """Write the shortened film.

    Args:
        source: A GIF.
        target: Where the film goes; overwritten.
    """
    with Image.open(source) as film:
        duration = film.info["duration"]
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
    kept = frames[: int(SECONDS * 1000 / duration)]
    palette = kept[len(kept) // 2].quantize(COLOURS)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in kept)
    first.save(target, save_all=True, append_images=rest, loop=0, duration=duration, optimize=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="GIF that `deltarl play` has written")
    shorten(parser.parse_args().source, TARGET)


if __name__ == "__main__":
    main()
