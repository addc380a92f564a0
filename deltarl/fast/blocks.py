"""Chains of layers and blocks of torsos, with hand-written gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deltarl.fast.layers import ALL, Constant, Dense, Gradients, Layer, columns
from deltarl.fast.scalars import number
from deltarl.torsos.delta_blocks import DeltaBlock, WriteOnlyBlock
from deltarl.torsos.erasing_blocks import ResidualEraseBlock


class Chain(Layer):
    """Layers applied one after the other."""

    def __init__(self, parts: Sequence[Layer]) -> None:
        self.parts = tuple(parts)
        self.parameters = [parameter for part in parts for parameter in part.parameters]
        self.has_modes = any(part.has_modes for part in parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        kept = []
        for part in self.parts:
            x, saved = part.forward(x)
            kept.append(saved)
        return x, kept

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        found: list[Gradients] = []
        by_input: Tensor | None = gradient
        for index in range(len(self.parts) - 1, -1, -1):
            assert by_input is not None
            by_input, own = self.parts[index].backward(
                saved[index], by_input, inputs=ALL if index else inputs, parameters=parameters
            )
            found.append(own)
        return by_input, [each for own in reversed(found) for each in own]

    def __call__(self, x: Tensor) -> Tensor:
        # Nothing is kept, so a layer can reuse memory of the layer before the previous one, which is still cached.
        for part in self.parts:
            x = part(x)
        return x


class Residual(Layer):
    """x + F(Norm(x))."""

    def __init__(self, inner: Chain) -> None:
        self.inner, self.parameters, self.has_modes = inner, inner.parameters, inner.has_modes

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        y, saved = self.inner.forward(x)
        return x + y, saved

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        by_input, found = self.inner.backward(saved, gradient, inputs=ALL, parameters=parameters)
        assert by_input is not None
        return columns(None if inputs is None else by_input.add_(gradient), inputs), found


class Orthogonal(Residual):
    """x + h - a x with h = F(Norm(x)) and a = p / q, where p = x^T h and q = x^T x + eps.

    With u = g^T x / q for the gradient g of the output,

        by h: g - u x;  by x: g - a g - u (h - 2 a x), and what comes through h
    """

    def __init__(self, inner: Chain, eps: float) -> None:
        super().__init__(inner)
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        h, kept = self.inner.forward(x)
        length = (x * x).sum(-1, keepdim=True).add_(number(self.eps, x))
        along = (x * h).sum(-1, keepdim=True).div_(length)
        return torch.addcmul(x + h, x, along, value=-1), (kept, x, h, length, along)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        kept, x, h, length, along = saved
        share = (gradient * x).sum(-1, keepdim=True).div_(length)
        by_input, found = self.inner.backward(
            kept, torch.addcmul(gradient, x, share, value=-1), inputs=ALL, parameters=parameters
        )
        if inputs is None:
            return None, found
        assert by_input is not None
        by_input = by_input.add_(gradient).addcmul_(gradient, along, value=-1)
        return columns(by_input.addcmul_(torch.addcmul(h, x, along, value=-2), share, value=-1), inputs), found


class Scaled(Layer):
    """x + s (X' - x): a learned factor s for each feature on the step of a block that maps x to X'."""

    def __init__(self, block: Layer, scale: Tensor) -> None:
        self.block, self.scale, self.has_modes = block, scale, block.has_modes
        self.parameters = [scale, *block.parameters]

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        new, kept = self.block.forward(x)
        step = new - x
        return torch.addcmul(x, step, self.scale), (kept, step)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        kept, step = saved
        by_new = gradient * self.scale
        by_input, found = self.block.backward(kept, by_new, inputs=inputs, parameters=parameters)
        if parameters:
            found = [(gradient * step).sum(0), *found]
        past = columns(gradient - by_new, inputs)
        return None if by_input is None or past is None else by_input + past, found


class Sphere(Constant):
    """r x / sqrt(|x|^2 + eps^2): with y for the output and c = y / x, the gradient by x is c (g - y (y^T g) / r^2)."""

    def __init__(self, radius: float, eps: float) -> None:
        self.radius, self.guard = radius, eps**2

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        factor = (x * x).sum(-1, keepdim=True).add_(number(self.guard, x)).rsqrt_().mul_(number(self.radius, x))
        y = x * factor
        return y, (y, factor)

    def by_input(self, saved: Any, gradient: Tensor) -> Tensor:
        y, factor = saved
        along = (y * gradient).sum(-1, keepdim=True)
        return torch.addcmul(gradient, y, along, value=-1 / self.radius**2).mul_(factor)


class Delta(Layer):
    """X + beta k (v - k^T X) with k = unit(F(c)), v and beta linear in c = Norm(X); without the erasure, + beta k v.

    For a residual block that erases, X + h - beta k k^T X with h = F(c), v = 0 and the reach is 1 + t l. On a sphere,
    v = r tanh(w / r) with w linear in c, and the gradient by w is (by v) (1 - v^2 / r^2).

    k = s h with s = 1 / sqrt(|h|^2 + eps^2) is never computed: s goes into factors of h, one number per row and head.
    With p = s h^T X, lacking l = v - p, step t = beta s and reach r = t l, the output is X + r h, and its gradient g
    gives, with u = t s h^T g,

        by v: t h^T g;  by the gate's logit: (by v) l (1 - beta / beta_max)
        by X: g - u h, and what comes through c
        by h: r g - u (X + s (l - p) h); without the erasure r g - u (s v h)

    With few rows all operations take about the same time, and kinds that were not called for a while take longer. So
    there are few operations, of few kinds.
    """

    def __init__(self, block: DeltaBlock | ResidualEraseBlock, norm: Layer, sublayer: Layer) -> None:
        assert block.write is not None
        self.norm, self.sublayer, self.write = norm, sublayer, Dense(block.write)
        self.has_value = not isinstance(block, ResidualEraseBlock)
        self.heads, self.beta_max, self.guard = block.heads, float(block.beta_max), block.eps**2
        self.erases = not isinstance(block, WriteOnlyBlock)
        self.bound: float | None = None
        if isinstance(block, DeltaBlock) and block.sphere:
            self.bound = math.sqrt(block.width / block.heads)
        self.parameters = [*self.norm.parameters, *self.sublayer.parameters, *self.write.parameters]
        self.has_modes = self.norm.has_modes or self.sublayer.has_modes

    def split(self, x: Tensor) -> Tensor:
        """`[n, features]` as `[n, heads, features / heads]`; one head needs no axis of its own."""
        return x if self.heads == 1 else x.view(len(x), self.heads, -1)

    def joined(self, x: Tensor) -> Tensor:
        """The inverse of `split`."""
        return x if self.heads == 1 else x.flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        context, kept_norm = self.norm.forward(x)
        h, kept_sublayer = self.sublayer.forward(context)
        written, kept_write = self.write.forward(context)
        state, h = self.split(x), self.split(h)
        # Gates first, then values, one number per head each.
        if not self.has_value:
            logits = written if self.heads == 1 else written.view(len(x), self.heads, 1)
            value = torch.zeros_like(logits)
        elif self.heads == 1:
            logits, value = written.narrow(1, 0, 1), written.narrow(1, 1, 1)
        else:
            logits, value = written.view(len(x), 2, self.heads, 1).unbind(1)
        if self.bound is not None:
            value = torch.tanh(value / self.bound).mul_(number(self.bound, x))
        gate = torch.sigmoid(logits).mul_(number(self.beta_max, x))
        scale = (h * h).sum(-1, keepdim=True).add_(number(self.guard, x)).rsqrt_()
        lacking = torch.addcmul(value, (h * state).sum(-1, keepdim=True), scale, value=-1) if self.erases else value
        step = gate * scale
        reach = step * lacking if self.has_value else (step * lacking).add_(1)
        y = self.joined(torch.addcmul(state, h, reach))
        return y, (kept_norm, kept_sublayer, kept_write, state, h, value, gate, scale, lacking, step, reach)

    def backward(
        self, saved: Any, gradient: Tensor, *, inputs: slice | None = None, parameters: bool = True
    ) -> tuple[Tensor | None, Gradients]:
        kept_norm, kept_sublayer, kept_write, state, h, value, gate, scale, lacking, step, reach = saved
        split = self.split(gradient)
        by_value = (split * h).sum(-1, keepdim=True).mul_(step)
        by_logit = by_value * lacking
        by_logit.addcmul_(by_logit, gate, value=-1 / self.beta_max)
        by_raw = by_value
        if self.bound is not None:
            by_raw = torch.addcmul(by_value, by_value * value, value, value=-1 / self.bound**2)
        by_written = self.joined(torch.cat([by_logit, by_raw], 1) if self.has_value else by_logit)
        unread = by_value.mul_(scale)
        by_h = split * reach
        if self.erases:
            half = torch.sub(lacking, value, alpha=0.5).mul_(scale)  # of s (l - p), since p = v - l
            by_h.addcmul_(torch.addcmul(state, h, half, value=2), unread, value=-1)
        else:
            by_h.addcmul_(h, value * scale * unread, value=-1)
        by_context, of_sublayer = self.sublayer.backward(
            kept_sublayer, self.joined(by_h), inputs=ALL, parameters=parameters
        )
        assert by_context is not None
        _, of_write = self.write.backward(kept_write, by_written, parameters=parameters)
        by_context = by_context.addmm_(by_written, self.write.weight)
        by_state, of_norm = self.norm.backward(kept_norm, by_context, inputs=ALL, parameters=parameters)
        found = [*of_norm, *of_sublayer, *of_write]
        if inputs is None:
            return None, found
        assert by_state is not None
        by_state = by_state.add_(gradient)
        if self.erases:
            self.split(by_state).addcmul_(h, unread, value=-1)
        return columns(by_state, inputs), found
