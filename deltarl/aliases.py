"""Adds the policies' aliases to Stable-Baselines3's algorithms once these are imported, and not before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

POLICIES = "deltarl.policies"
LIBRARIES = ("stable_baselines3", "sb3_contrib")


def add() -> None:
    """Add the aliases now if Stable-Baselines3 has been imported, otherwise when it is."""
    if LIBRARIES[0] in sys.modules:
        import_module(POLICIES)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds both libraries and deltarl's modules as usual, and adds the aliases once they are imported.

    This waits for the outermost of these imports to end, because before that some of what the policies need is only
    partly initialised.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in LIBRARIES and not fullname.startswith("deltarl."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(Loader):
    """A module's own loader, except that the policies are imported after the outermost import."""

    def __init__(self, own: Loader, finder: _Finder) -> None:
        self.own, self.finder = own, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self.own
        self.finder.begun.append(module.__name__)
        try:
            self.own.exec_module(module)
        finally:
            self.finder.begun.remove(module.__name__)
        if not self.finder.begun and LIBRARIES[0] in sys.modules:
            if self.finder in sys.meta_path:
                sys.meta_path.remove(self.finder)
            import_module(POLICIES)
