"""Where two snapshots of the same object differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from deltarl.checkpoints.state.memory import as_bytes
from deltarl.checkpoints.state.snapshot import Snapshot, below

# The parts of a node that contain other nodes, by name and by key.
_NAMED = {"object", "attributes", "members"}
_KEYED = {"dict", "keywords"}


def differences(one: Snapshot, other: Snapshot) -> list[str]:
    """The shortest paths at which two snapshots differ."""
    found = list(_differences(one.tree, other.tree, ""))
    both = one.tensors.keys() & other.tensors.keys()
    found += [path for path in sorted(both) if not _same_bits(one.tensors[path], other.tensors[path])]
    return list(dict.fromkeys(path.partition("/#")[0] for path in found))


def _differences(one: Any, other: Any, path: str) -> Iterator[str]:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (node, its) in enumerate(zip(one, other, strict=True)):
            yield from _differences(node, its, f"{path}/{index}")
    elif not (isinstance(one, dict) and isinstance(other, dict)):
        if type(one) is not type(other) or repr(one) != repr(other):
            yield path
    elif list(one) != list(other):
        yield path
    else:
        for part, content in one.items():
            its = _without_later(content, other[part]) if part == "object" and _is_ours(one) else other[part]
            yield from _part(part, content, its, path)


def _is_ours(node: dict[str, Any]) -> bool:
    return str(node.get("class", "")).startswith("deltarl.")


def _without_later(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Attributes without those that a later version added, which keep their initial values."""
    return {name: node for name, node in other.items() if name in one}


def _part(part: str, one: Any, other: Any, path: str) -> Iterator[str]:
    """The paths at which a part of two nodes differs."""
    if part in {"mjdata", "mjmodel"}:  # names of tensors, which are compared separately and differ between versions
        return
    if part in _NAMED and isinstance(one, dict) and isinstance(other, dict):
        names = list(one.keys() ^ other.keys())
        yield from (below(path, 0, name) for name in sorted(names))
        if not names and list(one) != list(other):
            yield path
        for index, name in enumerate(one.keys() & other.keys()):
            yield from _differences(one[name], other[name], below(path, index, name))
    elif part in _KEYED and isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, ((key, node), (other_key, its)) in enumerate(zip(one, other, strict=True)):
            yield from _differences(key, other_key, path)
            yield from _differences(node, its, below(path, index, key))
    else:
        yield from _differences(one, other, path)


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if torch.equal(one, other) and not one.is_floating_point():
        return True
    return torch.equal(as_bytes(one), as_bytes(other))
