"""The state of living Python objects as data: JSON and tensors, without pickle.

`capture` walks everything that can be reached from an object, an SB3 algorithm with its environments for instance,
and `restore` fills an object that was built in the same way, then captures that one too and names what differs. No list
of attributes has to be kept: what a wrapper, an environment or an algorithm of somebody else's holds is stored because
it is there. Nothing is ever constructed from what a file says but numbers, strings, containers, arrays and random
generators; an object that was not built already is named, and left out.
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
    """A copy of everything that can be reached from `root`.

    Args:
        root: an object, or a dict of them.
        elsewhere: arrays, by name, that are stored separately and only referred to here.

    Raises:
        RecursionError: if objects hold each other some hundred levels deep.
    """
    return Capture(elsewhere or {}).run(root)


def restore(
    root: object, snapshot: Snapshot, elsewhere: Arrays | None = None, *, compare: bool = True
) -> tuple[Any, list[str]]:
    """Fill `root`, built as the captured object was, from a snapshot.

    Args:
        root: what to fill.
        snapshot: what from.
        elsewhere: the arrays that `capture` only referred to.
        compare: whether to look if all is as it was; snapshots of the first version do not tell enough for that.

    Returns:
        `root` itself, or what takes its place if it is a number, a string or a tuple; and the paths of what is not as
        it was: it had no place to go to in `root` and was left as it is, or could not be made the same.

    Raises:
        MisfitError: if `root` has another shape; it may then be filled in part.
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
