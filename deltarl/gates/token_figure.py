"""A figure of an encoder's gates by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deltarl.gates.drawing import BETA_LABEL, Record, finished, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIX = "/beta_by_token"


def panels_of(record: Record, source: str = "gates") -> list[tuple[str, int]]:
    """Encoder and block for every block that reads more than one token."""
    found = []
    for name, table in record.items():
        if name.startswith(f"{source}/") and name.endswith(_SUFFIX):
            net = name.removeprefix(f"{source}/").removesuffix(_SUFFIX)
            several = np.isfinite(table).any(0).sum(-1) > 1
            found += [(net, int(block)) for block in np.flatnonzero(several)]
    return found


def token_map(record: Record, source: str = "gates") -> Figure:
    """Mean beta of each token over training, newest at the top, one panel per block."""
    panels = panels_of(record, source)
    figure = new_figure(1.3 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    steps = record["steps"]
    edges = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:] + 1])
    for (net, block), axis in zip(panels, axes, strict=True):
        table = record[f"{source}/{net}{_SUFFIX}"][:, block]
        ages = np.arange(table.shape[1] + 1) - 0.5  # steps back from the newest
        image = axis.pcolormesh(edges, ages, table[:, ::-1].T, cmap="RdBu_r", vmin=0, vmax=2)
        axis.invert_yaxis()
        axis.set_ylabel(f"{net}\nblock {block}\nsteps back")
    bar = figure.colorbar(image, ax=list(axes), shrink=0.9, pad=0.015, ticks=[0, 0.5, 1, 1.5, 2])
    bar.set_label(BETA_LABEL)
    bar.outline.set_visible(False)
    return finished(figure, "Gate β by token over training")
