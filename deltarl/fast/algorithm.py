"""What the algorithms with lean training steps share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from sb3_contrib import crossq, tqc
from stable_baselines3 import sac, td3
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, ContinuousCritic
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from deltarl.fast.actor_critic import Features
from deltarl.fast.experience import sample, store_in_single_precision
from deltarl.fast.known import is_theirs, is_unchanged, same_features
from deltarl.fast.layers import Network
from deltarl.fast.rollouts import GaussianPolicy
from deltarl.fast.shared import shared

# Of these classes exactly: one of the user's own may compute anything.
_ACTORS = {sac.policies.Actor, td3.policies.Actor, tqc.policies.Actor, crossq.policies.Actor}
_CRITICS = {ContinuousCritic, tqc.policies.Critic, crossq.policies.CrossQCritic}


class Update(ABC):
    """One gradient step: tensors in, tensors out, and parameters and optimizers changed in place.

    It holds networks made of the algorithm's own modules, and nothing that would have to be stored. It counts itself in
    the algorithm's `_n_updates`. Random numbers come from outside.
    """

    model: Any
    features: Features
    networks: list[Network]

    @abstractmethod
    def __init__(self, model: Any) -> None: ...

    @abstractmethod
    def draw(self, batch: ReplayBufferSamples) -> Sequence[Tensor]:
        """The random numbers that the next gradient step takes, in the order in which Stable-Baselines3 draws them."""

    @abstractmethod
    def __call__(self, batch: ReplayBufferSamples, noise: Sequence[Tensor], index: int) -> dict[str, Tensor]:
        """Learn from a batch.

        Args:
            batch: from the replay buffer.
            noise: from `draw`.
            index: of the gradient step in this call of `train`, from 0.

        Returns:
            What is logged below `train/`, tensors of one number.
        """

    @abstractmethod
    def act(self, features: Tensor) -> Tensor:
        """Actions to explore with, scaled to [-1, 1], `[n, actions]`."""


def _stay(mode: bool) -> None:
    """In the place of a policy's `set_training_mode`."""


class Lean(ABC):
    """An algorithm that has an update of its own where it can, and Stable-Baselines3's otherwise."""

    update_class: ClassVar[Any]
    _lean: Any = None

    def lean_update(self) -> Any:
        """The update for the policy as it is, None where it has to be Stable-Baselines3's own.

        It is made anew by each `learn`, and where policy, optimizers or entropy coefficient are others than before.
        """
        made_of = self._made_of()
        if self._lean is None or any(one is not other for one, other in zip(self._lean[0], made_of, strict=True)):
            update = self.update_class(self) if self.can_be_lean() else None
            has_modes = (
                update is None or not update.features.flat or any(network.has_modes for network in update.networks)
            )
            self._lean = made_of, update, has_modes
        return self._lean[1]

    @abstractmethod
    def _made_of(self) -> tuple[Any, ...]:
        """What an update is made of and may be replaced while it is in use."""

    def can_be_lean(self) -> bool:
        """Whether all that an update does by hand is Stable-Baselines3's own code, without features to learn."""
        policy = self.policy  # type: ignore[attr-defined]
        on_cpu = self.device.type == "cpu"  # type: ignore[attr-defined]
        return on_cpu and not self.use_sde and is_unchanged(policy)  # type: ignore[attr-defined]

    def _setup_learn(self, *args: Any, **options: Any) -> Any:
        self._lean = None
        return super()._setup_learn(*args, **options)  # type: ignore[misc]

    def has_modes(self) -> bool:
        """Whether anything that the update of this moment calls may differ between training and evaluation."""
        if self._lean is None:
            self.lean_update()
        return bool(self._lean[2])

    def set_mode(self, training: bool) -> None:
        """Switch the policy between training and evaluation, which takes a while, where that makes a difference."""
        if self.has_modes():
            self.policy.set_training_mode(training)  # type: ignore[attr-defined]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """For as long as Stable-Baselines3 collects: what it asks of the policy at each step is done by hand.

        On the instance; everything else asks the class.
        """
        policy, update = self.policy, self.lean_update()  # type: ignore[attr-defined]
        own: dict[str, Any] = {}
        if not self.has_modes() and not policy.training:
            own["set_training_mode"] = _stay
        if update is not None and isinstance(policy, ActorCriticPolicy):
            own["forward"] = update.policy.act
        vars(policy).update(own)
        try:
            yield
        finally:
            for name in own:
                vars(policy).pop(name, None)

    def collect_rollouts(self, *args: Any, **options: Any) -> Any:
        """As Stable-Baselines3's own."""
        with self.collecting():
            return super().collect_rollouts(*args, **options)  # type: ignore[misc]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_lean"]  # type: ignore[misc]


