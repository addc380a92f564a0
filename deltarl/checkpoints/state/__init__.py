"""The state of live Python objects as data: JSON and tensors, without pickle.

`capture` walks everything that is reachable from an object, such as an SB3 algorithm with its environments. `restore`
fills an object that was built in the same way, then captures it again and reports what differs. There is no list of
attributes to maintain: whatever a third-party wrapper, environment or algorithm holds is stored. From a file only
numbers, strings, containers, arrays and random generators are constructed; any other object that does not exist already
is reported and left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deltarl.checkpoints.state.capture import Capture
from deltarl.checkpoints.state.compare import differences
from deltarl.checkpoints.state.moved import renamed
from deltarl.checkpoints.state.restore import Restore
from deltarl.checkpoints.state.snapshot import MISSING, MOST_NAMED, Arrays, MisfitError, Snapshot

__all__ = ["MisfitError", "Snapshot", "capture", "restore"]


def capture(root: object, elsewhere: Arrays | None = None) -> Snapshot:
    """Copy everything that is reachable from `root`.

    Args:
        root: an object, or a dict of them.
        elsewhere: arrays, by name, that are stored separately; the snapshot only refers to them.

    Raises:
        RecursionError: if objects are nested several hundred levels deep.
    """
    return Capture(elsewhere or {}).run(root)


def restore(
    root: object, snapshot: Snapshot, elsewhere: Arrays | None = None, *, compare: bool = True
) -> tuple[Any, list[str]]:
    """Fill `root`, built as the captured object was, from a snapshot.

    Args:
        root: the object to fill.
        snapshot: the state to fill it from.
        elsewhere: the arrays that `capture` only referred to.
        compare: whether to compare the result with the snapshot; snapshots of version 1 do not contain enough for that.

    Returns:
        `root`, or its replacement if it is a number, a string or a tuple; and the paths of everything that could not be
        restored or differs from the snapshot.

    Raises:
        MisfitError: if `root` has a different structure; it may then be partly filled.
    """
    snapshot = replace(snapshot, tree=renamed(snapshot.tree))
    restoring = Restore(snapshot, elsewhere or {})
    filled = restoring.fill(root, snapshot.tree, "")
    root = root if filled is MISSING else filled
    named = [path for path in dict.fromkeys(restoring.missing) if path not in snapshot.unsupported]
    if compare and snapshot.version >= 2:
        known = [*named, *snapshot.unsupported]
        found = differences(snapshot, capture(root, elsewhere))
        named += [path for path in found if not any(_is_within(path, each) for each in known)]
    return root, named[:MOST_NAMED]


def _is_within(path: str, other: str) -> bool:
    other = other.partition("/#")[0]
    return path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
