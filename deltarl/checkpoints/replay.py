"""The transitions of a replay buffer in segments of fixed length, each a file, and their parity.

A buffer of a million transitions takes gigabytes, and little of it changes between two checkpoints. Unchanged segments
are hard-linked into the next checkpoint. Since one damaged file would then damage all checkpoints, each has the parity
(exclusive or) of its segments, from which any single one can be rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer

SEGMENT_BYTES = 8 * 2**20

# Not filled one row per step; stored as a whole with the rest of the state.
_REWRITTEN = {"ep_start", "ep_length", "apart"}


class Transitions:
    """The arrays of a replay buffer that grow by one row a step.

    Args:
        buffer: the buffer; its arrays are read and filled in place.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self.buffer = buffer
        self._look()

    def _look(self) -> None:
        self.arrays = dict(_rows(self.buffer))
        self._row_bytes: int = sum(array[0].nbytes for array in self.arrays.values())
        self.rows = max(1, SEGMENT_BYTES // self._row_bytes)

    @property
    def layout(self) -> dict[str, Any]:
        """What two checkpoints must share for their segments to be interchangeable."""
        arrays = {name: [str(array.dtype), *array.shape] for name, array in sorted(self.arrays.items())}
        return {"rows": self.rows, "arrays": arrays}

    def adopt(self, layout: Mapping[str, Any] | None) -> None:
        """Give the buffer's arrays the precision of a stored layout, if they differ only in precision.

        Observations are now stored once, in single precision, but a run that began otherwise keeps its format. If the
        layout has separate next observations, `buffer` is replaced by a plain buffer.
        """
        stored = layout["arrays"] if layout else {}
        if isinstance(self.buffer, SharedReplayBuffer) and "next_observations" in stored:
            self.buffer = self.buffer.plain()
            self._look()
        for name, array in self.arrays.items():
            dtype, *shape = stored.get(name, [None])
            if {dtype, str(array.dtype)} == {"float32", "float64"} and tuple(shape) == array.shape:
                holder, _, key = name.partition("/")
                place = getattr(self.buffer, holder) if key else vars(self.buffer)
                place[key or holder] = np.zeros(array.shape, dtype)
        self._look()

    @property
    def filled(self) -> int:
        """Number of rows in use."""
        if self.buffer.full:
            return int(self.buffer.buffer_size)
        # If observations are stored once, the next one is one row ahead of the position.
        return min(int(self.buffer.pos) + int(self.buffer.optimize_memory_usage), int(self.buffer.buffer_size))

    @property
    def segments(self) -> int:
        return -(-self.filled // self.rows)

    def changed(self, added: int) -> set[int]:
        """The segments changed by the last `added` rows."""
        size = self.buffer.buffer_size
        ahead = int(self.buffer.optimize_memory_usage)
        # Adding a row may also change the previous slot's next observation.
        behind = int(isinstance(self.buffer, SharedReplayBuffer))
        first = self.buffer.pos - min(added + behind, size)
        touched = np.arange(first, self.buffer.pos + ahead) % size // self.rows
        return set(np.unique(touched).tolist()) & set(range(self.segments))

    def segment_bytes(self) -> int:
        """Bytes of a full segment, without its header."""
        return self.rows * self._row_bytes

    def read(self, index: int) -> bytes:
        """A segment as a safetensors file."""
        rows = slice(index * self.rows, min((index + 1) * self.rows, self.filled))
        return safetensors.numpy.save({name: array[rows] for name, array in self.arrays.items()})

    def fill(self, index: int, content: bytes) -> int:
        """Restore a segment to its place and return its number of rows.

        Raises:
            ValueError: if its arrays differ from the buffer's, or it has too many rows.
        """
        parts = safetensors.numpy.load(content)
        if parts.keys() != self.arrays.keys():
            raise ValueError(f"expected arrays {', '.join(sorted(self.arrays))}; got {', '.join(sorted(parts))}")
        [rows] = {len(part) for part in parts.values()}
        places = {name: array[index * self.rows :][: min(rows, self.rows)] for name, array in self.arrays.items()}
        for name, place in places.items():
            if (parts[name].dtype, parts[name].shape) != (place.dtype, place.shape):
                got, expected = (f"{each.dtype} {each.shape}" for each in (parts[name], place))
                raise ValueError(f"{name}: expected {expected}, got {got}")
        for name, place in places.items():
            place[...] = parts[name]
        return rows


class Parity:
    """Exclusive or of files' contents; shorter ones are padded with zeros."""

    def __init__(self, content: bytes = b"") -> None:
        self._bytes: NDArray[np.uint8] = np.frombuffer(content, np.uint8).copy()

    def add(self, content: bytes) -> None:
        """Add a file; adding it again removes it."""
        if len(content) > len(self._bytes):
            self._bytes = np.pad(self._bytes, (0, len(content) - len(self._bytes)))
        self._bytes[: len(content)] ^= np.frombuffer(content, np.uint8)

    def content(self) -> bytes:
        return self._bytes.tobytes()


def _rows(buffer: ReplayBuffer) -> Iterable[tuple[str, NDArray[Any]]]:
    for name, value in vars(buffer).items():
        if name in _REWRITTEN:
            continue
        for key, array in value.items() if isinstance(value, dict) else [(None, value)]:
            if (
                isinstance(array, np.ndarray)
                and array.dtype.kind in "biuf"
                and array.shape[:1] == (buffer.buffer_size,)
            ):
                yield name if key is None else f"{name}/{key}", array
