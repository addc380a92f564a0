"""Files of trained networks and normalisers, without pickle: safetensors and NumPy's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_model, save_file
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from deltarl.errors import ConfigError
from deltarl.reading import read_arrays, readable


def save_policy(policy: BasePolicy, path: Path) -> None:
    """Write a policy's parameters and buffers as safetensors; shared tensors are stored once, by their first name.

    The same policy gives the same bytes. safetensors' `save_model` also writes the other names of shared tensors, in an
    order that differs between processes.
    """
    kept: dict[Any, tuple[str, torch.Tensor]] = {}
    for name, tensor in sorted(policy.state_dict().items()):
        kept.setdefault((tensor.data_ptr(), tensor.shape) if tensor.numel() else name, (name, tensor.contiguous()))
    save_file(dict(kept.values()), str(path))
    path.chmod(0o644)  # safetensors makes it private


def load_policy(policy: BasePolicy, path: Path) -> None:
    """Load a file of `save_policy` into a policy with the same shapes.

    Raises:
        ConfigError: if the file is damaged or of another policy.
    """
    if difference := misfit(policy, path):
        raise ConfigError(f"{path}: is of another policy: {difference}")
    with readable(path):
        load_model(policy, str(path))


def misfit(policy: BasePolicy, path: Path) -> str | None:
    """The first tensor of a `save_policy` file that does not fit a policy; None if all fit.

    Name, shape and dtype must be equal: nothing is broadcast or cast.

    Raises:
        ConfigError: if the file is damaged, or contains NaN or infinity.
    """
    own = policy.state_dict()
    with readable(path), safe_open(str(path), framework="pt") as stored:
        for name in stored.keys():  # noqa: SIM118
            shape = stored.get_slice(name).get_shape()
            if name not in own or shape != list(own[name].shape):
                expected = f"shape {list(own[name].shape)}" if name in own else "no such tensor"
                return f"{name}: expected {expected}, got {shape}"
            tensor = stored.get_tensor(name)
            if tensor.dtype != own[name].dtype:
                return f"{name}: expected {own[name].dtype}, got {tensor.dtype}"
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ValueError(f"{name} contains NaN or infinity")
    return None


def save_normalizer(normalizer: VecNormalize, path: Path) -> None:
    """Write VecNormalize's statistics without pickle; each key of a Dict observation has its own."""
    arrays: dict[str, Any] = {"returns": normalizer.returns}
    for name, statistics in _statistics(normalizer).items():
        arrays |= {f"{name}/mean": statistics.mean, f"{name}/var": statistics.var, f"{name}/count": statistics.count}
    np.savez(path, **arrays)


def load_normalizer(normalizer: VecNormalize, path: Path) -> None:
    """Load a file of `save_normalizer` into a normaliser of the same environment.

    Raises:
        ConfigError: if the file is missing, damaged or of other observations.
    """
    arrays = read_arrays(path)
    with readable(path):
        for name, statistics in (known := _statistics(normalizer)).items():
            shape = np.shape(statistics.mean)
            for part, wanted in (("mean", shape), ("var", shape), ("count", ())):
                array = arrays[f"{name}/{part}"]
                if array.shape != wanted or array.dtype != np.float64:
                    raise ValueError(f"{name}/{part}: expected float64 {wanted}, got {array.dtype} {array.shape}")
                if not np.isfinite(array).all() or (part != "mean" and (array < 0).any()):
                    raise ValueError(f"{name}/{part} contains impossible values")
        if others := arrays.keys() - {"returns"} - {f"{name}/{part}" for name in known for part in _PARTS}:
            raise ValueError(
                f"contains statistics of entries that the environment does not have: {', '.join(sorted(others))}"
            )
        for name, statistics in known.items():
            statistics.mean, statistics.var, count = (arrays[f"{name}/{part}"] for part in _PARTS)
            statistics.count = float(count)


def shapes_of(normalizer: VecNormalize) -> dict[str, tuple[Any, ...]]:
    """The shapes and dtypes of mean and variance of each of a normaliser's statistics."""
    return {
        name: tuple((np.shape(part), np.asarray(part).dtype) for part in (statistics.mean, statistics.var))
        for name, statistics in _statistics(normalizer).items()
    }


_PARTS = ("mean", "var", "count")


def _statistics(normalizer: VecNormalize) -> dict[str, RunningMeanStd]:
    found = {"return": normalizer.ret_rms}
    if not normalizer.norm_obs:
        return found
    if isinstance(normalizer.obs_rms, dict):
        return found | {f"observation/{key}": statistics for key, statistics in normalizer.obs_rms.items()}
    return found | {"observation": normalizer.obs_rms}
