"""What the algorithms with lean training steps share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, ClassVar

import numpy as np
import torch
from sb3_contrib import crossq, tqc
from stable_baselines3 import sac, td3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, ContinuousCritic
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.optim import Optimizer

from deltarl.fast.actor_critic import Features
from deltarl.fast.experience import sample, store_in_single_precision
from deltarl.fast.gaussian import EPSILON
from deltarl.fast.known import (
    AROUND,
    LIBRARIES,
    InPlace,
    Seal,
    is_learned,
    is_theirs,
    is_unchanged,
    overrides,
    same_features,
)
from deltarl.fast.layers import Network
from deltarl.fast.rollouts import GaussianPolicy
from deltarl.fast.shared import SharedReplayBuffer, shared

# Where no code but the libraries' runs, only another thread could change anything.
ALONE_LOOKS_EVERY = 100
_TRUSTED = {*LIBRARIES, "gymnasium", "gymnasium_robotics"}
# Of these classes exactly: one of the user's own may compute anything.
_ACTORS = {sac.policies.Actor, td3.policies.Actor, tqc.policies.Actor, crossq.policies.Actor}
_NETWORKS = ("actor", "critic", "critic_target", "actor_target")
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


@dataclass
class Plan:
    """How an algorithm steps, and what that was decided from.

    Attributes:
        seal: of the algorithm as it was.
        update: None for Stable-Baselines3's own steps.
        has_modes: whether anything that is called may differ between training and evaluation.
        reason: why the steps are Stable-Baselines3's own; None for lean ones.
        watched: whether code that is given the algorithm, as a callback is, runs within rollouts.
        alone: whether within `learn` no code but the libraries' runs at all.
        passed: calls that took this plan without a look since the last one.
    """

    seal: Seal
    update: Any
    has_modes: bool
    reason: str | None
    watched: bool = True
    alone: bool = False
    passed: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of an algorithm makes a plan of its own."""


class Lean(ABC):
    """An algorithm that has an update of its own where it can, and Stable-Baselines3's otherwise."""

    update_class: ClassVar[Any]
    _lean: Plan | None = None

    def lean_update(self) -> Any:
        """The update for the algorithm as it is, None where it has to be Stable-Baselines3's own.

        It is made anew by each `learn`, and where anything that it is made of is another than before.
        """
        return self._plan().update

    def _plan(self) -> Plan:
        plan = self._lean
        if plan is not None and plan.alone and plan.passed < ALONE_LOOKS_EVERY:
            plan.passed += 1
            return plan
        if plan is None or not plan.seal.holds():
            seal = Seal(self)
            replaced = "code of the libraries has been replaced"
            reason = next(self.obstacles(), None) if seal.is_theirs() else replaced
            update = self.update_class(self) if reason is None else None
            has_modes = (
                update is None or not update.features.flat or any(network.has_modes for network in update.networks)
            )
            # Whoever has changed something may do so again.
            plan = self._lean = Plan(seal, update, has_modes, reason)
        plan.passed = 0
        return plan

    def _plan_after_schedules(self) -> Plan:
        """The same, looked at again where somebody's own schedules have been called since."""
        assert self._lean is not None
        return self._lean if all(map(_runs_code_of_the_libraries, _schedules(self))) else self._plan()

    def _plan_within_a_rollout(self) -> Plan:
        """The same, looked at again where somebody who is given the algorithm is called at each step."""
        return self._plan() if self._lean is None or self._lean.watched else self._lean

    def obstacles(self) -> Iterator[str]:
        """What an update by hand would not honour of the algorithm as it is; nothing where it honours everything."""
        device, policy = self.device, self.policy  # type: ignore[attr-defined]
        if device.type != "cpu":
            yield f"the device is {device}"
        if overrides(type(self), AROUND):
            yield f"{type(self).__name__} overrides methods of the algorithm"
        if self.use_sde:  # type: ignore[attr-defined]
            yield "exploration depends on the state (use_sde)"
        if not is_unchanged(policy):
            yield "the policy has methods, hooks, parameters or random layers that its class does not give it"
        if torch.is_anomaly_enabled():
            yield "PyTorch looks for NaN in its own backward passes (detect_anomaly)"

    def learn(self, *args: Any, **options: Any) -> Any:
        """As Stable-Baselines3's own."""
        try:
            return super().learn(*args, **options)  # type: ignore[misc]
        finally:
            self._lean = None  # out here anybody may change anything

    def _setup_learn(self, *args: Any, **options: Any) -> Any:
        self._lean = None
        total, callback = super()._setup_learn(*args, **options)  # type: ignore[misc]
        plan = self._plan()
        plan.watched = not is_of_the_libraries(callback)
        plan.alone = not plan.watched and all(map(_runs_code_of_the_libraries, [*plan.seal.objects, *_called(self)]))
        return total, callback

    def has_modes(self) -> bool:
        """Whether anything that the update of this moment calls may differ between training and evaluation."""
        return self._plan().has_modes

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """For as long as Stable-Baselines3 collects: what it asks of the policy at each step is done by hand.

        On the instance; everything else asks the class.
        """
        policy, plan = self.policy, self._plan_within_a_rollout()  # type: ignore[attr-defined]
        own: list[InPlace] = []
        if not plan.has_modes and not policy.training:
            own.append(InPlace(policy, "set_training_mode", self._stay))
        if plan.update is not None and isinstance(policy, ActorCriticPolicy):
            own.append(InPlace(policy, "forward", self._act))
        try:
            yield
        finally:
            for each in own:
                each.end()

    def _act(self, observations: Any, deterministic: bool = False) -> Any:
        update = self._plan_within_a_rollout().update
        policy = self.policy  # type: ignore[attr-defined]
        act = type(policy).forward.__get__(policy) if update is None else update.policy.act
        return act(observations, deterministic)

    def _stay(self, mode: bool) -> None:
        if self._plan_within_a_rollout().has_modes:
            policy = self.policy  # type: ignore[attr-defined]
            type(policy).set_training_mode(policy, mode)

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **options: Any) -> Any:
        """As Stable-Baselines3's own."""
        with self.collecting():
            return super().collect_rollouts(env, callback, *args, **options)  # type: ignore[misc]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_lean"]  # type: ignore[misc]


