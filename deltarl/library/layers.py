"""YAML files and overrides as plain data, with the location of each key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deltarl.errors import ConfigError
from deltarl.training.older import complete_older
from deltarl.yaml_text import DEEPEST, CoreLoader, is_integer

Key = tuple[str, ...]
Place = Callable[[int], str]  # line number to location, for messages
COMMAND_LINE = "command line"
# Everything below this key is passed to the environment as it is.
OPEN = "kwargs"


@dataclass
class Layer:
    """Plain data, with the location of each key."""

    data: dict[str, Any]
    places: dict[Key, str]
    source: str
    prefix: Key = ()  # path of this mapping in the file

    def under(self, *key: str) -> Layer:
        """The mapping under a key, as a layer."""
        data: Any = self.data
        for part in key:
            data = data[part]
        inner = {path[len(key) :]: place for path, place in self.places.items() if path[: len(key)] == key}
        return Layer(data, inner, self.place(key), (*self.prefix, *key))

    def spelled(self, key: Key) -> tuple[str, Key]:
        """The location of a key, and the key as written there."""
        return self.place(key), (*self.prefix, *key)

    def asker(self, key: Key) -> str:
        """A key with its location, for messages."""
        place, spelled = self.spelled(key)
        return f"{place}: {'.'.join(spelled)}"

    def place(self, key: Key) -> str:
        """The location of a key, or of its nearest parent that has one."""
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
    """Resolve files named in a config, or in a comparison's tasks, relative to it, if they exist there."""
    tasks = found if isinstance(found := data.get("tasks"), dict) else {}
    for name, task in tasks.items():
        if isinstance(task, dict):
            _find_beside(task, folder)
        else:
            tasks[name] = _beside(task, folder)
    if isinstance(tune := data.get("tune"), dict) and "space" in tune:
        tune["space"] = _beside(tune["space"], folder)
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
    except (OSError, ValueError):  # an impossible name; the look-up reports it
        return name


def parse_override(text: str) -> Layer:
    """Parse `key.path=value` into a layer."""
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"{COMMAND_LINE}: '{text}' is not of the form key=value or key.path=value")
    if not value:
        raise ConfigError(f"{COMMAND_LINE}: {key}: no value after '='")
    here = f"{COMMAND_LINE}: {key}"
    holder = _read_text(f"value: {value}", here, lambda _: here, under=tuple(parts))
    if len(holder.data) > 1:
        raise ConfigError(f"{COMMAND_LINE}: {key}: expected a value on one line")
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
                raise ConfigError(f"{here}: YAML aliases are not supported; write the value out")
            if (tag := getattr(event, "tag", None)) is not None:
                raise ConfigError(f"{here}: YAML tags are not supported: {tag}")
        loader = CoreLoader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = place(mark.line + 1) if mark else source
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{where}: not valid YAML: {reason}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{source}: expected a mapping of keys to values")
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
            raise ConfigError(f"{here}: {'.'.join(key)}: expected a word as key, got a list or a mapping")
        name = str(key_node.value)
        # Keys are text, whatever they look like, except below an environment's kwargs, where YAML's type counts.
        kept = _scalar(loader, key_node, key, place) if OPEN in (*under, *key) else name
        if type(kept) not in {str, int}:
            raise ConfigError(f"{here}: {name}: expected text or an integer as key; quote text")
        if kept in data:
            raise ConfigError(f"{here}: {'.'.join((*key, name))}: duplicate key")
        places[(*key, name)] = here
        data[kept] = _construct(loader, value_node, (*key, name), places, place, under)
    return data


def _scalar(loader: CoreLoader, node: yaml.Node, key: Key, place: Place) -> Any:
    try:
        return loader.construct_object(node)
    except ValueError as error:  # Python's limit on the digits of a number
        here = place(node.start_mark.line + 1)
        raise ConfigError(f"{here}: {'.'.join(key)}: {' '.join(str(error).split())[:80]}") from None
