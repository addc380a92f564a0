"""The entropy coefficient of SAC, TQC and CrossQ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deltarl.fast.off_policy.critics import mean
from deltarl.fast.optim import Step
from deltarl.fast.scalars import number


class Temperature:
    """The entropy coefficient, learned or fixed.

    Args:
        model: SAC, TQC or CrossQ.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        is_learned = model.ent_coef_optimizer is not None and model.log_ent_coef is not None
        self.step = Step(model.ent_coef_optimizer, [model.log_ent_coef]) if is_learned else None

    @property
    def value(self) -> Tensor:
        """The coefficient, `[1]` or `[]`."""
        if self.step is None:
            return self.model.ent_coef_tensor  # type: ignore[no-any-return]
        return torch.exp(self.model.log_ent_coef)

    def update(self, log_prob: Tensor) -> Tensor | None:
        """Take a step on log probabilities of actions; return the loss, -log(coefficient) (log_prob + target entropy).

        A fixed coefficient has no step and no loss: the result is None.
        """
        if self.step is None:
            return None
        learned, target = self.model.log_ent_coef, number(-float(self.model.target_entropy), log_prob)
        gradient = torch.sub(target, mean(log_prob)).view(1).to(learned.dtype)
        loss = learned * gradient
        self.step([gradient])
        return loss.view(())  # type: ignore[no-any-return]
