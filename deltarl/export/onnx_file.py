"""Reads ONNX files with onnxruntime; PyTorch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deltarl.errors import ConfigError
from deltarl.export.player import Player
from deltarl.export.signature import Input
from deltarl.reading import neutralised, readable

NEEDED = "ONNX files need the packages onnx, onnxscript and onnxruntime: pip install 'deltarl[onnx]'"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def read_onnx(path: Path) -> Player:
    """Load a policy from an ONNX file.

    Raises:
        ConfigError: if onnxruntime is missing, or the file cannot be read or is no policy.
    """
    with readable(path):
        content = path.read_bytes()
    return open_onnx(content, path)


def open_onnx(content: bytes, path: Path) -> Player:
    """Load a policy from the content of an ONNX file; `path` is its name in messages."""
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError(f"{path}: {NEEDED}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one observation is too little work to share
    options.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base but Exception
        raise ConfigError(f"{path}: missing or damaged: {' '.join(str(error).split())[:300]}") from None
    inputs = []
    for each in session.get_inputs():
        shape = tuple(size if isinstance(size, int) else None for size in each.shape)
        if each.type not in _DTYPES or shape.count(None) != 1:
            raise ConfigError(
                f"{path}: no policy that deltarl exported: input '{each.name}' is {each.type} {each.shape}"
            )
        inputs.append(Input(each.name, shape, np.dtype(_DTYPES[each.type])))
    metadata = neutralised(dict(session.get_modelmeta().custom_metadata_map))

    def run(fed: Any) -> Any:
        return session.run(None, fed)

    return Player(run, inputs, metadata)
