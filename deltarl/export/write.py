"""Writes a deployed policy to a file, after checking it against the original."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from deltarl import disk
from deltarl.errors import ConfigError
from deltarl.export.check import check
from deltarl.export.formats import encode, opened
from deltarl.export.policy import policy_module
from deltarl.export.target import Format, check_packages, check_target, format_of


def save_policy(
    model: BaseAlgorithm | BasePolicy,
    path: Path | str,
    normalizer: VecNormalize | None = None,
    *,
    observation_space: spaces.Space[Any] | None = None,
    format: Format | None = None,  # noqa: A002 - as in the options of the command line
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> float:
    """Export a policy to one file: raw observations in, actions in the environment's units out.

    The file is opened again and compared with the policy on 1,000 observations before it gets its name.

    Args:
        model: as in `policy_module`; the two next arguments, too.
        path: ends in `.onnx`, `.pt2` (an exported program of PyTorch's) or `.ts` (TorchScript).
        normalizer: the `VecNormalize` that the policy was trained with.
        observation_space: the environment's.
        format: `onnx`, `torch` or `torchscript`; default: what the suffix says.
        metadata: stored in the file, in addition to spaces and versions.
        overwrite: replace an existing file.

    Returns:
        The largest difference to the policy's actions, relative to half their range.

    Raises:
        ConfigError: if the file exists or cannot be written, a package is missing, the policy cannot be exported, or
            the export does not act as the policy does; nothing is written then.
    """
    path = Path(path)
    kind = format_of(path) if format is None else format
    check_target(path, overwrite=overwrite)
    check_packages(kind)
    if isinstance(model, BaseAlgorithm) and normalizer is None:
        normalizer = model.get_vec_normalize_env()
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    module = policy_module(model, normalizer, observation_space)
    facts = {
        "observation_space": str(module.observation_space),
        "action_space": str(module.action_space),
        "deltarl": version("deltarl"),
        "torch": version("torch"),
        **(metadata or {}),
    }
    content = encode(module, kind, facts)
    difference = check(policy, normalizer, module, opened(content, kind, module, path))
    try:
        disk.replace(path, content)
    except OSError as error:
        raise ConfigError(f"export: {path} cannot be written: {error.strerror or error}") from None
    return difference
