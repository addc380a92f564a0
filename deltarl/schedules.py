"""A learning rate that follows how far each update moves the policy."""

from __future__ import annotations

import math

from stable_baselines3.common.callbacks import BaseCallback

from deltarl.errors import ConfigError

KL = "train/approx_kl"  # as PPO, RecurrentPPO and MaskablePPO log it


class KLAdaptiveLearningRate(BaseCallback):
    """Adapts the learning rate so that an update moves the policy by about the same KL divergence each time.

    If the KL divergence of an update is above twice the target, the rate is divided by `factor`; if it is below half of
    the target, the rate is multiplied by it. This is the rule of rsl_rl and skrl. Networks whose features differ in
    size are thus compared at steps of the same size. The rate starts at the algorithm's `learning_rate` and is stored
    there, so `save` and `load` keep the current value.

    For algorithms that log `train/approx_kl`: Stable-Baselines3's PPO, sb3-contrib's RecurrentPPO and MaskablePPO, and
    `deltarl.fast`'s PPO. In RL Zoo's YAML: `callback: {deltarl.KLAdaptiveLearningRate: {target: 0.01}}`.

    Args:
        target: target KL divergence of an update, above 0.
        factor: factor of one change of the rate, above 1.
        bounds: smallest and largest rate, 0 < smallest <= largest.

    Raises:
        ConfigError: if a number is out of range; when training starts, if the learning rate is a schedule or out of
            bounds; after the first update, if the algorithm logs no KL divergence.
    """

    def __init__(self, target: float = 0.01, factor: float = 1.5, bounds: tuple[float, float] = (1e-6, 1e-2)) -> None:
        super().__init__()
        if not (target > 0 and factor > 1 and 0 < bounds[0] <= bounds[1]):
            raise ConfigError(
                "KLAdaptiveLearningRate: expected a target above 0, a factor above 1 and bounds 0 < least <= largest; "
                f"got target {target}, factor {factor}, bounds {tuple(bounds)}"
            )
        self.target, self.factor, self.bounds = target, factor, (bounds[0], bounds[1])
        self._updates = 0

    def _on_training_start(self) -> None:
        rate = self.model.learning_rate
        if not isinstance(rate, int | float):
            raise ConfigError(f"KLAdaptiveLearningRate: expected a number as learning_rate; got {rate!r}")
        if not self.bounds[0] <= rate <= self.bounds[1]:
            raise ConfigError(f"KLAdaptiveLearningRate: learning_rate {rate:g} is outside of the bounds {self.bounds}")
        self._updates = self.model._n_updates

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Between an update and the next rollout, because the logged values are dumped and cleared after that. In a
        # resumed run the log is restored by now, although the update may have been made by another process.
        kl = self.logger.name_to_value.get(KL)
        if kl is None:
            if self.model._n_updates == self._updates:
                return
            raise ConfigError(
                f"KLAdaptiveLearningRate: {type(self.model).__name__} logs no KL divergence ({KL}); PPO, RecurrentPPO "
                "and MaskablePPO do"
            )
        rate = self.rate_after(float(self.model.learning_rate), float(kl))  # type: ignore[arg-type]
        if rate != self.model.learning_rate:
            self.model.learning_rate = rate
            self.model._setup_lr_schedule()

    def rate_after(self, rate: float, kl: float) -> float:
        """The rate after an update made with `rate` that had the KL divergence `kl`."""
        if not math.isfinite(kl):
            return rate
        if kl > 2 * self.target:
            return max(self.bounds[0], rate / self.factor)
        if kl < self.target / 2:
            return min(self.bounds[1], rate * self.factor)
        return rate
