"""Figures as images, drawn once for all sinks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png_of(figure: Figure) -> tuple[bytes, tuple[int, int]]:
    """Draw a figure; return a PNG, and its height and width in pixels."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi="figure")
    png = file.getvalue()
    # The header of a PNG: width and height in big-endian order.
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    return png, (height, width)
