"""Steps of optimizers and target networks in as few calls as possible; call them under `torch.no_grad()`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from operator import is_, itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer, RMSprop
from torch.optim import optimizer as module

from deltarl.fast.scalars import number


class Rule(ABC):
    """How to step the parameters of a group. The state stays in the optimizer, in its own format.

    Attributes:
        averages: names of the averages in a parameter's state; they start at 0.
        options: names of the options that are not implemented here.
        devices: types of the devices on which it steps parameters; elsewhere the optimizer makes its own step.
            `meta` computes nothing, and is there to check a step.
    """

    averages: tuple[str, ...]
    options: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu", "cuda", "meta")

    def knows(self, group: Mapping[str, Any]) -> bool:
        """Whether the group has no option that is not implemented here."""
        return not any(map(group.get, self.options))

    def start(self, parameter: Tensor) -> dict[str, Any]:
        """A parameter's state before its first step."""
        averages = {name: torch.zeros_like(parameter) for name in self.averages}
        return {"step": torch.zeros((), dtype=torch.float32, device=parameter.device), **averages}

    @abstractmethod
    def step(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: Sequence[list[Tensor]],
        steps: list[Tensor],
    ) -> None:
        """Take a step, in place; `steps` already count it."""


class AdamRule(Rule):
    """Adam (Kingma and Ba, arXiv 1412.6980) by PyTorch's fused kernel, without the bookkeeping around it.

    Args:
        decoupled: whether the weight decay is decoupled, as in AdamW.
    """

    averages = ("exp_avg", "exp_avg_sq")
    options = ("amsgrad", "maximize", "capturable", "differentiable")

    def __init__(self, decoupled: bool) -> None:
        self.decoupled = decoupled
        self.fused: Callable[..., Any] = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def knows(self, group: Mapping[str, Any]) -> bool:
        return super().knows(group) and group.get("decoupled_weight_decay", self.decoupled) == self.decoupled

    def step(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: Sequence[list[Tensor]],
        steps: list[Tensor],
    ) -> None:
        self.fused(
            parameters,
            gradients,
            *averages,
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


class RMSpropRule(Rule):
    """RMSprop, as A2C uses it: p -= lr g / (sqrt(s) + eps), where s is the average of g^2."""

    averages = ("square_avg",)
    options = ("centered", "momentum", "maximize", "capturable", "differentiable")

    def step(
        self,
        group: Mapping[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        averages: Sequence[list[Tensor]],
        steps: list[Tensor],  # noqa: ARG002
    ) -> None:
        [squares] = averages
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, number(group["alpha"], squares[0]))
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["alpha"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(parameters, gradients, roots, value=-group["lr"])


# Exactly these classes: a subclass may do anything.
RULES: Mapping[type[Optimizer], Rule] = {Adam: AdamRule(False), AdamW: AdamRule(True), RMSprop: RMSpropRule()}


_METHODS = {"step", "zero_grad"}
_GLOBAL_HOOKS = (module._global_optimizer_pre_hooks, module._global_optimizer_post_hooks)


class Step:
    """Takes an optimizer's steps from a list of gradients.

    Optimizers in `RULES` are stepped here, with state and options kept in the optimizer in its own format; others take
    the step themselves.

    Args:
        optimizer: the optimizer.
        parameters: in the order of the gradients; those that the optimizer does not hold are left alone.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer = optimizer
        self.parameters = list(parameters)
        rule, kinds = RULES.get(type(optimizer)), {each.device.type for each in self.parameters}
        self.rule = rule if rule is not None and kinds <= set(rule.devices) else None
        self._known: list[Any] = []
        self._gathered: list[tuple[list[int], list[Tensor], Tensor, Any]] = []

    def __call__(self, gradients: Sequence[Tensor | None]) -> None:
        if self.rule is None or not self._is_plain() or any(gradient is None for gradient in gradients):
            self.optimizer.zero_grad()
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
            return
        if not self._is_known():
            self._gather(self.rule)
        for group, (indices, own, count, state) in zip(self.optimizer.param_groups, self._gathered, strict=True):
            if indices:
                count.add_(1)
                self.rule.step(group, own, [gradients[index] for index in indices], *state)  # type: ignore[misc]

    def _is_plain(self) -> bool:
        """Whether the step has no hooks, and all options are implemented here."""
        optimizer, rule = self.optimizer, self.rule
        if _METHODS & vars(optimizer).keys() or any(_GLOBAL_HOOKS):
            return False
        if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
            return False
        assert rule is not None
        return all(not isinstance(group["lr"], Tensor) and rule.knows(group) for group in optimizer.param_groups)

    def _is_known(self) -> bool:
        """Whether groups and state are still those that were gathered: loading or a callback may replace them."""
        found = self._look()
        return len(found) == len(self._known) and all(map(is_, found, self._known))

    def _look(self) -> list[Any]:
        groups, state = self.optimizer.param_groups, self.optimizer.state
        found: list[Any] = [*groups, *state]
        for kept in (*map(itemgetter("params"), groups), *map(dict.values, state.values())):
            found += kept
        return found

    def _gather(self, rule: Rule) -> None:
        groups, state = self.optimizer.param_groups, self.optimizer.state
        places = {id(parameter): index for index, parameter in enumerate(self.parameters)}
        self._gathered = []
        for group in groups:
            own = [parameter for parameter in group["params"] if id(parameter) in places]
            for parameter in own:
                if not state[parameter]:
                    state[parameter] = rule.start(parameter)
            states = [state[parameter] for parameter in own]
            # One count per parameter, as in the optimizer, but in one tensor, so that one call increments all. It is on
            # the device of the parameters, where the fused kernel reads it; the optimizer itself takes it anywhere.
            steps = [torch.as_tensor(each["step"], dtype=torch.float32, device=own[0].device) for each in states]
            count = torch.stack(steps) if steps else torch.zeros(0)
            for each, step in zip(states, count.unbind(), strict=True):
                each["step"] = step
            averages = [[each[name] for each in states] for name in rule.averages]
            kept = averages, [each["step"] for each in states]
            self._gathered.append(([places[id(parameter)] for parameter in own], own, count, kept))
        self._known = self._look()


def clip(gradients: Sequence[Tensor | None], largest: float) -> None:
    """Scale gradients, in place, to a norm of at most `largest` over all, as `torch.nn.utils.clip_grad_norm_`."""
    found = [gradient for gradient in gradients if gradient is not None]
    if not found:
        return
    norm = torch.linalg.vector_norm(torch.cat([gradient.reshape(-1) for gradient in found]))
    torch._foreach_mul_(found, torch.div(number(largest, norm), norm.add_(number(1e-6, norm))).clamp_max_(1.0))


class Follow:
    """Move targets towards their sources: target + tau (source - target).

    Args:
        sources: tensors.
        targets: tensors of the same shapes, in the same order.
    """

    def __init__(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        self.sources, self.targets = list(sources), list(targets)

    def __call__(self, tau: float) -> None:
        if self.targets:
            torch._foreach_lerp_(self.targets, self.sources, tau)


def parameters_of(optimizer: Optimizer) -> set[Tensor]:
    """All parameters that an optimizer steps."""
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}