class OffPolicyLean(Lean):
    """Stands before an off-policy algorithm of Stable-Baselines3's or sb3-contrib's among the bases."""

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[misc]
        # Normalisation comes before the networks, and takes differences that single precision may not hold.
        if self._vec_normalize_env is None:  # type: ignore[attr-defined]
            store_in_single_precision(self.replay_buffer)  # type: ignore[has-type]
            self.replay_buffer = shared(self.replay_buffer)  # type: ignore[has-type]

    def _made_of(self) -> tuple[Any, ...]:
        policy = self.policy  # type: ignore[attr-defined]
        learned = getattr(self, "ent_coef_optimizer", None), getattr(self, "log_ent_coef", None)
        return policy, policy.actor.optimizer, policy.critic.optimizer, *learned

    def can_be_lean(self) -> bool:
        actor, critic = self.policy.actor, self.policy.critic  # type: ignore[attr-defined]
        known = type(actor) in _ACTORS and type(critic) in _CRITICS and is_theirs(type(self), ["predict"])
        return known and super().can_be_lean() and same_features([actor, critic])

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As Stable-Baselines3's own: actions for the environments, and scaled to [-1, 1] for the buffer."""
        # Looked for when the rollout began.
        update = None if self._lean is None else self._lean[1]
        assert isinstance(self, OffPolicyAlgorithm)
        if update is None or self.num_timesteps < learning_starts:
            return super()._sample_action(learning_starts, action_noise, n_envs)  # type: ignore[misc, no-any-return]
        assert self._last_obs is not None
        with torch.no_grad():
            scaled = update.act(update.features.of_arrays(self._last_obs, self.device)).cpu().numpy()
        scaled = scaled.reshape(n_envs, *(self.action_space.shape or ()))
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """As Stable-Baselines3's own."""
        update = self.lean_update()
        if update is None:
            super().train(gradient_steps, batch_size)  # type: ignore[misc]
            return
        assert isinstance(self, OffPolicyAlgorithm)
        policy: Any = self.policy
        self.set_mode(True)
        optimizers = [policy.actor.optimizer, policy.critic.optimizer]
        if getattr(self, "ent_coef_optimizer", None) is not None:
            optimizers.append(self.ent_coef_optimizer)  # type: ignore[attr-defined]
        self._update_learning_rate(optimizers)
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for index in range(gradient_steps):
                batch = sample(self.replay_buffer, batch_size, self._vec_normalize_env)
                for name, value in update(batch, update.draw(batch), index).items():
                    found.setdefault(name, []).append(value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in found.items():
            # One number needs no mean, and each call costs as much as a small product.
            mean = values[0] if len(values) == 1 else torch.stack(values).double().mean()
            self.logger.record(f"train/{name}", mean.item())


class OnPolicyLean(Lean):
    """Stands before PPO or A2C among the bases."""

    def _made_of(self) -> tuple[Any, ...]:
        policy = self.policy  # type: ignore[attr-defined]
        return policy, policy.optimizer, getattr(policy, "log_std", None)

    def can_be_lean(self) -> bool:
        return super().can_be_lean() and GaussianPolicy.is_one(self.policy)  # type: ignore[attr-defined]

    @abstractmethod
    def learn_rollout(self, update: Any) -> dict[str, float]:
        """Learn from the rollout in the buffer, and count the updates; what is logged of it below `train/`."""

    def train(self) -> None:
        """As Stable-Baselines3's own."""
        update = self.lean_update()
        if update is None:
            super().train()  # type: ignore[misc]
            return
        assert isinstance(self, OnPolicyAlgorithm)
        self.set_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        with torch.no_grad():
            logged = self.learn_rollout(update)
            logged["std"] = torch.exp(update.policy.log_std).mean().item()
        buffer = self.rollout_buffer
        logged["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
