"""The record of a run's gates: one file of arrays with time as the first axis."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deltarl.gates.drawing import Record
from deltarl.gates.figures import gated_networks
from deltarl.gates.statistics import OF_ERASURE
from deltarl.reading import read_arrays, readable

BINS = 41  # of the histograms, from 0 to BETA_END; odd, so that beta = 1 is in the middle of a bin
BETA_END = 2.0
# The current batch and the fixed one: a change only in the first comes from the data, in both from the network.
SOURCES = ("gates", "gates_probe")


def appended(record: dict[str, NDArray[Any]], row: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Append an entry along time; names that only the record or only the entry has are filled with NaN or 0."""
    length = len(record.get("steps", ()))

    def column(name: str) -> NDArray[Any]:
        new = row[name] if name in row else _nothing(record[name][0])
        old = record[name] if name in record else np.stack([_nothing(new)] * length or [new])[:length]
        return np.concatenate([old, new[np.newaxis]])

    return {name: column(name) for name in {**record, **row}}


def _nothing(like: NDArray[Any]) -> NDArray[Any]:
    return np.full_like(like, np.nan if like.dtype.kind == "f" else 0)


def write_record(path: Path, record: dict[str, NDArray[Any]]) -> None:
    """Write the record atomically: a reader never sees part of it."""
    content = io.BytesIO()
    np.savez_compressed(content, **record)  # type: ignore[arg-type]
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_bytes(content.getvalue())
    beside.rename(path)


def read_record(path: Path | str) -> dict[str, NDArray[Any]]:
    """Read the measurements of a `GateCallback`, without pickle: arrays whose first axis is time.

    `steps` `[T]`; `gates/<net>/<statistic>` and `gates_probe/<net>/<statistic>` `[T, blocks]`, NaN if a block does not
    have the statistic; `.../beta_counts` `[T, blocks, heads, bins]`, counts of beta in bins of equal width from 0 to 2;
    `network/<net>/<statistic>` `[T]`. Encoders are networks named `encoder`, `policy_encoder`, ..., with
    `.../beta_by_token` `[T, blocks, tokens]`, newest last and NaN for tokens that a block does not read.

    Raises:
        ConfigError: if the file is missing or damaged.
    """
    path = Path(path)
    record = read_arrays(path)
    with readable(path):
        times = len(record["steps"])
        blocks: dict[str, int] = {}
        for name, array in record.items():
            shape = "" if (kind := _NAME.fullmatch(name)) is None else kind.lastgroup
            dimensions = {"time": 1, "network": 1, "blocks": 2, "tokens": 3, "counts": 4}.get(shape or "")
            if array.dtype.kind not in "iuf" or array.ndim != dimensions or len(array) != times or not array.size:
                raise ValueError(f"'{name}', {array.dtype} {array.shape}, is not an array of {times} measurements")
            network = name.rpartition("/")[0]
            if array.ndim > 1 and blocks.setdefault(network, array.shape[1]) != array.shape[1]:
                raise ValueError(
                    f"'{name}' has {array.shape[1]} blocks, other arrays of {network} have {blocks[network]}"
                )
        if record["steps"].dtype.kind not in "iu" or (np.diff(record["steps"].astype(np.int64)) <= 0).any():
            raise ValueError("steps: not increasing")
    return record


# Names of a record's arrays, by their axes after time.
_NAME = re.compile(
    r"(?P<time>steps)|(?P<network>network/\w[\w.]*/\w+)"
    r"|(?P<counts>(gates|gates_probe)/\w[\w.]*/beta_counts)|(?P<tokens>(gates|gates_probe)/\w[\w.]*/beta_by_token)"
    r"|(?P<blocks>(gates|gates_probe)/\w[\w.]*/\w+)"
)


def without_erasure(record: Record, only_writes: Callable[[str], bool]) -> Record:
    """The record without the erase statistics that older versions computed for networks that do not erase.

    Args:
        record: from `read_record`.
        only_writes: takes the name of a network; whether its blocks write but do not erase.
    """
    gone = {
        f"{source}/{net}/{name}"
        for source in SOURCES
        for net in gated_networks(record)
        for name in OF_ERASURE
        if only_writes(net)
    }
    return {name: values for name, values in record.items() if name not in gone}


def counts_of(beta: torch.Tensor) -> NDArray[np.uint32]:
    """Histograms of beta, one per head; the outer bins include the ends of the range, and NaN is not counted."""
    columns = np.clip(beta.double().cpu().numpy(), 0, BETA_END).T
    return np.stack([np.histogram(c[np.isfinite(c)], BINS, (0, BETA_END))[0] for c in columns]).astype(np.uint32)
