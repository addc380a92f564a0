"""A snapshot: a JSON tree, tensors, and the paths of objects that could not be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from deltarl.checkpoints.state.globals import Globals

Arrays = Mapping[str, np.ndarray[Any, Any]]

# From version 2 on, a tree is complete, so that two trees can be compared.
VERSION = 2

MISSING: Any = object()
# A buffer may contain a million objects that cannot be stored.
MOST_NAMED = 100


class MisfitError(Exception):
    """The object's structure differs from that of the captured one; the message says where."""


@dataclass
class Snapshot:
    """The state of an object.

    Attributes:
        tree: the state as JSON.
        tensors: tensors and arrays, by the path at which they were found.
        unsupported: path and type of each object that could not be stored.
        version: format version of the tree.
    """

    tree: Any
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    version: int = VERSION


class Walk(Protocol):
    """The interface of a restore to the functions that fill one kind of object."""

    tensors: dict[str, torch.Tensor]
    done: dict[str, Any]
    version: int
    globals: Globals

    def fill(self, old: Any, node: Any, path: str) -> Any:
        """The object that replaces `old`, or `old` itself, filled; `MISSING` if it cannot be restored."""

    def items(self, old: Iterable[Any], nodes: list[Any], path: str) -> Any:
        """All items, or `MISSING` if any is missing."""

    def entries(self, old: dict[Any, Any], nodes: list[list[Any]], path: str) -> Any:
        """All pairs of a mapping, or `MISSING` if any is missing."""

    def miss(self, path: str) -> Any:
        """Record a path as lost and return `MISSING`."""

    def is_free(self, old: Any) -> bool:
        """Whether `old` has not been filled yet; it then counts as filled."""


def below(path: str, index: int, key: Any) -> str:
    """The path of an entry: its name, or its position if the name could be mistaken for part of a path."""
    return f"{path}/{key}" if type(key) is str and "/" not in key and not key.startswith("#") else f"{path}/#{index}"
