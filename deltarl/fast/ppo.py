"""PPO with a lean training step."""

from __future__ import annotations

from typing import Any

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from deltarl.fast.algorithm import OnPolicyLean
from deltarl.fast.optim import Step, clip
from deltarl.fast.rollouts import GaussianPolicy, minibatches

METRICS = ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "loss", "approx_kl")


class PPOUpdate:
    """One minibatch of PPO (Schulman et al., arXiv 1707.06347), in the terms of Stable-Baselines3's."""

    def __init__(self, model: sb3.PPO) -> None:
        self.model: Any = model
        self.policy = GaussianPolicy(model.policy)
        self.features, self.networks = self.policy.features, [self.policy.mean, self.policy.value]
        self.step = Step(model.policy.optimizer, self.policy.parameters)

    def gradients(
        self, batch: RolloutBufferSamples, clip_range: float, clip_range_vf: float | None
    ) -> tuple[list[Tensor], Tensor]:
        """The gradients, in the order of the policy's parameters, and `METRICS` as one tensor.

        With r the ratio of probabilities, the clipped objective min(A r, A clip(r)) passes a gradient by r, A, where
        A r is the smaller one: inside the range, where both are the same, too.
        """
        model, policy, n = self.model, self.policy, len(batch.actions)
        values, log_prob, saved = policy.evaluate(batch.observations, batch.actions)
        log_ratio = log_prob - batch.old_log_prob
        ratio = torch.exp(log_ratio)
        advantages = batch.advantages
        if model.normalize_advantage and n > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        gain, clipped_gain = advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        by_log_prob = (gain * (gain <= clipped_gain)).mul_(-1 / n)
        errors = values - batch.returns
        by_values = errors * (2 * model.vf_coef / n)
        if clip_range_vf is not None:
            moved = values - batch.old_values
            errors = batch.old_values + moved.clamp(-clip_range_vf, clip_range_vf) - batch.returns
            by_values = errors * (moved.abs() <= clip_range_vf) * (2 * model.vf_coef / n)

        policy_loss = -torch.minimum(gain, clipped_gain).mean()
        value_loss = errors.square().mean()
        entropy_loss = -policy.entropy
        metrics = torch.stack(
            [
                policy_loss,
                value_loss,
                entropy_loss,
                ((ratio - 1).abs_() > clip_range).to(ratio.dtype).mean(),
                policy_loss + model.ent_coef * entropy_loss + model.vf_coef * value_loss,
                (ratio - 1 - log_ratio).mean(),
            ]
        )
        return policy.backward(saved, by_log_prob, by_values, -model.ent_coef), metrics

    def learn(self, gradients: list[Tensor]) -> None:
        """Clip the gradients and make the optimizer's step."""
        clip(gradients, self.model.max_grad_norm)
        self.step(gradients)


class PPO(OnPolicyLean, sb3.PPO):
    """Stable-Baselines3's PPO; its updates give the same numbers in less time."""

    update_class = PPOUpdate

    def learn_rollout(self, update: PPOUpdate) -> dict[str, float]:
        """As in `OnPolicyLean`."""
        clip_range, clip_range_vf = (
            None if schedule is None else schedule(self._current_progress_remaining)  # type: ignore[operator]
            for schedule in (self.clip_range, self.clip_range_vf)
        )
        assert clip_range is not None
        found: list[Tensor] = []
        for epoch in range(self.n_epochs):
            first, stopped = len(found), False
            for batch in minibatches(self.rollout_buffer, self.batch_size):
                gradients, metrics = update.gradients(batch, clip_range, clip_range_vf)
                found.append(metrics)
                if self.target_kl is not None and (reached := metrics[-1].item()) > 1.5 * self.target_kl:
                    stopped = True
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch} due to reaching max kl: {reached:.2f}")  # noqa: T201
                    break
                update.learn(gradients)
            self._n_updates += 1
            if stopped:
                break
        table = torch.stack(found).double().cpu()
        logged = dict(zip(METRICS, table.mean(0).tolist(), strict=True))
        # Of the last epoch alone, and of the last minibatch alone.
        logged |= {"approx_kl": table[first:, -1].mean().item(), "loss": table[-1, METRICS.index("loss")].item()}
        return logged | {"clip_range": clip_range} | ({} if clip_range_vf is None else {"clip_range_vf": clip_range_vf})
