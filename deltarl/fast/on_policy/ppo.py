"""PPO with a lean training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from deltarl.fast.layers import Gradients
from deltarl.fast.on_policy.algorithm import OnPolicyLean
from deltarl.fast.on_policy.policy import GaussianPolicy
from deltarl.fast.on_policy.rollouts import minibatches, normalized
from deltarl.fast.optim import Step, clip
from deltarl.fast.scalars import number

METRICS = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "loss", "approx_kl")


class Noted(NamedTuple):
    """What is logged for a minibatch: values for each row, `[n]`, and the policy's entropy, `[]`."""

    gain: Tensor
    clipped_gain: Tensor
    error: Tensor
    log_ratio: Tensor
    ratio: Tensor
    entropy: Tensor


class PPOUpdate:
    """One minibatch of PPO (Schulman et al., arXiv 1707.06347), in the terms of Stable-Baselines3's."""

    def __init__(self, model: sb3.PPO) -> None:
        self.model: Any = model
        self.policy = GaussianPolicy(model.policy)
        self.features, self.networks = self.policy.features, [self.policy.mean, self.policy.value]
        self.step = Step(model.policy.optimizer, self.policy.parameters)

    def gradients(
        self, batch: RolloutBufferSamples, clip_range: float, clip_range_vf: float | None
    ) -> tuple[Gradients, Noted]:
        """The gradients, in the order of the policy's parameters, and what `metrics` needs.

        With r the ratio of probabilities, the clipped objective min(A r, A clip(r)) passes a gradient by r, A, where
        A r is the smaller one: inside the range, where both are the same, too.
        """
        model, policy, n = self.model, self.policy, len(batch.actions)
        values, log_prob, saved = policy.evaluate(batch.observations, batch.actions)
        log_ratio = log_prob - batch.old_log_prob
        ratio = torch.exp(log_ratio)
        advantages = normalized(batch.advantages) if model.normalize_advantage and n > 1 else batch.advantages
        gain, clipped_gain = advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        by_log_prob = (gain * (gain <= clipped_gain)).mul_(number(-1 / n, gain))
        slope = number(2 * model.vf_coef / n, values)
        errors = values - batch.returns
        by_values = errors * slope
        if clip_range_vf is not None:
            moved = values - batch.old_values
            errors = batch.old_values + moved.clamp(-clip_range_vf, clip_range_vf) - batch.returns
            by_values = errors * (moved.abs() <= clip_range_vf) * slope
        noted = Noted(gain, clipped_gain, errors, log_ratio, ratio, policy.entropy)
        return policy.backward(saved, by_log_prob, by_values, -model.ent_coef), noted

    def metrics(self, noted: Sequence[Noted], clip_range: float) -> Tensor:
        """`METRICS` of all minibatches, `[minibatches, 6]`; computed together, because calls cost more than rows."""
        *columns, entropy = zip(*noted, strict=True)
        gain, clipped_gain, error, log_ratio, ratio = map(torch.cat, columns)
        moved = ratio - 1
        each = torch.stack(
            [
                -torch.minimum(gain, clipped_gain),
                error.square(),
                (moved.abs() > clip_range).to(ratio.dtype),
                moved - log_ratio,
            ],
            1,
        )
        parts = torch.split(each, [len(one.gain) for one in noted])
        policy_loss, value_loss, clip_fraction, approx_kl = torch.stack([part.mean(0) for part in parts]).unbind(1)
        entropy_loss = -torch.stack(entropy)
        loss = policy_loss + self.model.ent_coef * entropy_loss + self.model.vf_coef * value_loss
        return torch.stack([policy_loss, value_loss, entropy_loss, clip_fraction, loss, approx_kl], 1)

    def learn(self, gradients: Gradients) -> None:
        """Clip the gradients and make the optimizer's step."""
        clip(gradients, self.model.max_grad_norm)
        self.step(gradients)


class PPO(OnPolicyLean, sb3.PPO):
    """Stable-Baselines3's PPO; its updates give the same numbers in less time."""

    update_class = PPOUpdate

    def learn_rollout(self, update: PPOUpdate) -> dict[str, float]:
        clip_range, clip_range_vf = (
            None if schedule is None else schedule(self._current_progress_remaining)  # type: ignore[operator]
            for schedule in (self.clip_range, self.clip_range_vf)
        )
        assert clip_range is not None
        noted: list[Noted] = []
        for epoch in range(self.n_epochs):
            first, stopped = len(noted), False
            for batch in minibatches(self.rollout_buffer, self.batch_size):
                gradients, own = update.gradients(batch, clip_range, clip_range_vf)
                noted.append(own)
                if self.target_kl is not None:
                    reached = (own.ratio - 1 - own.log_ratio).mean().item()
                    if reached > 1.5 * self.target_kl:
                        stopped = True
                        if self.verbose >= 1:
                            print(f"Early stopping at step {epoch} due to reaching max kl: {reached:.2f}")  # noqa: T201
                        break
                update.learn(gradients)
            self._n_updates += 1
            if stopped:
                break
        table = update.metrics(noted, clip_range).double().cpu()
        logged = dict(zip(METRICS, table.mean(0).tolist(), strict=True))
        # Over the last epoch only, and for the last minibatch only.
        logged |= {"approx_kl": table[first:, -1].mean().item(), "loss": table[-1, METRICS.index("loss")].item()}
        return logged | {"clip_range": clip_range} | ({} if clip_range_vf is None else {"clip_range_vf": clip_range_vf})
