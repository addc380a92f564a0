"""Steps of optimizers and target networks in as few calls as there can be, all under `torch.no_grad()`."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from deltarl.fast.numbers import number

_FUSED = {Adam: torch._fused_adam_, AdamW: torch._fused_adamw_}
_NOT_PLAIN = ("amsgrad", "maximize", "capturable", "differentiable")


class Step:
    """A step of an optimizer from gradients in a list.

    Adam and AdamW are stepped by PyTorch's own fused kernel without the bookkeeping around it; state and options stay
    in the optimizer, as it would have written them itself. Other optimizers make the step themselves.

    Args:
        optimizer: whose step it is.
        parameters: in the order of the gradients; those of them that the optimizer does not have are left alone.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer = optimizer
        self.parameters = list(parameters)
        self._seen: tuple[list[dict[str, Any]], int] = ([], 0)
        self._known: list[dict[str, Any] | None] = []
        self._gathered: list[tuple[list[int], Tensor, list[list[Tensor]]]] = []

    def __call__(self, gradients: Sequence[Tensor]) -> None:
        fused = _FUSED.get(type(self.optimizer))
        if fused is None or not self._is_plain():
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            return
        if not self._is_known():
            self._gather()
        for group, (indices, count, (parameters, averages, squares, steps)) in zip(
            self.optimizer.param_groups, self._gathered, strict=True
        ):
            if not indices:
                continue
            count.add_(1)
            fused(
                parameters,
                [gradients[index] for index in indices],
                averages,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )

    def _is_plain(self) -> bool:
        optimizer = self.optimizer
        if "step" in vars(optimizer) or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            return False
        decoupled = type(optimizer) is AdamW
        return all(
            not isinstance(group["lr"], Tensor)
            and not any(group.get(name) for name in _NOT_PLAIN)
            and group.get("decoupled_weight_decay", decoupled) == decoupled
            for group in optimizer.param_groups
        )

    def _is_known(self) -> bool:
        """Whether groups and state are still those that were gathered: loading makes new ones."""
        groups, state = self.optimizer.param_groups, self.optimizer.state
        seen, count = self._seen
        return groups is seen and len(groups) == count and all(map(is_, map(state.get, self.parameters), self._known))

    def _gather(self) -> None:
        groups, state = self.optimizer.param_groups, self.optimizer.state
        places = {id(parameter): index for index, parameter in enumerate(self.parameters)}
        self._gathered = []
        for group in groups:
            own = [parameter for parameter in group["params"] if id(parameter) in places]
            for parameter in own:
                if not state[parameter]:
                    # In the form that the optimizer gives its state itself.
                    state[parameter] = {
                        "step": torch.tensor(0.0, dtype=torch.float32),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            # One number a parameter, as the optimizer has it, side by side so that one call counts them all.
            count = torch.tensor([float(state[each]["step"]) for each in own])
            for each, steps in zip(own, count.unbind(), strict=True):
                state[each]["step"] = steps
            kept = [[state[each][name] for each in own] for name in ("exp_avg", "exp_avg_sq", "step")]
            self._gathered.append(([places[id(each)] for each in own], count, [own, *kept]))
        self._seen = groups, len(groups)
        self._known = [state.get(parameter) for parameter in self.parameters]


def clip(gradients: list[Tensor], largest: float) -> None:
    """Scale gradients, in place, to a norm of at most `largest` over all, as `torch.nn.utils.clip_grad_norm_`."""
    norm = torch.linalg.vector_norm(torch.cat([gradient.view(-1) for gradient in gradients]))
    factor = torch.div(number(largest, norm), norm.add_(number(1e-6, norm))).clamp_max_(1.0)
    torch._foreach_mul_(gradients, factor)


class Follow:
    """Targets that follow their sources: target + tau (source - target).

    Args:
        sources: tensors.
        targets: tensors of the same shapes, in the same order.
    """

    def __init__(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        self.sources, self.targets = list(sources), list(targets)

    def __call__(self, tau: float) -> None:
        if self.targets:
            torch._foreach_lerp_(self.targets, self.sources, tau)
