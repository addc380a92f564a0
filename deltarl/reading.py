"""Reads files that somebody else may have written: those in the folder of a run or a comparison.

Such a folder may come from a colleague, an archive or a repository, so its content is untrusted input. Links are not
followed, all sizes are bounded, and any fault raises one ConfigError that names the file. Callers check what the
content means.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from deltarl.errors import ConfigError, first_complaint, is_plain, plain

MOST_BYTES = 2**30  # limit for files that are read whole, except weights and checkpoints
DEEPEST = 20  # levels of nesting
# For `os.open`: refuse links and do not wait for pipes; Windows has neither flag.
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
_LONGEST_REASON = 300
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C version, if PyYAML was built with it


def check_plain(folder: Path) -> None:
    """Refuse a folder that contains anything but files and folders, at any depth; the folder itself may be a link.

    Call this before reading or writing anything in it. No path in it then leads outside, or to a pipe that never ends.

    Raises:
        ConfigError: naming the first link, pipe, socket or device, or the entry that cannot be accessed.
    """
    waiting = [str(folder)]
    while waiting:
        with readable(Path(place := waiting.pop())), os.scandir(place) as entries:
            for entry in entries:
                try:
                    mode = entry.stat(follow_symlinks=False).st_mode
                except FileNotFoundError:  # removed by a run that is training there
                    continue
                if stat.S_ISDIR(mode):
                    waiting.append(entry.path)
                elif not stat.S_ISREG(mode):
                    what = "a link" if stat.S_ISLNK(mode) else "not a regular file"
                    raise ConfigError(f"{entry.path}: is {what}; a run's folder may contain only files and folders")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn any error while reading a file into one message that names it.

    Raises:
        ConfigError: if the file cannot be read, or its content is not what it should be.
    """
    try:
        yield
    except ConfigError:
        raise
    except ValidationError as error:
        key, message = first_complaint(error, {})
        where = map(str, error.errors(include_url=False)[0]["loc"] or key)
        raise _damaged(path, f"{'.'.join(where)}: {message}") from error
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        AssertionError,
        RuntimeError,  # RecursionError too
        MemoryError,
        SafetensorError,
        yaml.YAMLError,
        csv.Error,
        BadZipFile,
        zlib.error,
        struct.error,
    ) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _damaged(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path}: missing or damaged: {' '.join(reason.split())[:_LONGEST_REASON]}")


def content_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file; links are not followed, and pipes are not waited for.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not a regular file, or larger than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | NO_LINK | _NO_WAIT | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")
        if found.st_size > most:
            raise ValueError(f"has {found.st_size:,} bytes, more than {most:,}")
        return file.read()


def read_text(path: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        ConfigError: if it cannot be read; the same holds for the functions below.
    """
    with readable(path):
        return content_of(path).decode()


def parse_json(content: str | bytes) -> Any:
    """Parse strict JSON, without NaN and infinity, and with limited nesting.

    Raises:
        ValueError: if it is anything else.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        found = json.loads(content, parse_constant=refuse)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    _check(found, strings=False)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object."""
    with readable(path):
        return _object(content_of(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            rows.append(_object(line))
        except ValueError as error:
            raise _damaged(path, f"line {number}: {error}") from None
    return rows


def _object(content: str | bytes) -> dict[str, Any]:
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, got {str(found)[:40]}")
    neutral: dict[str, Any] = neutralised(found)
    return neutral


def read_yaml(path: Path) -> Any:
    """Read a YAML file without tags and aliases; a few lines of aliases could fill any memory."""
    text = read_text(path)
    with readable(path):
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} levels deep")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
                raise ValueError("contains YAML aliases or tags")
        found = yaml.load(text, Loader=_LOADER)
        _check(found, strings=True)
        return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header."""
    text = read_text(path)
    with readable(path):
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has more or fewer columns than the header")
        return rows


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a .npz file, without pickle and with a limit on their unpacked size."""
    with readable(path):
        content = content_of(path)
        with ZipFile(io.BytesIO(content)) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > MOST_BYTES:
                raise ValueError(f"has {size:,} bytes unpacked, more than {MOST_BYTES:,}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)


def number(value: Any, least: float = -math.inf) -> float:
    """Validate a finite number; booleans and text are refused.

    Raises:
        ValueError: if it is anything else, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ValueError(
            f"expected a finite number{'' if least == -math.inf else f' of at least {least:g}'}, got {value}"
        )
    return value


def neutralised(data: Any) -> Any:
    """Plain data with printable texts, which cannot move a terminal's cursor or change the direction of writing."""
    if isinstance(data, str):
        return plain(data)
    if isinstance(data, list):
        return [neutralised(each) for each in data]
    if isinstance(data, dict):
        return {neutralised(key): neutralised(value) for key, value in data.items()}
    return data


def _check(data: Any, *, strings: bool) -> None:
    """Limit the nesting of plain data; with `strings`, refuse texts that cannot be printed as they are."""
    waiting = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        if strings and isinstance(value, str) and not is_plain(value):
            raise ValueError(f"contains control characters: {value[:40]}")
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(each, depth + 1) for each in inner]
