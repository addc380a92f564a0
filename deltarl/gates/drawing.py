"""What the figures of a gate record have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = Mapping[str, NDArray[Any]]

INK, RULE = "#1f2933", "#d5dbe1"
WIDTH = 8.0
BETA_LABEL, SHARE_LABEL = "mean β", "erase share"
BAR_LABELS = (BETA_LABEL, SHARE_LABEL)


def new_figure(height: float) -> Figure:
    # Not pyplot, which keeps figures and a backend as global state.
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(WIDTH, 1.5 + height), dpi=110, layout="constrained")


def finished(figure: Figure, title: str, label: str = "training steps", legend: bool = False) -> Figure:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    for axis in figure.axes:
        if (place := axis.get_subplotspec()) is not None and place.is_last_row():
            axis.set_xlabel(label, fontsize=9, color=INK)
        axis.spines[:].set_color(RULE)
        axis.tick_params(color=RULE, labelcolor=INK, labelsize=8)
        if axis.get_ylabel() not in BAR_LABELS:
            axis.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=9, color=INK)
            axis.margins(x=0)
        if label == "training steps" and axis.get_ylabel() not in BAR_LABELS:
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k" if value else "0")
    if legend:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure
