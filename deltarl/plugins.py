"""User modules with environments or blocks: `--import MODULE`, and `DELTARL_IMPORT` for scripts.

The option only sets the variable, so child processes inherit it and import the same modules.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltarl.errors import ConfigError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

VARIABLE = "DELTARL_IMPORT"
ASKER = f"--import or {VARIABLE}"


def named() -> list[str]:
    """The modules in `DELTARL_IMPORT`: importable names or file paths, separated by `os.pathsep`."""
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def add(names: Sequence[str]) -> None:
    """Import modules, here and in every process started from now on.

    Args:
        names: names of modules, which may be in the working directory, or file paths.

    Raises:
        ConfigError: if a module cannot be imported, with the reason.
    """
    for name in names:
        if os.pathsep in name:
            raise ConfigError(f"{ASKER}: '{name}': must not contain '{os.pathsep}'")
    paths = [str(Path(name).expanduser().absolute()) if _is_file(name) else name for name in names]
    if paths:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*named(), *paths]))
    load()


def load() -> None:
    """Import the modules in `DELTARL_IMPORT` that have not been imported yet.

    Raises:
        ConfigError: if a module cannot be imported, with the reason, or registers an environment under an id that is
            already taken.
    """
    for name in named():
        try:
            with _only_new_ids(name):
                if _is_file(name):
                    _import_file(Path(name).expanduser().absolute())
                elif name not in sys.modules:
                    _find_in(Path.cwd())
                    importlib.import_module(name)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            hint = f"; the path of a file ends in .py: ./{name}.py" if missing else ""
            reason = " ".join(str(error).split())
            raise ConfigError(f"{ASKER}: {name}: {type(error).__name__}: {reason}{hint}") from error


@contextlib.contextmanager
def _only_new_ids(name: str) -> Iterator[None]:
    """Refuse a module that registers an environment under an id which another module has registered.

    Raises:
        ConfigError: if it does, with the id and the other module. The id still means what it did, and the module counts
            as not imported.
    """
    import gymnasium as gym  # noqa: PLC0415 - most commands need neither it nor modules

    before = dict(gym.registry)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Overriding environment")  # said below, as an error
        yield
    if taken := [env_id for env_id, spec in before.items() if gym.registry.get(env_id) is not spec]:
        gym.registry.update(before)
        sys.modules.pop(_module_name(name), None)
        raise ConfigError(
            f"{ASKER}: {name}: registers '{taken[0]}', which {home_of(before[taken[0]])} has registered before; "
            "choose another id"
        )


def home_of(spec: EnvSpec) -> str:
    """The module of the class or function that makes a registered environment."""
    maker = spec.entry_point
    if isinstance(maker, str):
        return maker.partition(":")[0]
    return str(getattr(getattr(maker, "func", maker), "__module__", "another module"))


def registered() -> dict[str, list[str]]:
    """The ids that each module in `DELTARL_IMPORT` registers for environments in its own code."""
    import gymnasium as gym  # noqa: PLC0415

    found = {}
    for name in named():
        module = _module_name(name)
        found[Path(name).name if _is_file(name) else name] = [
            env_id
            for env_id, spec in gym.registry.items()
            if home_of(spec) == module or home_of(spec).startswith(f"{module}.")
        ]
    return found


def digests() -> dict[str, str]:
    """SHA-256 of the file of each module in `DELTARL_IMPORT`; for a package, of its `__init__.py` only."""
    found = {}
    for name in named():
        module = sys.modules.get(_module_name(name))
        path = getattr(module, "__file__", None)
        if path is not None and Path(path).is_file():
            found[Path(path).name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return found


def _module_name(name: str) -> str:
    return Path(name).stem if _is_file(name) else name


def _is_file(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _import_file(path: Path) -> None:
    """Import a file under its bare name, so that a later import of that name returns the same module."""
    known = sys.modules.get(path.stem)
    if known is not None:
        there = getattr(known, "__file__", None)
        if there is None or Path(there).resolve() != path.resolve():
            raise ConfigError(f"{ASKER}: {path}: another module is called '{path.stem}' ({there}); rename the file")
        return
    if not path.is_file():
        raise ConfigError(f"{ASKER}: {path}: no such file")
    _find_in(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{ASKER}: {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def _find_in(folder: Path) -> None:
    """Add a folder at the end of the module search path."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
