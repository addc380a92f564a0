"""Temporary overrides of a method on one instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Override:
    """Replaces a method of an object, on the instance, until `end`. It is never stored.

    Code that has wrapped it in the meantime keeps a working method: after `end` it calls the method of the class.
    """

    def __init__(self, thing: Any, name: str, instead: Callable[..., Any]) -> None:
        self.thing, self.name = thing, name
        self.instead: Callable[..., Any] | None = instead
        vars(thing)[name] = self

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the replacement, or after `end` the method of the class."""
        if self.instead is not None:
            return self.instead(*args, **options)
        return getattr(type(self.thing), self.name)(self.thing, *args, **options)

    def end(self) -> None:
        """Remove this from the object."""
        self.instead = None
        if vars(self.thing).get(self.name) is self:
            del vars(self.thing)[self.name]

    def __reduce__(self) -> Any:
        # A copy of the object made in the meantime gets the method of its class.
        return getattr, (self.thing, self.name)