def training_step(model: BaseAlgorithm) -> dict[str, str]:
    """Whose training step an algorithm takes as it is, under the names of `agent.implementation`.

    Returns:
        `{"implementation": "deltarl"}` for a lean one, `{"implementation": "sb3", "reason": ...}` otherwise.
    """
    stock = f"{type(model).__name__} is not one of deltarl.fast"
    reason = model._plan().reason if isinstance(model, Lean) else stock
    return {"implementation": "deltarl"} if reason is None else {"implementation": "sb3", "reason": reason}


def _called(model: Any) -> Iterator[Any]:
    """Whatever else `learn` calls in this process: environments, schedules, noise, and where the log goes."""
    env = model.env
    yield from _wrappers(env, "venv")
    while not hasattr(env, "envs") and hasattr(env, "venv"):
        env = env.venv
    for each in getattr(env, "envs", []):
        yield from _wrappers(each, "env")
    yield from (value for value in vars(model).values() if isinstance(value, ActionNoise))
    yield from _schedules(model)
    yield from model.logger.output_formats


def _schedules(model: Any) -> Iterator[Any]:
    held = [value for value in vars(model).values() if not isinstance(value, type)]
    yield from (value for value in held if callable(value))
    yield from (value.value_schedule for value in held if isinstance(value, FloatSchedule))


def _wrappers(env: Any, inner: str) -> Iterator[Any]:
    while env is not None:
        yield env
        env = vars(env).get(inner)


def _runs_code_of_the_libraries(called: Any) -> bool:
    """Whether an object, or a function, is of a library that knows nothing of lean steps or keeps to the rules."""
    written_in = called if isinstance(called, FunctionType | MethodType) else type(called)
    return str(written_in.__module__).partition(".")[0] in _TRUSTED


