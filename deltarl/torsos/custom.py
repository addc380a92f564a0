"""Torsos of user-defined blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from deltarl.errors import ConfigError
from deltarl.torsos.base import StackSpec


class CustomTorsoSpec(StackSpec):
    """User-defined blocks between the same stem and final norm. Only from Python: a file cannot hold a class.

    To pass options to the class, give `functools.partial(MyBlock, option=...)` as `block`.
    """

    in_files: ClassVar[bool] = False
    formula: ClassVar[str] = "a class of your own, from Python"
    kind: Literal["custom"] = "custom"
    block: Callable[[CustomTorsoSpec], Any] = Field(
        description="Called with this spec once for each block; gives a torch.nn.Module that maps [..., width] to "
        "[..., width]."
    )

    def make_block(self) -> nn.Module:
        """Build one block of the user's class.

        Raises:
            ConfigError: if it is not a module, or if the path of a parameter contains "value": TRPO would leave that
                parameter out of the policy's step.
        """
        block = self.block(self)
        if not isinstance(block, nn.Module):
            raise ConfigError(f"torso.block: expected a torch.nn.Module from {self.block!r}, got {block!r}")
        for name, _ in block.named_parameters():
            if "value" in name:
                raise ConfigError(
                    f"torso.block: {self.block!r} has a parameter '{name}'; TRPO leaves all with 'value' in their "
                    "path out of the policy's step, so give it another name"
                )
        return block
