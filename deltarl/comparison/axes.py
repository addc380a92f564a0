"""Axes of a comparison: options that take several values, with which every task is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

Value = bool | int | float | str | None
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+")


def text_of(value: Value) -> str:
    """A value as it stands in the name of a task."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def are_axes(axes: object) -> bool:
    """Whether data from a file are axes without faults."""
    listed = isinstance(axes, Mapping) and all(isinstance(values, list | tuple) for values in axes.values())
    return listed and fault_of(axes) is None  # type: ignore[arg-type]


def fault_of(axes: Mapping[str, Sequence[Value]]) -> tuple[str, str] | None:
    """The first path whose values cannot be in the names of tasks, and why not."""
    for path, values in axes.items():
        if other := [value for value in values if not isinstance(value, Value)]:
            return path, f"expected numbers, names, true, false or null; got {other[0]}"
        texts = [text_of(value) for value in values]
        if len(texts) < 2:
            return path, f"expected two or more values; got {', '.join(texts) or 'none'}"
        if len(set(texts)) < len(texts):
            return path, f"contains {next(text for text in texts if texts.count(text) > 1)} twice"
        if odd := [text for text in texts if not _PLAIN.fullmatch(text)]:
            return path, f"expected letters, digits, dots, hyphens and plus signs; got '{odd[0]}'"
    return None


def points(axes: Mapping[str, Sequence[Value]]) -> dict[str, dict[str, Value]]:
    """The value of each path by the name of the point, such as `depth=8`; no points without axes.

    The last part of a path names it, unless two have the same one.
    """
    if not axes:
        return {}
    lasts = [path.rpartition(".")[2] for path in axes]
    names = [path if lasts.count(last) > 1 else last for path, last in zip(axes, lasts, strict=True)]
    return {
        "+".join(f"{name}={text_of(value)}" for name, value in zip(names, values, strict=True)): dict(
            zip(axes, values, strict=True)
        )
        for values in product(*axes.values())
    }


def flattened(axes: Mapping[str, object]) -> dict[str, object]:
    """`{torso: {depth: [2, 8]}}`, which overrides give, as `{torso.depth: [2, 8]}`; null removes an axis."""
    return {path: values for path, values in dict(_leaves(axes)).items() if values is not None}


def _leaves(axes: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in axes.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{path}", each) for path, each in _leaves(value))
        else:
            yield key, value
