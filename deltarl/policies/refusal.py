"""Placeholder for an unsupported policy; raises ConfigError, where Stable-Baselines3 only reports an unknown name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from stable_baselines3.common.policies import BasePolicy

from deltarl.errors import ConfigError


def refusal(alias: str, known: Sequence[str]) -> type[BasePolicy]:
    """A placeholder policy class; constructing it raises a ConfigError that names the available policies."""

    class RefusedPolicy(BasePolicy):
        def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
            names = ", ".join(f'"{name}"' for name in known)
            raise ConfigError(f'the algorithm has no "{alias}"; it has {names}')

    return RefusedPolicy
