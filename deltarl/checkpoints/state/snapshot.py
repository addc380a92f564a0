"""What a walk over living objects leaves: a tree of JSON, tensors, and the names of what could not be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

Arrays = Mapping[str, np.ndarray[Any, Any]]

# From version 2 on a tree tells all that there is to know of an object, so that two trees can be compared.
VERSION = 2

MISSING: Any = object()
# A buffer may hold a million of what cannot be stored.
MOST_NAMED = 100


class MisfitError(Exception):
    """The object is not of the shape that the snapshot was taken of; the message says where."""


@dataclass
class Snapshot:
    """The state of an object.

    Attributes:
        tree: JSON.
        tensors: what is no JSON, by the path at which it was found.
        unsupported: path and type of what could not be stored.
        version: of the tree.
    """

    tree: Any
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)
    version: int = VERSION


class Walk(Protocol):
    """A walk along a snapshot, as those see it who fill one kind of object."""

    tensors: dict[str, torch.Tensor]
    done: dict[str, Any]

    def fill(self, old: Any, node: Any, path: str) -> Any:
        """What is to stand in the place of `old`; `MISSING` where that cannot be had."""

    def items(self, old: Iterable[Any], nodes: list[Any], path: str) -> Any:
        """All of them, or `MISSING`."""

    def entries(self, old: dict[Any, Any], nodes: list[list[Any]], path: str) -> Any:
        """All pairs of a mapping, or `MISSING`."""

    def miss(self, path: str) -> Any:
        """Name a path as lost; `MISSING`."""

    def put_extras(self, old: Any, node: dict[str, Any], path: str) -> None:
        """Give an object the attributes that its kind usually has not."""


def below(path: str, index: int, key: Any) -> str:
    """The path of an entry: by its name where that is one, by its place where names could meet."""
    return f"{path}/{key}" if type(key) is str and "/" not in key and not key.startswith("#") else f"{path}/#{index}"
