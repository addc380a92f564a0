"""Shared by SAC, TD3, DDPG, TQC and CrossQ: when they are lean, how they act and how they learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sb3_contrib import crossq, tqc
from stable_baselines3 import sac, td3
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from deltarl.fast.features import Features, same_features
from deltarl.fast.gaussian import EPSILON
from deltarl.fast.layers import Layer
from deltarl.fast.lean import Lean
from deltarl.fast.libraries import is_theirs
from deltarl.fast.off_policy.replay import sample, store_in_single_precision
from deltarl.fast.off_policy.shared_replay import SharedReplayBuffer, shared
from deltarl.fast.optim import parameters_of
from deltarl.fast.seal import is_learned

# Of these classes exactly: a subclass may compute anything.
_ACTORS = {sac.policies.Actor, td3.policies.Actor, tqc.policies.Actor, crossq.policies.Actor}
_CRITICS = {ContinuousCritic, tqc.policies.Critic, crossq.policies.CrossQCritic}
_NETWORKS = ("actor", "critic", "critic_target", "actor_target")


class Update(ABC):
    """One gradient step: tensors in, tensors out; parameters and optimizers are changed in place.

    It reads the algorithm's own modules and keeps no state that would have to be stored. It increments the algorithm's
    `_n_updates`. Random numbers are passed in.
    """

    model: Any
    features: Features
    networks: list[Layer]

    @abstractmethod
    def __init__(self, model: Any) -> None: ...

    @abstractmethod
    def draw(self, batch: ReplayBufferSamples) -> Sequence[Tensor]:
        """Draw the random numbers of the next gradient step, in the order in which Stable-Baselines3 draws them."""

    @abstractmethod
    def __call__(self, batch: ReplayBufferSamples, noise: Sequence[Tensor], index: int) -> dict[str, Tensor]:
        """Learn from a batch.

        Args:
            batch: from the replay buffer.
            noise: what `draw` returned.
            index: of the gradient step within this call of `train`, from 0.

        Returns:
            What is logged under `train/`, scalar tensors.
        """

    @abstractmethod
    def act(self, features: Tensor) -> Tensor:
        """Sample actions, scaled to [-1, 1], `[n, actions]`."""


def _has_networks_of_its_own(critic: Any) -> bool:
    """Whether the networks that a critic lists are among its modules, without duplicates."""
    networks, children = critic.q_networks, set(critic.children())
    return len(set(networks)) == len(networks) and set(networks) <= children


def _plain_buffers_are_theirs() -> bool:
    return is_theirs(ReplayBuffer) and is_theirs(BaseBuffer)


class OffPolicyLean(Lean):
    """Base class to put before an off-policy algorithm of Stable-Baselines3 or sb3-contrib."""

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[misc]
        # VecNormalize subtracts a mean, and single precision may not hold the difference.
        if self._vec_normalize_env is None and _plain_buffers_are_theirs():  # type: ignore[attr-defined]
            store_in_single_precision(self.replay_buffer)  # type: ignore[has-type]
            self.replay_buffer = shared(self.replay_buffer)  # type: ignore[has-type]

    def _setup_learn(self, *args: Any, **options: Any) -> Any:
        self._share_only_what_is_theirs()
        return super()._setup_learn(*args, **options)

    def _share_only_what_is_theirs(self) -> None:
        """Replace a shared buffer by a plain one if Stable-Baselines3's class is patched, which it bypasses."""
        if type(self.replay_buffer) is SharedReplayBuffer and not _plain_buffers_are_theirs():
            self.replay_buffer = self.replay_buffer.plain()

    def obstacles(self) -> Iterator[str]:
        policy: Any = self.policy  # type: ignore[attr-defined]
        actor, critic, gaussian = policy.actor, policy.critic, getattr(policy.actor, "action_dist", None)
        if type(actor) not in _ACTORS or type(critic) not in _CRITICS:
            yield f"{type(actor).__name__} or {type(critic).__name__} is not a class of the library's"
        squashed = gaussian is None or type(gaussian) is SquashedDiagGaussianDistribution
        if not squashed or (gaussian is not None and gaussian.epsilon != EPSILON):
            yield "the actions have another distribution than the algorithm gives them"
        # Gradient steps use the algorithm's, rollouts the policy's.
        if not all(getattr(self, name) is getattr(policy, name) for name in _NETWORKS if hasattr(policy, name)):
            yield "the algorithm has other networks than its policy"
        if not all(map(_has_networks_of_its_own, (critic, getattr(policy, "critic_target", critic)))):
            yield "a critic lists other networks than it has"
        if not policy.squash_output:
            yield "the policy's actions are not squashed"
        # The actor's loss leaves gradients in the critics as well.
        if not all(parameters_of(each.optimizer) <= set(each.parameters()) for each in (actor, critic)):
            yield "an optimizer steps parameters of another network"
        if not is_learned(getattr(self, "log_ent_coef", None)):
            yield "the entropy coefficient is frozen or hooked into"
        yield from super().obstacles()
        if not same_features([actor, critic]):
            yield "features are learned, or differ between actor and critic"

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Actions for the environments, and the same scaled to [-1, 1] for the buffer."""
        update = self._plan_within_a_rollout().update
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
        plan = self.lean_plan()
        if (update := plan.update) is None:
            self._share_only_what_is_theirs()
            super().train(gradient_steps, batch_size)  # type: ignore[misc]
            return
        assert isinstance(self, OffPolicyAlgorithm)
        policy: Any = self.policy
        if plan.has_modes:
            policy.set_training_mode(True)
        optimizers = [policy.actor.optimizer, policy.critic.optimizer]
        if getattr(self, "ent_coef_optimizer", None) is not None:
            optimizers.append(self.ent_coef_optimizer)  # type: ignore[attr-defined]
        self._update_learning_rate(optimizers)
        if (update := self._plan_after_schedules().update) is None:
            super().train(gradient_steps, batch_size)  # type: ignore[misc]
            return
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for index in range(gradient_steps):
                batch = sample(self.replay_buffer, batch_size, self._vec_normalize_env)
                for name, value in update(batch, update.draw(batch), index).items():
                    found.setdefault(name, []).append(value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in found.items():
            # A single value needs no mean, and each call costs as much as a small matrix product.
            mean = values[0] if len(values) == 1 else torch.stack(values).cpu().double().mean()
            self.logger.record(f"train/{name}", mean.item())
