"""What a run's numbers depend on besides its config."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from deltarl import plugins
from deltarl.task_packages import FAMILIES, family_of

RECORDED_PACKAGES = (
    "deltarl",
    "torch",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    *(name for family in FAMILIES if not family.extra for name in family.distributions),
    "mujoco",
    "numpy",
)
EXTRA_PACKAGES = ("envpool", *(name for family in FAMILIES if family.extra for name in family.distributions))


def provenance(command: list[str]) -> dict[str, Any]:
    """What a run's numbers depend on besides its config: versions, code, machine, threads, command."""
    return {
        "command": shlex.join(command),
        **surroundings(),
        "imports": plugins.named(),
        "extras": {name: _version(name) for name in EXTRA_PACKAGES},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


def surroundings(env_id: str = "") -> dict[str, Any]:
    """What the last bits of a run's numbers depend on besides its config.

    Args:
        env_id: the environment; the versions of the packages that an extra installed for it count too.
    """
    family = family_of(env_id)
    packages = (*RECORDED_PACKAGES, *(family.distributions if family else ()))
    return {
        "git": _git_state(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "imported": plugins.digests(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


def _git_state() -> str | None:
    """The code's commit, marked if there are uncommitted changes; None if the package does not run from a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / "pyproject.toml").is_file():
        return None
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
