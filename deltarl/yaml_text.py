"""Reading and writing YAML such that whatever is written is read back as the same data.

Scalars follow YAML 1.2's core schema: 3e-4 and 1e6 are numbers, while dates, 1:30, 010 and `on` are text. PyYAML
follows YAML 1.1. Written text is quoted wherever either version would read it as something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_DIGITS = r"[0-9]+(_[0-9]+)*"
_WHOLE = r"(0|[1-9][0-9]*(_[0-9]+)*)"
_INT = rf"[-+]?{_WHOLE}"
_FLOAT = rf"[-+]?(\.{_DIGITS}|{_WHOLE}(\.({_DIGITS})?)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
# Type, pattern, and the possible first characters of such a scalar.
SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)
DEEPEST = 20  # levels of nesting; deltarl's own files have five


class CoreLoader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (as PyYAML declares it)


class _Dumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 (PyYAML) or YAML 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True  # readers refuse them


for _kind, _pattern, _first in SCALARS:
    for _class in (CoreLoader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)
# Specs hold lists as tuples.
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(data))


def dump(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def is_number(text: str) -> bool:
    """Whether YAML reads this text as a number."""
    return re.fullmatch(f"{_INT}|{_FLOAT}", text) is not None


def is_integer(text: str) -> bool:
    """Whether YAML reads this text as an integer."""
    return re.fullmatch(_INT, text) is not None


def plain_data(value: Any, path: str = "", depth: int = 0) -> Any:
    """Convert data to what a file can hold, with tuples as lists.

    Raises:
        ValueError: naming the first value or key that a file cannot hold.
    """
    where = f"{path}: " if path else ""
    if depth > DEEPEST // 2:
        raise ValueError(f"{where}nested more than {DEEPEST // 2} levels deep")
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, list | tuple):
        return [plain_data(item, f"{path}.{index}".strip("."), depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in {str, int}:
                raise ValueError(f"{where}expected text or an integer as key; got {key!r}")
        return {key: plain_data(item, f"{path}.{key}".strip("."), depth + 1) for key, item in value.items()}
    raise ValueError(f"{where}a file can hold numbers, text, lists and mappings; got {type(value).__name__}")


def texts(value: Any) -> Iterator[str]:
    """All texts in plain data, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from texts(list(pair))


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same data, of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            type(a) is type(b) and is_same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
