"""What the gates of a policy's encoders do on a batch of observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from deltarl.encoders import Encoder
from deltarl.gates.measure import ACTOR_CRITICS, Batch, evaluating, passes, run_through
from deltarl.torsos import BlockRecord
from deltarl.torsos.block import observe

MOST_TOKENS = 1_024  # that a block is measured on: some statistics compare all pairs


@dataclass(frozen=True)
class EncoderRecord:
    """The blocks of an encoder on a batch.

    Attributes:
        blocks: records of its blocks, in order; each token, or position, of each observation is a row.
        tokens: the number of tokens of each block's state, of which blocks may read the newest ones only; None for
            feature maps.
    """

    blocks: tuple[BlockRecord, ...]
    tokens: tuple[int, ...] | None

    def beta_by_token(self) -> Tensor | None:
        """Mean beta of each token, newest last, `[blocks, T]`; NaN for tokens that a block does not read.

        None without gates or tokens.
        """
        if self.tokens is None:
            return None
        means = [
            None if block.beta is None else block.beta.reshape(-1, count, block.beta.shape[-1]).mean((0, 2))
            for block, count in zip(self.blocks, self.tokens, strict=True)
        ]
        if all(mean is None for mean in means):
            return None
        table = torch.full((len(means), max(self.tokens)), torch.nan)
        for row, mean in zip(table, means, strict=True):
            if mean is not None:
                row[len(row) - len(mean) :] = mean
        return table


def encoders(policy: BasePolicy) -> dict[str, Encoder]:
    """The encoders of a policy, without those of target networks; one that networks share is listed once.

    They are named after the network whose features they compute, `policy_encoder`, and one that all share `encoder`.
    """
    if isinstance(policy, ACTOR_CRITICS):
        owners = {"policy": policy.pi_features_extractor, "value": policy.vf_features_extractor}
    else:
        holders = (("actor", "actor"), ("critic", "critic"), ("q", "q_net"), ("q", "quantile_net"))
        present = [(net, getattr(policy, name, None)) for net, name in holders]
        owners = {net: holder.features_extractor for net, holder in present if holder is not None}
    found = {name: each for name, each in owners.items() if isinstance(each, Encoder)}
    if len({id(each) for each in found.values()}) < len(found) or list(found) == ["q"]:
        return {"encoder": next(iter(found.values()))}
    return {f"{name}_encoder": each for name, each in found.items()}


def gated_encoders(policy: BasePolicy) -> dict[str, Sequence[nn.Module]]:
    """The blocks of every encoder that has any, by the names of `encoders`."""
    return {name: blocks for name, each in encoders(policy).items() if (blocks := each.gated_blocks())}


def measure_encoders(policy: BasePolicy, batch: Batch) -> dict[str, EncoderRecord]:
    """Measure the blocks of every encoder of `policy` on `batch`; nothing is changed.

    Args:
        policy: a policy of any algorithm.
        batch: the batch, on the policy's device. Of its observations, about `MOST_TOKENS` tokens are measured.

    Returns:
        Records by the names of `encoders`, for those with blocks. A critic's is omitted if the batch has no actions.
    """
    found = gated_encoders(policy)
    if not found:
        return {}
    with evaluating(policy), torch.no_grad():
        with passes([block for blocks in found.values() for block in blocks]) as states:
            run_through(policy, batch)
        return {
            name: EncoderRecord(
                tuple(_observed(block, *states[block]) for block in blocks),
                _tokens([states[block][0] for block in blocks]),
            )
            for name, blocks in found.items()
            if blocks[0] in states
        }


def _tokens(states: Sequence[Tensor]) -> tuple[int, ...] | None:
    return tuple(x.shape[1] for x in states) if all(x.ndim == 3 for x in states) else None


def _observed(block: nn.Module, x: Tensor, after: Tensor) -> BlockRecord:
    every = max(1, x[..., 0].numel() // MOST_TOKENS)
    return observe(block, x[::every], after[::every])
