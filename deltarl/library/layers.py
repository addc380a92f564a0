"""YAML files and overrides as plain data that knows where each of its keys stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deltarl.errors import ConfigError
from deltarl.training.spec import complete_older
from deltarl.yaml_text import DEEPEST, CoreLoader, is_integer

Key = tuple[str, ...]
Place = Callable[[int], str]  # where a line of a text is, for messages
COMMAND_LINE = "command line"
# Below this key everything is an environment's own.
OPEN = "kwargs"


@dataclass
class Layer:
    """Plain data and where each of its keys stands."""

    data: dict[str, Any]
    places: dict[Key, str]
    source: str
    prefix: Key = ()  # of its keys, in the file

    def under(self, *key: str) -> Layer:
        """The mapping under a key as a layer of its own."""
        data: Any = self.data
        for part in key:
            data = data[part]
        inner = {path[len(key) :]: place for path, place in self.places.items() if path[: len(key)] == key}
        return Layer(data, inner, self.place(key), (*self.prefix, *key))

    def spelled(self, key: Key) -> tuple[str, Key]:
        """The place of a key, and the key as it stands there."""
        return self.place(key), (*self.prefix, *key)

    def asker(self, key: Key) -> str:
        """A key with its place, for messages."""
        place, spelled = self.spelled(key)
        return f"{place}: {'.'.join(spelled)}"

    def place(self, key: Key) -> str:
        """The place of a key, or of the nearest one above it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.places:
                return self.places[key[:length]]
        return self.source


def read_yaml(path: Path) -> Layer:
    """A YAML file's mapping; duplicate keys, tags and aliases are refused."""
    shown = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{shown}: cannot be read: {' '.join(str(error).split())}") from None
    layer = _read_text(text, shown, lambda line: f"{shown}:{line}")
    _find_beside(layer.data, path.parent)
    complete_older(layer.data)
    return layer


def _find_beside(data: dict[str, Any], folder: Path) -> None:
    """Let the files that a config names, or a comparison in its tasks, be those beside it, where there are any."""
    tasks = found if isinstance(found := data.get("tasks"), dict) else {}
    for name, task in tasks.items():
        if isinstance(task, dict):
            _find_beside(task, folder)
        else:
            tasks[name] = _beside(task, folder)
    for key in ("agent", "env", "config"):
        if isinstance(held := data.get(key), dict) and "base" in held:
            held["base"] = _beside(held["base"], folder)
        elif key in data:
            data[key] = _beside(held, folder)


def _beside(name: Any, folder: Path) -> Any:
    if not isinstance(name, str) or not name.endswith((".yaml", ".yml")) or name.startswith("~"):
        return name
    try:
        return str(folder / name) if (folder / name).is_file() else name
    except (OSError, ValueError):  # no such name can be; what looks it up says so
        return name


def parse_override(text: str) -> Layer:
    """`key.path=value` as a layer of its own."""
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{COMMAND_LINE}: '{text}' is not of the form key=value or key.path=value")
    if not value:
        raise ConfigError(f"{COMMAND_LINE}: {key}: no value behind '='")
    here = f"{COMMAND_LINE}: {key}"
    holder = _read_text(f"value: {value}", here, lambda _: here, under=tuple(parts))
    if len(holder.data) > 1:
        raise ConfigError(f"{COMMAND_LINE}: {key}: a value of one line is wanted")
    data: Any = holder.data["value"]
    for depth, part in reversed(list(enumerate(parts))):
        data = {int(part) if OPEN in parts[:depth] and is_integer(part) and len(part) < 20 else part: data}
    return Layer(data, {}, COMMAND_LINE)


def _read_text(text: str, source: str, place: Place, under: Key = ()) -> Layer:
    try:
        depth = 0
        for event in yaml.parse(text, Loader=CoreLoader):
            here = place(event.start_mark.line + 1) if event.start_mark else source
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(f"{here}: nested more than {DEEPEST} levels deep")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{here}: YAML aliases are not taken; write the value out")
            if (tag := getattr(event, "tag", None)) is not None:
                raise ConfigError(f"{here}: YAML tags are not taken: {tag}")
        loader = CoreLoader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = place(mark.line + 1) if mark else source
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML: {reason}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{source}: holds no mapping of keys to values")
    places: dict[Key, str] = {}
    data = _construct(loader, node, (), places, place, under)
    return Layer(data, places, source)


def _construct(  # noqa: PLR0917 - it calls itself
    loader: CoreLoader, node: yaml.Node, key: Key, places: dict[Key, str], place: Place, under: Key = ()
) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, key, places, place, under) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, key, place)
    data: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        here = place(key_node.start_mark.line + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{here}: {'.'.join(key)}: a key is a word, not a list or a mapping")
        name = str(key_node.value)
        # Names are text, whatever they look like; what an environment takes as its own is what YAML says.
        kept = _scalar(loader, key_node, key, place) if OPEN in (*under, *key) else name
        if type(kept) not in {str, int}:
            raise ConfigError(f"{here}: {name}: a key is text or an integer; quote what is text")
        if kept in data:
            raise ConfigError(f"{here}: {'.'.join((*key, name))}: the same key twice")
        places[(*key, name)] = here
        data[kept] = _construct(loader, value_node, (*key, name), places, place, under)
    return data


def _scalar(loader: CoreLoader, node: yaml.Node, key: Key, place: Place) -> Any:
    try:
        return loader.construct_object(node)
    except ValueError as error:  # Python's, of a number of thousands of digits
        here = place(node.start_mark.line + 1)
        raise ConfigError(f"{here}: {'.'.join(key)}: {' '.join(str(error).split())[:80]}") from None
