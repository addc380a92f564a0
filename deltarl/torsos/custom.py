"""Torsos of user-defined blocks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_serializer, field_validator
from pydantic.json_schema import WithJsonSchema

from deltarl import plugins
from deltarl.errors import ConfigError, complaint, suggestion
from deltarl.torsos.base import StackSpec

if TYPE_CHECKING:
    from torch import nn


class CustomTorsoSpec(StackSpec):
    """User-defined blocks between the same stem and final norm.

    A file names the class as `module:Class`, in a module that is already imported (`--import`, or in a script). From
    Python, give the class; to pass options to it, outside of configs only, `functools.partial(MyBlock, option=...)`.
    """

    in_files: ClassVar[bool] = False
    formula: ClassVar[str] = "a class of your own"
    kind: Literal["custom"] = "custom"
    block: Annotated[
        Callable[[CustomTorsoSpec], Any], WithJsonSchema({"type": "string", "pattern": "^[^:]+:[^:]+$"})
    ] = Field(
        description="Called with this spec once for each block; gives a torch.nn.Module that maps [..., width] to "
        "[..., width]. In files, module:Class."
    )

    @field_validator("block", mode="before")
    @classmethod
    def _block_is_imported(cls, block: Any) -> Any:
        if not isinstance(block, str):
            return block
        try:
            return find_block(block)
        except ConfigError as error:
            raise complaint(str(error)) from None

    @field_serializer("block")
    def _block_by_name(self, block: Any) -> Any:
        return block_name(block) or block

    def make_block(self) -> nn.Module:
        """Build one block of the user's class, and try it.

        Raises:
            ConfigError: if the class or its `forward` raises an exception, if it makes no module or no states of its
                width, or if the path of a parameter contains "value": TRPO would leave that parameter out of the
                policy's step.
        """
        from torch import nn

        with _named(self.block, "it is called with the torso's spec alone, which has the width as spec.width"):
            block = self.block(self)
        if not isinstance(block, nn.Module):
            raise ConfigError(f"torso.block: expected a torch.nn.Module from {self.block!r}, got {block!r}")
        for name, _ in block.named_parameters():
            if "value" in name:
                raise ConfigError(
                    f"torso.block: {self.block!r} has a parameter '{name}'; TRPO leaves all with 'value' in their "
                    "path out of the policy's step, so give it another name"
                )
        _try(block, self.block, self.width)
        return block


@contextmanager
def _named(block: Any, hint: str) -> Iterator[None]:
    """Report what a user's block raises in one line that names it."""
    try:
        yield
    except Exception as error:
        what = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        raise ConfigError(f"torso.block: {block_name(block) or repr(block)} raised {what}; {hint}") from error


def _try(module: nn.Module, block: Any, width: int) -> None:
    """Check with a copy of a block that it maps states to states; random numbers stay as they are."""
    import torch

    like = next((each for each in module.parameters() if each.is_floating_point()), torch.empty(0))
    state = torch.zeros(2, width, device=like.device, dtype=like.dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _named(block, f"it is called with states [..., {width}]"):
        given = deepcopy(module).eval()(state)
    if not isinstance(given, torch.Tensor) or given.shape != state.shape or not given.is_floating_point():
        got = f"{list(given.shape)} of {given.dtype}" if isinstance(given, torch.Tensor) else type(given).__name__
        raise ConfigError(
            f"torso.block: {block_name(block) or repr(block)}: expected states {list(state.shape)} from its forward, "
            f"got {got}"
        )


def block_name(block: Any) -> str | None:
    """`module:Class` of a block's class; None if it cannot be found by that name, such as a class in a function."""
    if not isinstance(block, type):
        return None
    module = sys.modules.get(block.__module__)
    name = f"{_name_of_main() if block.__module__ == '__main__' else block.__module__}:{block.__qualname__}"
    return name if module is not None and _member(module, block.__qualname__) is block else None


def find_block(name: str) -> type[nn.Module]:
    """The class of a block, in a module that is already imported; nothing is imported because a file names it.

    Args:
        name: `module:Class`. A script's own classes are in the module with its name.

    Raises:
        ConfigError: if the module is not imported, or has no such subclass of `torch.nn.Module`.
    """
    from torch import nn

    where, _, what = name.partition(":")
    if not (where and what):
        raise ConfigError(f"expected module:Class; got '{name}'")
    plugins.load()
    module = sys.modules.get("__main__" if where == _name_of_main() else where)
    if module is None:
        raise ConfigError(f"no module '{where}' is imported; give --import {where} or the path of its file")
    found = _member(module, what)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module.__name__):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise ConfigError(f"module '{where}' defines no torch.nn.Module '{what}'{suggestion(what, own)}")
    return found


def _member(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _name_of_main() -> str:
    """The name under which another process can import the script that this one runs."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return "__main__" if path is None else Path(path).stem