def is_of_the_libraries(callback: Any) -> bool:
    """Whether a callback, and all those that it calls, are Stable-Baselines3's or deltarl's."""
    if not isinstance(callback, BaseCallback):
        return callback is None
    own = vars(callback)
    called = [*own.get("callbacks", []), own.get("callback"), own.get("callback_on_new_best")]
    return type(callback).__module__.partition(".")[0] in LIBRARIES and all(map(is_of_the_libraries, called))


def _has_networks_of_its_own(critic: Any) -> bool:
    """Whether a critic lists networks that are among its modules, each once."""
    networks, children = critic.q_networks, set(critic.children())
    return len(set(networks)) == len(networks) and set(networks) <= children


def _parameters_of(optimizer: Optimizer) -> set[Tensor]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def _plain_buffers_are_theirs() -> bool:
    return is_theirs(ReplayBuffer) and is_theirs(BaseBuffer)


class OffPolicyLean(Lean):
    """Stands before an off-policy algorithm of Stable-Baselines3's or sb3-contrib's among the bases."""

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[misc]
        # Normalisation comes before the networks, and takes differences that single precision may not hold.
        if self._vec_normalize_env is None and _plain_buffers_are_theirs():  # type: ignore[attr-defined]
            store_in_single_precision(self.replay_buffer)  # type: ignore[has-type]
            self.replay_buffer = shared(self.replay_buffer)  # type: ignore[has-type]

    def _setup_learn(self, *args: Any, **options: Any) -> Any:
        self._share_only_what_is_theirs()
        return super()._setup_learn(*args, **options)

    def _share_only_what_is_theirs(self) -> None:
        """Give up a buffer that would not see what somebody has put into Stable-Baselines3's class."""
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
        # Its steps take the ones, its rollouts the others.
        if not all(getattr(self, name) is getattr(policy, name) for name in _NETWORKS if hasattr(policy, name)):
            yield "the algorithm has other networks than its policy"
        if not all(map(_has_networks_of_its_own, (critic, getattr(policy, "critic_target", critic)))):
            yield "a critic lists other networks than it has"
        if not policy.squash_output:
            yield "the policy's actions are not squashed"
        # The actor's loss leaves gradients in the critics, too.
        if not all(_parameters_of(each.optimizer) <= set(each.parameters()) for each in (actor, critic)):
            yield "an optimizer steps parameters of another network"
        if not is_learned(getattr(self, "log_ent_coef", None)):
            yield "the entropy coefficient is frozen or hooked into"
        yield from super().obstacles()
        if not same_features([actor, critic]):
            yield "features are learned, or differ between actor and critic"

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """As Stable-Baselines3's own: actions for the environments, and scaled to [-1, 1] for the buffer."""
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
        """As Stable-Baselines3's own."""
        plan = self._plan()
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
            # One number needs no mean, and each call costs as much as a small product.
            mean = values[0] if len(values) == 1 else torch.stack(values).double().mean()
            self.logger.record(f"train/{name}", mean.item())


class OnPolicyLean(Lean):
    """Stands before PPO or A2C among the bases."""

    def obstacles(self) -> Iterator[str]:
        policy: Any = self.policy  # type: ignore[attr-defined]
        yield from super().obstacles()
        if not GaussianPolicy.is_one(policy):
            yield "features are learned, or the actions have another distribution than a plain Gaussian"
        # The gradients of others would add up, and count when all are clipped.
        if _parameters_of(policy.optimizer) != set(policy.parameters()):
            yield "the optimizer steps other parameters than the policy's"

    @abstractmethod
    def learn_rollout(self, update: Any) -> dict[str, float]:
        """Learn from the rollout in the buffer, and count the updates; what is logged of it below `train/`."""

    def train(self) -> None:
        """As Stable-Baselines3's own."""
        plan = self._plan()
        if (update := plan.update) is None:
            super().train()  # type: ignore[misc]
            return
        assert isinstance(self, OnPolicyAlgorithm)
        if plan.has_modes:
            self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        if (update := self._plan_after_schedules().update) is None:
            super().train()  # type: ignore[misc]
            return
        with torch.no_grad():
            logged = self.learn_rollout(update)
            logged["std"] = torch.exp(update.policy.log_std).mean().item()
        buffer = self.rollout_buffer
        logged["explained_variance"] = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        for name, value in logged.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
