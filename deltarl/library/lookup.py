"""Where the files of agents, environments, configs and comparisons are.

Look-up of a bare name: the working directory's `agents/`, `envs/` and `configs/`, then what is shipped.
"""

from __future__ import annotations

from pathlib import Path

from deltarl.errors import ConfigError, suggestion

# Folders of YAML files, and what one file in them is called.
KINDS = {"agents": "agent", "envs": "env", "configs": "config", "configs/compare": "comparison"}


def find(kind: str, name: str, asker: str) -> Path:
    """The file of a named agent, environment or config.

    Args:
        kind: one of `KINDS`.
        name: a name, or a path that ends in .yaml or .yml.
        asker: who wants it, for the message.
    """
    try:
        explicit = Path(name).expanduser()
        if explicit.suffix in {".yaml", ".yml"}:
            if explicit.is_file():
                return explicit
            raise ConfigError(f"{asker}: no file '{name}'")
        for folder in _folders(kind):
            path = folder / f"{name}.yaml"
            # A name like ../x would leave the folder.
            if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return path
    except (OSError, RuntimeError, ValueError) as error:  # a name that the system cannot have, or no such home
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{asker}: '{name[:80]}' cannot be looked up: {error}") from None
    hint = "; a Gymnasium id is given as env.id=" if kind == "envs" and "-v" in name else suggestion(name, names(kind))
    raise ConfigError(f"{asker}: no {KINDS[kind]} '{name}'{hint}")


def names(kind: str) -> list[str]:
    """Names of all files of a kind that can be found from here."""
    return sorted({path.stem for folder in _folders(kind) for path in folder.glob("*.yaml")})


def _folders(kind: str) -> list[Path]:
    return [folder for folder in (Path.cwd() / kind, _shipped() / kind) if folder.is_dir()]


def _shipped() -> Path:
    """The checkout's folders where there is a checkout (an editable install has a stale `_specs`), else the wheel's."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    return checkout if (checkout / "pyproject.toml").is_file() else package / "_specs"
