"""Statistics that summarise a measurement; their names are the last part of the tags in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from deltarl.gates.measure import NetworkRecord
from deltarl.torsos import BlockRecord

# The regimes of a gate (paper, section 2.3): what the shortcut does along k at beta = 0, 1 and 2.
IDENTITY_BELOW = 0.25
PROJECTION_WITHIN = 0.25
REFLECTION_ABOVE = 1.75
REGIMES = ("identity_fraction", "projection_fraction", "between_fraction", "reflection_fraction")
# Statistics that exist only for blocks that erase.
OF_ERASURE = (*REGIMES, "readout_error", "erase_share")


def block_statistics(record: BlockRecord) -> dict[str, float]:
    """The statistics of a block, over batch, heads and channels."""
    found = {"update_ratio": _mean_where_known(record.update_ratio)}
    if record.beta is not None:
        found |= gate_statistics(record.beta)
    if record.cos is not None and record.cos_pairs is not None and record.k is not None:
        cos, pairs = _mean_where_known(record.cos), _mean(record.cos_pairs)
        found |= {
            "cos_k_x": cos,
            "cos_k_x_over_pairs": cos / pairs if pairs else math.nan,
            "cos_k_x_over_random": cos / chance_cosine(record.k.shape[-1]),
        }
    if record.erases:
        assert record.beta is not None
        assert record.v is not None
        assert record.readout is not None
        assert record.erase_share is not None
        found |= {
            **regimes(record.beta),
            "readout_error": _mean((record.v - record.readout).abs()),
            "erase_share": _mean(record.erase_share),
        }
    return found


def chance_cosine(dimensions: int) -> float:
    """Mean |cos| between a uniformly random direction and a fixed one in this many dimensions."""
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)


def gate_statistics(beta: Tensor) -> dict[str, float]:
    """Moments and quantiles of beta, heads pooled."""
    beta = beta.flatten()
    if not len(beta):
        return {}
    p10, p50, p90 = torch.quantile(beta, torch.tensor([0.1, 0.5, 0.9], dtype=beta.dtype, device=beta.device)).tolist()
    return {
        "beta_mean": _mean(beta),
        "beta_std": float(beta.std(correction=0)),
        "beta_p10": p10,
        "beta_p50": p50,
        "beta_p90": p90,
    }


def regimes(beta: Tensor) -> dict[str, float]:
    """Fractions of gates near 0, around 1, near 2, and in between."""
    identity = _mean((beta < IDENTITY_BELOW).float())
    projection = _mean(((beta - 1).abs() <= PROJECTION_WITHIN).float())
    reflection = _mean((beta > REFLECTION_ABOVE).float())
    return {
        "identity_fraction": identity,
        "projection_fraction": projection,
        "reflection_fraction": reflection,
        "between_fraction": 1 - identity - projection - reflection,
    }


def network_statistics(record: NetworkRecord) -> dict[str, float]:
    """The statistics of a network as a whole."""
    found = {"effective_rank": effective_rank(record.features), "weight_norm": record.weight_norm}
    if record.dormant is not None:
        found["dormant_fraction"] = record.dormant
    if record.action_gradient is not None:
        found["action_gradient"] = record.action_gradient
    return found


def neighbour_cosines(record: NetworkRecord) -> list[float]:
    """Mean |cos| between the directions k of each block and the next, heads taken in their order."""
    directions = [block.k for block in record.blocks if block.k is not None]
    return [_mean(torch.nn.functional.cosine_similarity(a, b, dim=-1).abs()) for a, b in pairwise(directions)]


def divergence(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> Tensor:
    """KL divergence between the old and the new policy, KL(old, new), for each row, `[N]`.

    Args:
        old: `NetworkRecord.policy`; squashing is the same for both and does not change the divergence.
        new: parameters of the same kind.
    """
    total = torch.zeros(len(next(iter(new.values()))), dtype=torch.float64)
    if "std" in new:
        normals = (Normal(each["mean"].double(), each["std"].double()) for each in (old, new))
        return kl_divergence(*normals).flatten(1).sum(1).cpu()
    for name, logits in new.items():
        choices = (Categorical(logits=each.double()) for each in (old[name], logits))
        total += kl_divergence(*choices).reshape(len(total), -1).sum(1).cpu()
    return total


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli, 2007), of centred features `[N, d]`.

    NaN for fewer than two rows, and where a feature is not finite.
    """
    if len(features) < 2 or not torch.isfinite(features).all():
        return math.nan
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    shares = values / values.sum()
    return float(torch.exp(torch.special.entr(shares).sum()))


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else math.nan


def _mean_where_known(values: Tensor) -> float:
    """The mean without NaN, which stands for ratios to the length of a state that is 0, as of a black image."""
    return float(values.nanmean())
