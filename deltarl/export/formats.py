"""Writes and opens the formats of deployed policies: ONNX, PyTorch's exported programs, and TorchScript."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deltarl.errors import ConfigError
from deltarl.export.onnx_file import open_onnx
from deltarl.export.player import Player
from deltarl.export.policy import PolicyModule
from deltarl.export.signature import Arrays, outputs
from deltarl.export.target import Format

METADATA = "metadata.json"  # the name of the metadata inside PyTorch's files
_EXAMPLE_ROWS = 2  # one row could be taken for a constant


def encode(module: PolicyModule, name: Format, metadata: Mapping[str, str]) -> bytes:
    """The content of a file of that format, with a dynamic batch size and metadata.

    Raises:
        ConfigError: if PyTorch cannot convert the policy, such as one with blocks whose code depends on values.
    """
    try:
        with _quiet():
            return _ENCODERS[name](module, dict(metadata))
    except Exception as error:  # PyTorch's exporters raise anything
        reason = error.__cause__ or error
        said = " ".join(str(reason).split())[:300]
        raise ConfigError(f"export: PyTorch cannot convert this policy: {type(reason).__name__}: {said}") from error


def opened(content: bytes, name: Format, module: PolicyModule, path: Path) -> Player:
    """Open what `encode` made of `module` as a user of the format would."""
    if name == "onnx":
        return open_onnx(content, path)
    file = io.BytesIO(content)
    jit: Any = torch.jit  # without types
    with _quiet():
        loaded = torch.export.load(file).module() if name == "torch" else jit.load(file)

    def run(fed: Arrays) -> list[Any]:
        with torch.inference_mode():
            found = loaded(*module.arguments({key: torch.as_tensor(array) for key, array in fed.items()}))
        return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    return Player(run, module.inputs)


def _example(module: PolicyModule) -> tuple[Any, ...]:
    rows = {each.name: np.zeros(each.sized(_EXAMPLE_ROWS), each.dtype) for each in module.inputs}
    return module.arguments({name: torch.from_numpy(array) for name, array in rows.items()})


def _exported(module: PolicyModule) -> torch.export.ExportedProgram:
    return torch.export.export(module, _example(module), dynamic_shapes=_shapes(module, torch.export.Dim("batch")))


def _shapes(module: PolicyModule, batch: Any) -> tuple[Any, ...]:
    return module.arguments({each.name: {each.batch_axis: batch} for each in module.inputs})


def _onnx(module: PolicyModule, metadata: dict[str, str]) -> bytes:
    import onnx  # noqa: PLC0415 - an extra

    program = torch.onnx.export(
        _exported(module),
        dynamo=True,
        optimize=False,  # onnxscript's rules take an epsilon of 1e-12 for 0, and onnxruntime optimizes when it loads
        verbose=False,
        input_names=[each.name for each in module.inputs],
        output_names=outputs(module.inputs),
        dynamic_shapes=_shapes(module, "batch"),  # the name in the file; the program has its own
    )
    assert program is not None
    proto: Any = program.model_proto
    for node in proto.graph.node:  # where in the source each came from, with this machine's paths
        del node.metadata_props[:]
        node.doc_string = ""
    proto.producer_name, proto.producer_version = "deltarl", metadata.get("deltarl", "")
    onnx.helper.set_model_props(proto, metadata)
    content: bytes = proto.SerializeToString()
    return content


def _torch(module: PolicyModule, metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    torch.export.save(_exported(module), file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _torchscript(module: PolicyModule, metadata: dict[str, str]) -> bytes:
    jit: Any = torch.jit  # without types
    traced = jit.trace(module, _example(module), check_trace=False)
    file = io.BytesIO()
    jit.save(traced, file, _extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


_ENCODERS: dict[Format, Callable[[PolicyModule, dict[str, str]], bytes]] = {
    "onnx": _onnx,
    "torch": _torch,
    "torchscript": _torchscript,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's deprecations of its own functions, and its notes about packages that are not needed."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
