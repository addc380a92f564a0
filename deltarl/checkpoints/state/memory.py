"""Arrays and tensors as bytes and a layout, so that arrays that share memory share it again after a restore."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether PyTorch has this dtype as well."""
    return dtype.kind in "biuf" and dtype.isnative and dtype.itemsize <= 8


def described(dtype: np.dtype[Any]) -> str | None:
    """A dtype as text; None if its memory is meaningless in another process, or contains padding."""
    if dtype.hasobject or _has_padding(dtype):
        return None
    text = repr(np.lib.format.dtype_to_descr(dtype))
    return text if dtype.metadata is None and dtype_of(text) == dtype else None


def dtype_of(text: str) -> np.dtype[Any]:
    """The dtype that `described` gave as text.

    Raises:
        ValueError: if it is not a dtype, or is one of objects, which files must not contain.
    """
    dtype = np.lib.format.descr_to_dtype(ast.literal_eval(text))
    if dtype.hasobject:
        raise ValueError(f"expected a dtype of numbers, got {text}")
    return dtype


def _has_padding(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _has_padding(dtype.subdtype[0])
    if dtype.fields is None:
        return dtype.char in "gG"  # long doubles
    parts = [dtype.fields[name][0] for name in dtype.names or ()]
    return sum(part.itemsize for part in parts) != dtype.itemsize or any(map(_has_padding, parts))


def root(array: Array) -> Array:
    """The array that owns an array's memory: itself, unless it is a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def is_window(array: object) -> bool:
    """Whether an array exposes memory that a library owns, such as MuJoCo's, and that cannot be replaced."""
    return isinstance(array, np.ndarray) and type(root(array).base).__name__ == "PyCapsule"


def offset(array: Array, base: Array) -> int:
    """Bytes from the first of `base` to an array's first element."""
    return address(array) - address(base)


def address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def layout(array: Array) -> dict[str, Any]:
    """The memory layout of an array, if it is not the default one."""
    found: dict[str, Any] = {}
    if not array.flags.c_contiguous:
        found["strides"] = list(array.strides)
    if not array.flags.writeable:
        found["readonly"] = True
    return found


def in_layout(array: Array, strides: list[int] | None = None, readonly: bool = False) -> Array:
    """A copy of a C-contiguous array in a given memory layout, as closely as a copy can match it."""
    if strides is not None:
        order = sorted(range(array.ndim), key=lambda axis: -strides[axis])
        array = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order)).copy(order="K")
    if readonly:
        array.flags.writeable = False
    return array


def view(base: Array, dtype: str, shape: list[int], strides: list[int], offset: int) -> Array:
    """A view of another array's memory.

    Raises:
        ValueError, TypeError: if it would extend beyond that memory.
    """
    order = sorted(range(base.ndim), key=lambda axis: -base.strides[axis])
    return np.ndarray(tuple(shape), dtype_of(dtype), base.transpose(order), offset, tuple(strides))


def fills_its_storage(tensor: torch.Tensor) -> bool:
    """Whether a tensor covers its whole storage, in the default order."""
    return tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes


def is_storable(tensor: torch.Tensor) -> bool:
    """Whether a tensor consists of numbers and strides only."""
    is_dense = tensor.layout == torch.strided and tensor.device.type in {"cpu", "cuda"} and not tensor.is_quantized
    return is_dense and not (tensor.is_conj() or tensor.is_neg())


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """The whole storage of a tensor, in its dtype."""
    storage = tensor.untyped_storage()
    whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return whole.set_(storage, 0, (storage.nbytes() // tensor.element_size(),), (1,))


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of the bytes of a tensor, as uint8."""
    return as_bytes(tensor.detach().cpu()).clone()


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor, as uint8; shares its memory if its elements are in order."""
    in_order = tensor.contiguous().reshape(-1)
    # With at most one element any stride is in order, such as the 0 of NumPy's empty arrays and of expanded tensors,
    # but a view of bytes needs 1.
    return in_order.as_strided(in_order.shape, (1,)).view(torch.uint8)
