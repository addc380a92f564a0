"""Figures of a gate record: beta and erase share by block over training, regimes, and eigenvalues of the shortcut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from deltarl.gates.drawing import BETA_LABEL, INK, SHARE_LABEL, Record, finished, new_figure
from deltarl.gates.statistics import REGIMES
from deltarl.gates.token_figure import panels_of, token_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart for colour-blind readers.
REGIME_COLOURS = dict(zip(REGIMES, ("#bdd7e7", "#0072b2", "#d5dbe1", "#d55e00"), strict=True))
REGIME_LABELS = {
    "identity_fraction": "β < 0.25",
    "projection_fraction": "|β \N{MINUS SIGN} 1| ≤ 0.25",
    "between_fraction": "between",
    "reflection_fraction": "β > 1.75",
}
SHARES = "Greys"  # colours of erase shares, 0 to 1
FIRST, LAST = "#56b4e9", "#d55e00"
MINUS = "\N{MINUS SIGN}"
ROW = 0.95
MOST_NAMED = 8  # blocks in a legend


def gated_networks(record: Record, source: str = "gates", statistic: str = "beta_mean") -> list[str]:
    """The networks of a record whose blocks have gates, or another statistic (`erase_share` for those that erase)."""
    suffix = f"/{statistic}"
    keys = [key for key in record if key.startswith(f"{source}/") and key.endswith(suffix)]
    return [key.removeprefix(f"{source}/").removesuffix(suffix) for key in keys]


def heat_map(record: Record, source: str = "gates") -> Figure:
    """Mean beta and erase share of each block over training, one row per network."""
    nets = gated_networks(record, source)
    heights = [0.45 + 0.22 * _depth(record, net, source) for net in nets]
    figure = new_figure(sum(heights))
    axes = figure.subplots(len(nets), 2, sharex=True, sharey="row", squeeze=False, height_ratios=heights)
    steps = record["steps"]
    edges = np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:] + 1])
    for net, (left, right) in zip(nets, axes, strict=True):
        beta = record[f"{source}/{net}/beta_mean"]
        share = record.get(f"{source}/{net}/erase_share", np.zeros_like(beta))
        rows = np.arange(beta.shape[1] + 1) - 0.5
        gate_image = left.pcolormesh(edges, rows, beta.T, cmap="RdBu_r", vmin=0, vmax=2)
        share_image = right.pcolormesh(edges, rows, share.T, cmap=SHARES, vmin=0, vmax=1)
        left.set_yticks(range(beta.shape[1]), [str(block) for block in range(beta.shape[1])])
        left.invert_yaxis()
        left.set_ylabel(f"{net}\nblock")
    for image, column, label, ticks in (
        (gate_image, 0, BETA_LABEL, [0, 0.5, 1, 1.5, 2]),
        (share_image, 1, SHARE_LABEL, [0, 0.5, 1]),
    ):
        bar = figure.colorbar(image, ax=axes[:, column], shrink=0.9, pad=0.015, ticks=ticks)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return finished(figure, "Gate β and erase share by block over training")


def lines(record: Record, source: str = "gates") -> Figure:
    """Beta and erase share over training, with a colour for each block and a column for each network."""
    nets = gated_networks(record, source)
    depths = [_depth(record, net, source) for net in nets]
    colours = _colours_of_blocks(max(depths))
    figure = new_figure(2.6)
    axes = figure.subplots(2, len(nets), sharex=True, sharey="row", squeeze=False)
    steps = record["steps"]
    marker = "o" if len(steps) == 1 else ""
    for net, depth, (above, below) in zip(nets, depths, axes.T, strict=True):
        above.set_title(net, fontsize=10, color=INK)
        mean, spread = (record[f"{source}/{net}/{name}"].T for name in ("beta_mean", "beta_std"))
        share = record.get(f"{source}/{net}/erase_share", np.full((len(steps), depth), np.nan)).T
        for block in range(depth):
            colour, low, high = colours[block], mean[block] - spread[block], mean[block] + spread[block]
            above.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            above.plot(steps, mean[block], color=colour, marker=marker)
            below.plot(steps, share[block], color=colour, marker=marker)
        above.set_ylim(0, 2)
        below.set_ylim(0, 1)
    for block in np.linspace(0, len(colours) - 1, min(len(colours), MOST_NAMED)).round().astype(int):
        axes[0, 0].plot([], [], color=colours[block], label=f"block {block}")
    axes[0, 0].set_ylabel("β, mean\nand spread")
    axes[1, 0].set_ylabel("erase\nshare")
    return finished(figure, "Gate β and erase share over training, a colour for each block", legend=True)


def _colours_of_blocks(depth: int) -> list[tuple[float, ...]]:
    """From dark to light with depth; viridis without its yellow end, which is hard to see on white."""
    from matplotlib import colormaps  # noqa: PLC0415 - training does without it

    return [tuple(colour) for colour in colormaps["viridis"](np.linspace(0, 0.85, depth))]


def regimes(record: Record, source: str = "gates") -> Figure:
    """Fractions of gates in each regime and erase share over training, one panel per block."""
    figure = new_figure(ROW * _deepest(record, source))
    for net, block, axis in _panels(figure, record, source):
        shares = [record[f"{source}/{net}/{name}"][:, block] for name in REGIMES]
        colours = [REGIME_COLOURS[name] for name in REGIMES]
        axis.stackplot(record["steps"], shares, colors=colours, labels=[REGIME_LABELS[name] for name in REGIMES])
        share = record[f"{source}/{net}/erase_share"][:, block]
        axis.plot(record["steps"], share, color="white", linewidth=3)  # outline, to stand out from dark areas
        axis.plot(record["steps"], share, color=INK, linewidth=1.2, label=SHARE_LABEL)
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 1], ["0", "1"])
    return finished(figure, "Share of gates by β over training, and of erasure in the rewrite", legend=True)


def eigenvalues(record: Record, source: str = "gates") -> Figure:
    """Distribution of the eigenvalue 1 - beta at the first and at the last measurement, one panel per block."""
    figure = new_figure(ROW * _deepest(record, source))
    for net, block, axis in _panels(figure, record, source):
        counts = record[f"{source}/{net}/beta_counts"][:, block].sum(1).astype(float)
        edges = 1 - np.linspace(0, 2, counts.shape[-1] + 1)
        for row, colour, label in ((0, FIRST, "first"), (-1, LAST, "last")):
            # Each scaled to its own maximum: the first is a single spike, where the gates start.
            heights = counts[row] / max(counts[row].max(), 1)
            name = f"{label} (step {record['steps'][row]:,})"
            axis.stairs(heights[::-1], edges[::-1], fill=True, color=colour, alpha=0.65, label=name)
        axis.set_xlim(-1, 1)
        axis.set_xticks([-1, -0.5, 0, 0.5, 1], [f"{MINUS}1", "", "0", "", "1"])
        axis.set_yticks([])
        first, last = record[f"{source}/{net}/erase_share"][[0, -1], block]
        text = f"{SHARE_LABEL}\n{first:.2f}, then {last:.2f}"
        axis.text(0.02, 0.92, text, transform=axis.transAxes, va="top", fontsize=7, color=INK)
    title = f"Eigenvalue 1 {MINUS} β of the shortcut along k"
    return finished(figure, title, label=f"eigenvalue 1 {MINUS} β", legend=True)


def figures(record: Record) -> dict[str, Callable[[Record], Figure]]:
    """The figures of a record by name: those that its networks and statistics allow."""
    found: dict[str, Callable[[Record], Figure]] = {}
    if gated_networks(record):
        found |= {"beta": heat_map, "blocks": lines}
    if gated_networks(record, statistic="erase_share"):
        found["regimes"] = regimes
        if gated_networks(record, statistic="beta_counts"):  # records kept with a comparison lack them
            found["eigenvalues"] = eigenvalues
    if panels_of(record):
        found["tokens"] = token_map
    return found


def _depth(record: Record, net: str, source: str) -> int:
    return int(record[f"{source}/{net}/beta_mean"].shape[1])


def _deepest(record: Record, source: str) -> int:
    return max(_depth(record, net, source) for net in gated_networks(record, source, "erase_share"))


def _panels(figure: Figure, record: Record, source: str) -> Iterator[tuple[str, int, Axes]]:
    """One column per network that erases, one row per block."""
    nets = gated_networks(record, source, "erase_share")
    axes = figure.subplots(_deepest(record, source), len(nets), sharex=True, sharey=True, squeeze=False)
    for column, net in enumerate(nets):
        axes[0, column].set_title(net, fontsize=10, color=INK)
        for block in range(len(axes)):
            if block >= _depth(record, net, source):
                axes[block, column].set_visible(False)
                continue
            if column == 0:
                axes[block, column].set_ylabel(f"block {block}")
            yield net, block, axes[block, column]
