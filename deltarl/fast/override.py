"""A method of a policy, overridden on one instance for the length of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class Override:
    """Stands in for a method of a policy, on the instance, until `end`.

    Code that has wrapped it in the meantime keeps a method that works: afterwards it calls the class's own.
    """

    def __init__(self, policy: nn.Module, name: str, instead: Callable[..., Any]) -> None:
        self.policy, self.name = policy, name
        self.instead: Callable[..., Any] | None = instead
        vars(policy)[name] = self

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the replacement, or after `end` the method of the class."""
        if self.instead is not None:
            return self.instead(*args, **options)
        return getattr(type(self.policy), self.name)(self.policy, *args, **options)

    def end(self) -> None:
        """Remove this from the policy."""
        self.instead = None
        if vars(self.policy).get(self.name) is self:
            del vars(self.policy)[self.name]

    def __reduce__(self) -> Any:
        # A copy of the policy that is made during the rollout has the method of its class.
        return getattr, (self.policy, self.name)
