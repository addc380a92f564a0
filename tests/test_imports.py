"""Imports follow the order of the rooms, without cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import deltarl

PACKAGE = Path(deltarl.__file__).parent
# The rooms; each may import those before it.
ORDER = (
    (
        "lazily",
        "schema_kinds",
        "errors",
        "functional",
        "places",
        "yaml_text",
        "reading",
        "plugins",
        "disk",
        "archive",
        "scratch",
        "aliases",
        "task_packages",
    ),
    ("specs", "blocks", "torso", "torsos"),
    ("encoders",),
    ("policies",),
    ("fast",),
    (
        "schedules",
        "envpool_tasks",
        "envpool",
        "rendering",
        "drift",
        "history",
        "mask",
        "pixels",
        "dm_control_tasks",
        "metaworld_tasks",
        "own_tasks",
        "wrappers",
        "agents",
        "envs",
    ),
    ("gates", "recording"),
    ("checkpoints",),
    ("training",),
    ("launch",),
    ("library",),
    ("search",),
    ("schema", "comparison"),
    ("export",),
    ("bench",),
    ("cli",),
)
RANKS = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path, *, for_types: bool = True) -> Iterator[str]:
    """The modules of deltarl that a file imports, in functions too; without `for_types`, only those that run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not for_types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "deltarl")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "deltarl":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


GRAPH = {name: set(imports_of(path)) - {"deltarl"} for name, path in MODULES.items() if name != "deltarl"}


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(name) for name in GRAPH} <= RANKS.keys()


def test_rooms_import_what_comes_before_them() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if RANKS[room_of(other)] > RANKS[room_of(name)]
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    # A package's own __init__ collects names of its modules, which import each other directly. A spec builds blocks,
    # and blocks name the spec's type.
    runs = {name: set(imports_of(MODULES[name], for_types=False)) - {name, "deltarl"} for name in GRAPH}
    TopologicalSorter(runs).prepare()


def names_in(path: Path) -> set[str]:
    """Every name in a file's code: imported modules and names, variables and attributes."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.alias):
            names.update(node.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names.update((node.module or "").split("."))
        elif isinstance(node, ast.Name | ast.Attribute):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def test_only_sinks_know_tensorboard() -> None:
    writers = {"tensorboard", "TensorBoard", "TensorBoardOutputFormat", "SummaryWriter", "HParam"}
    assert {room_of(name) for name in GRAPH if names_in(MODULES[name]) & writers} == {"recording"}
