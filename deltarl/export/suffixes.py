"""The formats of deployed policies and the suffixes of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from deltarl.errors import ConfigError

Format = Literal["onnx", "torch", "torchscript"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch", ".ts": "torchscript"}


def format_of(path: Path) -> Format:
    """The format that a file's suffix stands for.

    Raises:
        ConfigError: if it stands for none.
    """
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        raise ConfigError(f"export: {path}: expected a name that ends in {known}, or a --format")
    return found
