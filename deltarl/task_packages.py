"""The packages whose environments are available without `--import`; no other file lists them.

A checkpoint and `provenance.json` record their versions, their code is trusted not to change an algorithm, and what
their classes and functions hold is taken to be the same in every process of one version.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from deltarl.errors import ConfigError


class MissingPackageError(ConfigError):
    """The package of an environment is not installed or cannot be imported."""


@dataclass(frozen=True)
class Family:
    """The environments that a package registers in Gymnasium.

    Attributes:
        title: what messages call it.
        package: the module whose import registers them; a module of deltarl where the package's own ids do not do.
        distributions: what is installed for them, as the package index names it.
        modules: the top-level modules of their code.
        prefix: how all their ids begin; empty if they have nothing in common.
        extra: the extra of deltarl that installs them; empty if they are always installed.
        transient: by class, attributes that hold no state, such as locks and tables of views of the simulation.
    """

    title: str
    package: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    prefix: str = ""
    extra: str = ""
    transient: Mapping[str, frozenset[str]] = field(default_factory=dict)


ROBOTICS = Family(
    "gymnasium-robotics",
    package="gymnasium_robotics",
    distributions=("gymnasium-robotics",),
    modules=("gymnasium_robotics",),
)
DM_CONTROL = Family(
    "DeepMind Control",
    package="shimmy",
    distributions=("dm-control", "shimmy"),
    modules=("shimmy", "dm_control", "dm_env"),
    prefix="dm_control/",
    extra="dmc",
    # `_named` gives access to the simulation's arrays by name; frames are not drawn by DeepMind's own renderer.
    transient={"dm_control.mujoco.engine.Physics": frozenset({"_contexts", "_contexts_lock", "_named"})},
)
META_WORLD = Family(
    "Meta-World",
    package="deltarl.metaworld_tasks",
    distributions=("metaworld",),
    modules=("metaworld",),
    prefix="Meta-World/",
    extra="metaworld",
)
FAMILIES = (ROBOTICS, DM_CONTROL, META_WORLD)
PACKAGES = tuple(module for family in FAMILIES for module in family.modules)
TRANSIENT = {kind: names for family in FAMILIES for kind, names in family.transient.items()}


def family_of(env_id: str) -> Family | None:
    """The family to which an id belongs by its prefix; None for all others."""
    return next((family for family in FAMILIES if family.prefix and env_id.startswith(family.prefix)), None)


def register(env_id: str) -> None:
    """Import the package that may register an environment.

    Raises:
        MissingPackageError: if it is not installed or cannot be imported, with the command that installs it.
    """
    named = family_of(env_id)
    for family in (named,) if named else [family for family in FAMILIES if not family.prefix]:
        # gymnasium_robotics prints a notice about some of its environments, and GLFW one about a missing screen.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for module in (*reversed(family.modules), family.package):
                    import_module(module)
            except ImportError as error:
                hint = f": pip install 'deltarl[{family.extra}]'" if family.extra else ""
                raise MissingPackageError(f"'{env_id}' needs {family.title} ({error}){hint}") from None


def tidy(env: object) -> None:
    """Delete the file that gymnasium-robotics has written for a maze; it has been read."""
    path = getattr(env, "tmp_xml_file_path", None)
    if path is not None and type(env).__module__.partition(".")[0] in ROBOTICS.modules:
        Path(path).unlink(missing_ok=True)
