"""Blocks of torsos with sublayers of an encoder's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from deltarl.torsos import StackSpec
from deltarl.torsos.delta_blocks import DeltaBlock
from deltarl.torsos.residual_blocks import PlainBlock, ResidualBlock

_BLOCKS: dict[str, Callable[..., nn.Module]] = {"delta": DeltaBlock, "residual": ResidualBlock, "plain": PlainBlock}


def make_block(spec: StackSpec, sublayer: nn.Module | None) -> Any:
    """A block of the torso that `ShortcutSpec.torso` gives; `sublayer` is F, None for the torso's own."""
    return _BLOCKS[spec.kind](spec, sublayer)
