"""Where the files of agents, environments, configs and comparisons are.

A bare name is looked up in the working directory's `agents/`, `envs/` and `configs/`, then among the shipped files.
"""

from __future__ import annotations

from pathlib import Path

from deltarl import places
from deltarl.errors import ConfigError, suggestion

# Folders of YAML files, and what to call one file in each.
KINDS = {
    "agents": "agent",
    "envs": "env",
    "configs": "config",
    "configs/compare": "comparison",
    "configs/search": "space",
}


def find(kind: str, name: str, asker: str) -> Path:
    """The file of a named agent, environment or config.

    Args:
        kind: one of `KINDS`.
        name: a name, or a path that ends in .yaml or .yml.
        asker: what refers to it, for the message.
    """
    try:
        explicit = Path(name).expanduser()
        if explicit.suffix in {".yaml", ".yml"}:
            if explicit.is_file():
                return explicit
            raise ConfigError(f"{asker}: no file '{name}'")
        if explicit.suffix == ".zip" and explicit.is_file():
            raise ConfigError(
                f"{asker}: '{name}' is an archive, not a config; write the config of a packed agent to a file with: "
                f"deltarl show {name} > mine.yaml"
            )
        for folder in _folders(kind):
            path = folder / f"{name}.yaml"
            # A name like ../x would leave the folder.
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
    except (OSError, RuntimeError, ValueError) as error:  # an impossible name, or an unknown home directory
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{asker}: '{name[:80]}' cannot be looked up: {error}") from None
    hint = "; a Gymnasium id is given as env.id=" if kind == "envs" and "-v" in name else suggestion(name, names(kind))
    raise ConfigError(f"{asker}: no {KINDS[kind]} '{name}'{hint}")


def names(kind: str) -> list[str]:
    """Names of all files of a kind that can be found from the working directory."""
    return sorted({path.stem for folder in _folders(kind) for path in folder.glob("*.yaml")})


def _folders(kind: str) -> list[Path]:
    return [folder for folder in (Path.cwd() / kind, places.shipped() / kind) if folder.is_dir()]
