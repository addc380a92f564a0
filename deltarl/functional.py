"""The Delta operator as pure functions of tensors.

Deep Delta Learning (Zhang et al., arXiv 2601.00417) replaces the identity shortcut of a residual network by
`A = I - beta k k^T` and writes a target along the same direction (equations 2.1 and 2.2):

    X' = A X + beta k v^T = X + beta k (v^T - k^T X)

The names below are the paper's: state `X`, direction `k`, value `v` and gate `beta`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delta_update(x: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Rewrite the readout of `x` along `k` towards `v`, with step size `beta` (paper, equation 2.2).

    `k` is used as it is given. For a unit `k` the eigenvalues of the shortcut are 1 (d - 1 times) and 1 - beta;
    beta = 0 leaves `x` alone and beta = 1 makes `k^T x' = v^T` exactly; above 1 the readout goes past v, which is
    over-relaxation, and the shortcut alone nears a reflector (section 2.3, proposition 2.1).

    Args:
        x: state, `[..., d]`, or `[..., d, d_v]` with `d_v` value channels.
        k: direction, `[..., d]`.
        v: target readout, `[..., 1]`, or `[..., d_v]` for a state with value channels.
        beta: gate, `[..., 1]`.

    Returns:
        The new state, of `x`'s shape.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    expanded = x.ndim == k.ndim + 1
    state_shape, channels = (x.shape[:-1], x.shape[-1]) if expanded else (x.shape, 1)
    batch = k.shape[:-1]
    if state_shape != k.shape or v.shape != (*batch, channels) or beta.shape != (*batch, 1):
        raise ValueError(
            "delta_update takes x [..., d], k [..., d], v [..., 1], beta [..., 1], or x [..., d, d_v], v [..., d_v]; "
            f"got x {list(x.shape)}, k {list(k.shape)}, v {list(v.shape)}, beta {list(beta.shape)}"
        )
    if expanded:
        # With the features last, loops run over them and not over the few channels, backward too.
        state, direction = x.transpose(-1, -2), k.unsqueeze(-2)
        readout = (direction * state).sum(-1)
        return torch.addcmul(state, direction, (beta * (v - readout)).unsqueeze(-1)).transpose(-1, -2)
    # A product and a sum: on CPU a batched dot product (einsum, vecdot) makes one GEMM call per row.
    readout = (k * x).sum(-1, keepdim=True)
    return torch.addcmul(x, k, beta * (v - readout))


def write_only_update(x: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """`X + beta k v^T`: the write without the erasing, the control that the paper asks for (section 5).

    Args:
        x: state, `[..., d]` or `[..., d, d_v]`.
        k: direction, `[..., d]`.
        v: written value, `[..., 1]` or `[..., d_v]`; v and beta may have fewer dimensions and are then broadcast.
        beta: gate, `[..., 1]`.

    Returns:
        The new state, of `x`'s shape.
    """
    if x.ndim == k.ndim + 1:
        return torch.addcmul(x.transpose(-1, -2), k.unsqueeze(-2), (beta * v).unsqueeze(-1)).transpose(-1, -2)
    return torch.addcmul(x, k, beta * v)


def residual_erase_update(x: Tensor, h: Tensor, k: Tensor, beta: Tensor) -> Tensor:
    """`x + h - beta k (k^T x)`: a residual step that erases along its own direction.

    At beta = 0 it is the residual block, exactly; with k = h / |h| and v = |h| / beta it is the Delta update.

    Args:
        x: state, `[..., d]`.
        h: what a residual block adds, `[..., d]`.
        k: direction, `[..., d]`.
        beta: gate, `[..., 1]`.

    Returns:
        The new state, of `x`'s shape.
    """
    return torch.addcmul(x + h, k, beta * (k * x).sum(-1, keepdim=True), value=-1)


def orthogonal_update(x: Tensor, h: Tensor, eps: float) -> Tensor:
    """`x + h - x (x^T h) / (x^T x + eps)`: a residual step without its part along the state (arXiv 2505.11881).

    Args:
        x: state, `[..., d]`.
        h: what a residual block adds, `[..., d]`.
        eps: guard, > 0.

    Returns:
        The new state, of `x`'s shape.
    """
    along = (x * h).sum(-1, keepdim=True) / ((x * x).sum(-1, keepdim=True) + eps)
    return torch.addcmul(x + h, x, along, value=-1)


def sinkhorn(logits: Tensor, steps: int) -> Tensor:
    """A doubly stochastic matrix from the logarithms of a positive one (Sinkhorn and Knopp; mHC, arXiv 2512.24880).

    Columns and rows are divided by their sums in turns, in logarithms, so that no entry overflows.

    Args:
        logits: `[..., n, n]`.
        steps: how often, at least 1; the rows sum to 1 exactly, and the columns as far as the steps have converged.

    Returns:
        The matrix, `[..., n, n]`, with entries in (0, 1].
    """
    for _ in range(steps):
        logits = torch.log_softmax(torch.log_softmax(logits, -2), -1)
    return torch.exp(logits)


def unit_direction(h: Tensor, eps: float) -> Tensor:
    """`h / sqrt(|h|^2 + eps^2)` over the last dimension (paper, section 3.1).

    The guard keeps value and gradients finite at `h = 0`, where the direction is 0 and the update the identity.

    Args:
        h: unnormalised direction, `[..., d]`.
        eps: guard, > 0; the result is a unit vector as far as `|h| >> eps`.

    Returns:
        The direction, `[..., d]`, with a norm in [0, 1).
    """
    return h * torch.rsqrt(h.square().sum(-1, keepdim=True) + eps * eps)


def gate(logits: Tensor, beta_max: float) -> Tensor:
    """`beta_max * sigmoid(logits)`, a gate in (0, beta_max) (paper, section 2.1, where beta_max is 2).

    Args:
        logits: any shape.
        beta_max: upper end of the gate's range; above 1 the readout can go past v.

    Returns:
        beta, of `logits`' shape.
    """
    return beta_max * torch.sigmoid(logits)
