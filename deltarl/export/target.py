"""The file and format of an export, checked before PyTorch is imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from deltarl import places
from deltarl.errors import ConfigError
from deltarl.export.onnx_file import NEEDED

Format = Literal["onnx", "torch", "torchscript"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch", ".ts": "torchscript"}


def format_of(path: Path) -> Format:
    """The format that a file's suffix denotes.

    Raises:
        ConfigError: if it denotes none.
    """
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
        raise ConfigError(f"export: {path}: expected a name that ends in {known}, or a --format")
    return found


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check that a file can be written, before any work is done for it.

    Raises:
        ConfigError: if not, or if it exists and `overwrite` is not given.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"export: {path.parent}: no such folder")
    places.check_file(path, "export")
    if path.exists() and not overwrite:
        raise ConfigError(f"export: {path} already exists; give another name, or --overwrite")


def check_packages(name: Format) -> None:
    """Check that the packages for a format are installed.

    Raises:
        ConfigError: naming the command that installs them.
    """
    if name == "onnx" and not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        raise ConfigError(f"export: {NEEDED}")
