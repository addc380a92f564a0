"""Numbers that sum a measurement up; their names are the last part of the tags in TensorBoard."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from deltarl.gates.measure import BlockRecord, NetworkRecord

# The regimes of a gate (paper, section 2.2): pass through, overwrite, reflect.
IDENTITY_BELOW = 0.25
PROJECTION_WITHIN = 0.25
REFLECTION_ABOVE = 1.75
REGIMES = ("identity_fraction", "projection_fraction", "between_fraction", "reflection_fraction")


def block_statistics(record: BlockRecord) -> dict[str, float]:
    """What there is of a block, over batch, heads and channels."""
    found = {"update_ratio": _mean(record.update_ratio)}
    if record.beta is not None:
        found |= gate_statistics(record.beta)
    if record.cos is not None and record.k is not None:
        chance = math.sqrt(2 / (math.pi * record.k.shape[-1]))  # of a random direction in as many dimensions
        found |= {"cos_k_x": _mean(record.cos), "cos_k_x_over_chance": _mean(record.cos) / chance}
    if record.beta is not None and record.v is not None:
        assert record.readout is not None
        assert record.readout_after is not None
        assert record.erase_share is not None
        found |= {
            "readout_error": _mean((record.v - record.readout).abs()),
            "readout_error_after": _mean((record.v - record.readout_after).abs()),
            "erase_share": _mean(record.erase_share),
        }
    return found


def gate_statistics(beta: Tensor) -> dict[str, float]:
    """Moments, quantiles and regimes of beta, heads pooled."""
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
        **regimes(beta),
    }


def regimes(beta: Tensor) -> dict[str, float]:
    """Share of gates that pass the state through, overwrite along k, reflect, and lie between."""
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
    """What is said of a network as a whole."""
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
