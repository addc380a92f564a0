"""Sublayers over the tokens of a history."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deltarl.torsos.layers import start_linear

_ROTARY_BASE = 10_000.0


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`softmax(q k^T / sqrt(d), over the tokens up to one's own) v`.

    It is written out because PyTorch's fused kernels have no second derivative, which TRPO needs.

    Args:
        q: queries, `[..., T, d]`.
        k: keys, `[..., T, d]`.
        v: values, `[..., T, d]`.

    Returns:
        `[..., T, d]`.
    """
    length = q.shape[-2]
    later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill(later, -math.inf), -1) @ v


def rotated(x: Tensor) -> Tensor:
    """Rotate pairs of features by angles that grow with the position (RoPE, Su et al., arXiv 2104.09864).

    The product of a rotated query and a rotated key depends on their distance only.

    Args:
        x: `[..., T, d]` with an even d; the pairs are feature i and i + d / 2.
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    rates = _ROTARY_BASE ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
    angles = torch.arange(length, dtype=x.dtype, device=x.device).unsqueeze(1) * rates
    first, second = torch.split(x, half, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class CausalAttention(nn.Module):
    """Causal self-attention with several heads, as the sublayer F of a block. Maps `[N, T, width]` to the same shape.

    Args:
        width: of the tokens.
        heads: of the attention; they divide the width.
        rotary: whether queries and keys are rotated by their position.
    """

    def __init__(self, width: int, heads: int, *, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Queries, keys and values of unit variance for a normalised input; an output scaled as an MLP sublayer's."""
        nn.init.normal_(self.qkv.weight, std=self.qkv.in_features**-0.5)
        nn.init.zeros_(self.qkv.bias)
        start_linear(self.out)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        mixed: Tensor = self.out(causal_attention(q, k, v).transpose(-3, -2).flatten(-2))
        return mixed

    def extra_repr(self) -> str:
        return f"heads={self.heads}, rotary={self.rotary}"


class TokenCompressor(nn.Module):
    """Mixes each feature over the last few tokens: a causal depthwise convolution. Maps `[N, T, width]` to the same.

    Deep Delta Learning reads k, v and beta from a state compressed in this way (arXiv 2601.00417, DDL-TC). It starts as
    the identity.

    Args:
        width: of the tokens.
        size: number of tokens, the token itself included.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(width, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.kernel.zero_()[:, -1] = 1

    def forward(self, x: Tensor) -> Tensor:
        size = self.kernel.shape[1]
        windows = functional.pad(x, (0, 0, size - 1, 0)).unfold(-2, size, 1)  # [N, T, width, size]
        return (windows * self.kernel).sum(-1)

    def extra_repr(self) -> str:
        width, size = self.kernel.shape
        return f"width={width}, size={size}"
