"""Changes to a policy's Delta blocks, to see what they contribute: no erasing, another gate, a constant value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from deltarl.errors import ConfigError, nearest, suggestion
from deltarl.functional import residual_erase_update, unit_direction, write_only_update
from deltarl.gates.measure import ACTING, NetworkRecord, networks
from deltarl.torsos import DeltaBlock, Torso
from deltarl.torsos.erasing_blocks import ResidualEraseBlock

Gated = DeltaBlock | ResidualEraseBlock

# What may be set, and the word that it accepts; beta also accepts a number.
WORDS = {"beta": "mean", "erase": "off", "value": "mean"}
BETA_MOST = 2.0


@dataclass(frozen=True)
class Changes:
    """Differences from the learned policy.

    Attributes:
        beta: the gate of every head, a number or "mean"; None for the learned gate.
        erase: False to write without erasing.
        value_mean: whether to replace the value by its mean.
    """

    beta: float | str | None = None
    erase: bool = True
    value_mean: bool = False

    @property
    def means(self) -> bool:
        """Whether a mean over states is needed."""
        return self.beta == "mean" or self.value_mean


def parse_changes(given: Mapping[str, Any]) -> Changes:
    """Changes by name: `beta` a number from 0 to 2 or "mean", `erase` "off", `value` "mean".

    Raises:
        ConfigError: for another name or value, or none at all.
    """
    if not given:
        raise ConfigError(f"nothing to set; give one of {', '.join(WORDS)}")
    for name, value in given.items():
        if name not in WORDS:
            raise ConfigError(f"unknown name '{name}'{suggestion(name, WORDS)}")
        if value != WORDS[name] and not (name == "beta" and _is_gate(value)):
            form = "a number from 0 to 2, or mean" if name == "beta" else WORDS[name]
            raise ConfigError(f"{name}: expected {form}, got {value!r}{nearest(str(value), [WORDS[name]])}")
    beta = given.get("beta")
    return Changes(beta if beta in {None, "mean"} else float(beta), "erase" not in given, "value" in given)


def _is_gate(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and 0 <= float(value) <= BETA_MOST
    except (TypeError, ValueError):
        return False


@contextmanager
def intervene(
    policy: BasePolicy,
    changes: Mapping[str, Any],
    *,
    block: int | None = None,
    value_networks: bool = False,
    measured: Mapping[str, NetworkRecord] | None = None,
) -> Iterator[None]:
    """Change what the Delta blocks of `policy` compute within the context; parameters are not changed.

    On exit every block computes what it did before, bit for bit. Changed blocks are left to autograd, so `deltarl.fast`
    honours the changes too.

    Args:
        policy: a policy of any algorithm.
        changes: `{"beta": 0}`, `{"erase": "off"}`, `{"value": "mean"}` or combinations; see `parse_changes`.
        block: the only block to change, counted from 0 in each torso; default: all.
        value_networks: whether to change value networks as well as those that choose actions.
        measured: what `measure` returned for the policy; means are taken from it.

    Raises:
        ConfigError: for invalid changes, a policy without Delta blocks, a block that does not exist, `erase` if no
            block erases, `value` if a block has none, and a mean without `measured`.
    """
    parsed = parse_changes(changes)
    if parsed.means and measured is None:
        raise ConfigError("mean: needs `measured`, which deltarl.gates.measure computes on visited states")
    found = _blocks(policy, block, value_networks)
    if not parsed.erase and not any(each.erases for _, _, each in found):
        raise ConfigError("erase=off changes nothing: these blocks write but do not erase (update: write_only)")
    if parsed.value_mean and any(isinstance(each, ResidualEraseBlock) for _, _, each in found):
        raise ConfigError("value=mean: these blocks have no value (update: residual_erase)")
    before = [(each, vars(each).get("rewrite")) for _, _, each in found]
    try:
        for name, index, each in found:
            record = None if measured is None else measured[name].blocks[index]
            beta = record.beta if parsed.beta == "mean" and record is not None else None
            v = record.v if parsed.value_mean and record is not None else None
            mean_beta, mean_value = (m if m is None else m.mean(0) for m in (beta, v))
            # On the instance; deleting it restores the method of the class.
            vars(each)["rewrite"] = (
                _rewrite(each, parsed, mean_beta, mean_value)
                if isinstance(each, DeltaBlock)
                else _rewrite_residual(each, parsed, mean_beta)
            )
        yield
    finally:
        for each, own in before:
            if own is None:
                vars(each).pop("rewrite", None)
            else:
                vars(each)["rewrite"] = own


def _rewrite(
    block: DeltaBlock, changes: Changes, mean_beta: Tensor | None, mean_value: Tensor | None
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The block's `rewrite` with the changes; means are `[heads]` and `[heads, channels]`."""
    update = block.update if changes.erase else write_only_update

    def rewrite(state: Tensor, k: Tensor, source: Tensor) -> Tensor:
        v, beta = block.value_and_gate(source)
        if mean_value is not None:
            v = mean_value.expand_as(v)
        return block.products_of(update, state, k, v, _gate(beta, changes, mean_beta))[-1]

    return rewrite


def _rewrite_residual(
    block: ResidualEraseBlock, changes: Changes, mean_beta: Tensor | None
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The same for a residual block that erases: without erasing it is the residual block."""

    def rewrite(state: Tensor, h: Tensor, context: Tensor) -> Tensor:
        if not changes.erase:
            return state + h
        beta = _gate(block.beta(context), changes, mean_beta)
        return residual_erase_update(state, h, unit_direction(h, block.eps), beta)

    return rewrite


def _gate(beta: Tensor, changes: Changes, mean: Tensor | None) -> Tensor:
    """The gate `[..., heads, 1]` with the changes."""
    if mean is not None:
        return mean.unsqueeze(-1).expand_as(beta)
    return beta if changes.beta is None else torch.full_like(beta, float(changes.beta))


def _blocks(policy: BasePolicy, block: int | None, value_networks: bool) -> list[tuple[str, int, Gated]]:
    """Network, index and module of the blocks to change."""
    found = [
        (name, index, each)
        for name, network in networks(policy).items()
        if value_networks or name in ACTING
        for child in network.trunk
        if isinstance(child, Torso)
        for index, each in enumerate(child.blocks)
        if isinstance(each, Gated)
    ]
    if not found:
        whose = "its networks have" if value_networks else "the network that chooses its actions has"
        raise ConfigError(f"{whose} no Delta blocks")
    if block is None:
        return found
    indices = sorted({index for _, index, _ in found})
    if block not in indices:
        raise ConfigError(f"no block {block}; there are {', '.join(map(str, indices))}")
    return [each for each in found if each[1] == block]
