"""Restores arrays, tensors and simulations: fills existing ones, or creates new ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deltarl.checkpoints import physics
from deltarl.checkpoints.state import memory, objects, values
from deltarl.checkpoints.state.snapshot import MisfitError, Walk


def array(walk: Walk, key: str) -> memory.Array:
    """A copy of a stored array."""
    return walk.tensors[key].numpy().copy()


def numbers(walk: Walk, node: dict[str, Any]) -> memory.Array:
    """An array that owns its memory, in its original layout."""
    found = array(walk, node["array"])
    if "dtype" in node:
        found = np.frombuffer(found.tobytes(), memory.dtype_of(node["dtype"])).reshape(node["shape"]).copy()
    return memory.in_layout(found, node.get("strides"), readonly=node.get("readonly", False))


def put_array(walk: Walk, old: Any, node: dict[str, Any]) -> memory.Array:
    new = numbers(walk, node)
    # An array that exposes another library's memory, such as MuJoCo's, is filled in place. Any other is replaced,
    # because one array of the new object may have been two separate arrays in the captured one.
    is_window = memory.is_window(old) and old.shape == new.shape and old.dtype == new.dtype
    if "global" in node and _fits(old, new):
        if old.flags.writeable:
            old[...] = new
        return old  # type: ignore[no-any-return]
    if is_window and old.flags.writeable and _is_restorable_window(old, node):
        old[...] = new
        return old  # type: ignore[no-any-return]
    return new


def _is_restorable_window(old: memory.Array, node: dict[str, Any]) -> bool:
    if "window" not in node:
        return True
    base = memory.root(old)
    return bool(node["window"] == [memory.offset(old, base), list(old.strides), list(base.shape)])


def put_view(walk: Walk, old: Any, content: dict[str, Any], node: dict[str, Any], path: str) -> Any:
    known = memory.root(old) if isinstance(old, np.ndarray) and not memory.is_window(old) else None
    base = walk.fill(known if type(known) is np.ndarray else None, content, f"{path}/#memory")
    if not isinstance(base, np.ndarray):
        return walk.miss(path)
    try:
        new = memory.view(base, *(node[key] for key in ("dtype", "shape", "strides", "offset")))
    except (ValueError, TypeError) as error:
        raise MisfitError(f"{path}: a view of another array: {error}") from None
    if "readonly" in node:
        new.flags.writeable = False
    return new


def put_tensor(walk: Walk, old: Any, new: torch.Tensor, node: dict[str, Any], path: str) -> torch.Tensor:
    if not isinstance(old, torch.Tensor):
        new = new.clone()
    # Optimizers and modules hold parameters and buffers by identity.
    elif (
        isinstance(old, torch.nn.Parameter)
        or (old.requires_grad and old.is_leaf)
        or "/_buffers/" in path
        or "global" in node
    ):
        if old.shape != new.shape or old.dtype != new.dtype:
            raise MisfitError(f"{path}: expected shape {tuple(old.shape)}, got {tuple(new.shape)}")
        with torch.no_grad():
            old.copy_(new)
        new = old
    else:
        new = new.to(old.device, copy=True)
    if "requires_grad" in node:
        new.requires_grad_()
    objects.put_extras(walk, new, node, path)
    return new


def put_tensor_view(walk: Walk, old: Any, content: str, node: dict[str, Any], path: str) -> Any:
    dtype = values.torch_dtype(node["dtype"])
    if "memory" in node:
        walk.done[content] = walk.tensors[node["memory"]].clone().view(dtype)
        if isinstance(old, torch.Tensor):
            walk.done[content] = walk.done[content].to(old.device)
    base = walk.done.get(content)
    if not isinstance(base, torch.Tensor) or base.dtype != dtype:
        return walk.miss(path)
    new = base.detach().as_strided(node["shape"], node["strides"], node["offset"])
    if "requires_grad" in node:
        new.requires_grad_()
    objects.put_extras(walk, new, node, path)
    return new


def simulation(walk: Walk, write: Callable[[physics.Arrays], None], names: list[str], path: str) -> None:
    arrays = {name: array(walk, f"{path}/{name}") for name in names}
    try:
        write(arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise MisfitError(f"{path}: the simulation has a different model: {error}") from error


def of_objects(items: list[Any], node: dict[str, Any]) -> memory.Array:
    if math.prod(node["shape"]) != len(items):
        raise MisfitError(f"{len(items)} objects for an array of {node['shape']}")
    new = np.empty(node["shape"], object)
    flat = new.reshape(-1)
    for index, item in enumerate(items):  # one at a time: NumPy would expand lists
        flat[index] = item
    return memory.in_layout(new, node.get("strides"))


def _fits(old: Any, new: memory.Array) -> bool:
    """Whether an array can be filled in place with the values of another."""
    is_array = type(old) is np.ndarray
    return is_array and (old.shape, old.dtype, old.strides) == (new.shape, new.dtype, new.strides)
