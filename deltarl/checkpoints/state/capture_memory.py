"""The part of `Capture` that deals with memory: arrays, tensors, and views that share it."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from deltarl.checkpoints import physics
from deltarl.checkpoints.state import memory
from deltarl.checkpoints.state.kinds import class_of
from deltarl.checkpoints.state.snapshot import MOST_NAMED, Snapshot


class MemoryCapture(ABC):
    """Adds arrays and tensors to a snapshot, each piece of memory once.

    Attributes:
        snapshot: the state captured so far.
        storages: path of each PyTorch storage met so far, by its address.
        extents: address, bytes and path of each piece of memory met so far.
    """

    def __init__(self) -> None:
        self.snapshot = Snapshot(tree=None)
        self.storages: dict[int, str] = {}
        self.extents: list[tuple[int, int, str]] = []

    @abstractmethod
    def once(self, value: Any, path: str) -> dict[str, str] | None:
        """The path at which an object was first met, or None if this is the first time."""

    @abstractmethod
    def items(self, held: Iterable[Any], path: str) -> list[Any]:
        """The nodes of several objects."""

    @abstractmethod
    def name_of(self, value: Any) -> dict[str, str]:
        """The name of an object in a module, if it has one."""

    @abstractmethod
    def extras(self, value: Any, path: str) -> dict[str, Any]:
        """Attributes of an object whose type usually has none."""

    def name_overlaps(self) -> None:
        """Report memory that NumPy and PyTorch share, because each would be restored separately."""
        end, owner = 0, ""
        for start, size, path in sorted(self.extents):
            if size and start < end:
                self.unsupported(path.removesuffix("/#memory"), f"memory shared with {owner}")
            if start + size > end:
                end, owner = start + size, path

    def unsupported(self, path: str, kind: str) -> dict[str, Any]:
        """Record an object that cannot be stored. `kind` is compared with older snapshots, so its wording must stay."""
        if len(self.snapshot.unsupported) < MOST_NAMED:
            self.snapshot.unsupported[path] = kind
        return {"constant": kind}

    def arrays(self, arrays: physics.Arrays, path: str) -> list[str]:
        for name, array in arrays.items():
            self.put(_copy(array), f"{path}/{name}")
        return list(arrays)

    def put(self, tensor: torch.Tensor, path: str) -> str:
        self.snapshot.tensors[path] = tensor
        return path

    def scalar(self, value: np.generic, path: str) -> dict[str, Any]:
        dtype = memory.described(value.dtype)
        if dtype is None or value.dtype.metadata is not None:
            return self.unsupported(path, class_of(value))
        return {"number": base64.b64encode(value.tobytes()).decode(), "dtype": dtype}

    def array(self, value: memory.Array, path: str) -> dict[str, Any]:
        base = memory.root(value)
        if type(value) is not np.ndarray or type(base) is not np.ndarray:
            return self.unsupported(path, class_of(value))
        if memory.is_window(value):
            shows = [memory.offset(value, base), list(value.strides), list(base.shape)]
            return self.bytes_of(value, path) | {"window": shows}
        if base is value:
            return self.bytes_of(value, path)
        dtype = memory.described(value.dtype)
        if dtype is None or base.dtype.hasobject:
            return self.unsupported(path, f"a view of {base.dtype}")
        return {
            "view": self.once(base, f"{path}/#memory") or self.bytes_of(base, f"{path}/#memory", raw=True),
            "dtype": dtype,
            "shape": list(value.shape),
            "strides": list(value.strides),
            "offset": memory.offset(value, base),
            **({} if value.flags.writeable else {"readonly": True}),
        }

    def bytes_of(self, value: memory.Array, path: str, *, raw: bool = False) -> dict[str, Any]:
        """An array that owns its memory.

        With `raw`, the bytes are not interpreted as numbers: those around a view may be uninitialised.
        """
        layout = memory.layout(value) | self.name_of(value)
        if value.dtype == object:
            layout.pop("readonly", None)
            return {"objects": self.items(value.ravel().tolist(), path), "shape": list(value.shape), **layout}
        dtype = memory.described(value.dtype)
        if dtype is None:
            return self.unsupported(path, class_of(value))
        if not memory.is_window(value):
            self.extents.append((memory.address(value), value.nbytes, path))
        if memory.is_plain(value.dtype) and not raw:
            return {"array": self.put(_copy(value), path), **layout}
        content = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy())
        return {"array": self.put(content, path), "dtype": dtype, "shape": list(value.shape), **layout}

    def tensor(self, value: torch.Tensor, path: str) -> dict[str, Any]:
        if not memory.is_storable(value):
            return self.unsupported(path, f"a tensor that is {str(value.layout).removeprefix('torch.')}, or lazy")
        node: dict[str, Any] = {} if type(value) is torch.Tensor else {"class": class_of(value)}
        if value.grad_fn is not None:
            return self.unsupported(path, "a tensor with a graph of gradients")
        stays = value.requires_grad or "/_buffers/" in path  # optimizers and modules hold these by identity
        if value.requires_grad and not isinstance(value, torch.nn.Parameter):
            node["requires_grad"] = True
        key = value.untyped_storage()._cdata
        if stays or (key not in self.storages and memory.fills_its_storage(value)):
            node = {"tensor": self.put(value.detach().cpu().contiguous().clone(), path), **node}
            if not value.is_contiguous():
                node["strides"] = list(value.stride())
            if key in self.storages:
                node["of"] = self.storages[key]
            node |= self.name_of(value)
            self.own(value, key, path)
            return node | self.extras(value, path)
        if key not in self.storages:
            path_of_memory = f"{path}/#memory"
            node["memory"] = self.put(memory.raw(memory.flat(value)), path_of_memory)
            self.own(value, key, path_of_memory)
        shape, strides = list(value.shape), list(value.stride())
        node = {"tensor_view": self.storages[key], "dtype": str(value.dtype).removeprefix("torch."), **node}
        node |= {"shape": shape, "strides": strides, "offset": value.storage_offset()}
        return node | self.extras(value, path)

    def own(self, value: torch.Tensor, key: int, path: str) -> None:
        if key not in self.storages:
            self.storages[key] = path
            storage = value.untyped_storage()
            self.extents.append((storage.data_ptr(), storage.nbytes(), path))


def _copy(array: memory.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, order="C"))
