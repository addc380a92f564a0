"""A trained policy as one PyTorch module: raw observations in, actions in the environment's units out."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.vec_env import VecNormalize, VecTransposeImage, is_vecenv_wrapped
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn

from deltarl.errors import ConfigError
from deltarl.export.actions import FORBIDDEN, head
from deltarl.export.observations import Observation, Observations, entries
from deltarl.export.signature import CELL, HIDDEN, MASKS, WHOLE, Input


class PolicyModule(nn.Module):
    """The deterministic action for a raw observation; `policy_module` makes it.

    `forward(observation)` takes a batch of observations in the dtype of the environment's space, a dict of them for
    Dict observations, and returns a batch of actions.

    Attributes:
        observation_space: of the environment.
        action_space: of the environment.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        observations: Observations,
        network: nn.Module,
        action: nn.Module,
    ) -> None:
        super().__init__()
        self.observation_space, self.action_space = observation_space, action_space
        self.observations, self.network, self.action = observations, network, action

    @property
    def further(self) -> tuple[Input, ...]:
        """The inputs besides the observation."""
        return ()

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs in the order of `forward`, the entries of a Dict observation one by one."""
        found = []
        for name, space in entries(self.observation_space).items():
            assert space.shape is not None
            found.append(Input(name, (None, *space.shape), np.dtype(space.dtype)))
        return (*found, *self.further)

    def arguments(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The arguments of `forward`, from a value for each input by name."""
        observation = {key: given[key] for key in entries(self.observation_space)}
        is_dict = isinstance(self.observation_space, spaces.Dict)
        return (observation if is_dict else observation[WHOLE], *(given[each.name] for each in self.further))

    def output(self, observation: Observation) -> Tensor | tuple[Tensor, ...]:
        """The network's output, before it becomes an action; and the next states of a recurrent policy."""
        return cast(Tensor, self.network(self.observations(observation)))

    def forward(self, observation: Observation) -> Tensor | tuple[Tensor, ...]:
        return cast(Tensor, self.action(self.output(observation)))


class MaskablePolicyModule(PolicyModule):
    """Of MaskablePPO; `action_masks` `[batch, choices]` is true where an action is allowed."""

    @property
    def further(self) -> tuple[Input, ...]:
        choices = self.network[-1].out_features  # type: ignore[index]
        return (Input(MASKS, (None, choices), np.dtype(bool)),)

    def output(self, observation: Observation, action_masks: Tensor) -> Tensor:  # type: ignore[override]
        return torch.where(action_masks, self.network(self.observations(observation)), FORBIDDEN)

    def forward(self, observation: Observation, action_masks: Tensor) -> Tensor:  # type: ignore[override]
        return cast(Tensor, self.action(self.output(observation, action_masks)))


class RecurrentPolicyModule(PolicyModule):
    """Of RecurrentPPO: takes and returns the LSTM's states `[layers, batch, size]`, zeros at an episode's start.

    `forward(observation, hidden, cell)` returns the actions and the two next states.
    """

    def __init__(self, lstm: nn.LSTM, *parts: Any) -> None:
        super().__init__(*parts)
        self.lstm = lstm

    @property
    def further(self) -> tuple[Input, ...]:
        shape = (self.lstm.num_layers, None, self.lstm.hidden_size)
        return tuple(Input(name, shape, np.dtype(np.float32)) for name in (HIDDEN, CELL))

    def output(  # type: ignore[override]
        self, observation: Observation, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = self.observations(observation)
        latent, (hidden, cell) = self.lstm(features.unsqueeze(0), (hidden, cell))
        return self.network(latent.squeeze(0)), hidden, cell

    def forward(  # type: ignore[override]
        self, observation: Observation, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        output, hidden, cell = self.output(observation, hidden, cell)
        return self.action(output), hidden, cell


class Latent(nn.Module):
    """The policy's half of a user-defined `mlp_extractor`."""

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.extractor.forward_actor(features))


class MeanOfQuantiles(nn.Module):
    """Quantiles `[batch, quantiles * actions]` to Q values `[batch, actions]`."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.actions = actions

    def forward(self, quantiles: Tensor) -> Tensor:
        return torch.unflatten(quantiles, -1, (-1, self.actions)).mean(dim=1)


def policy_module(
    model: BaseAlgorithm | BasePolicy,
    normalizer: VecNormalize | None = None,
    observation_space: spaces.Space[Any] | None = None,
) -> PolicyModule:
    """Build the module that a robot runs: everything between a raw observation and the action, and nothing else.

    It contains a copy of the policy network, on the CPU, in evaluation mode and without gradients; the statistics and
    the clipping of the normaliser; tanh squashing, rescaling and clipping to the action's bounds, or the choice of the
    best discrete action. Its actions are those of `model.predict(..., deterministic=True)`.

    Args:
        model: an algorithm of Stable-Baselines3 or sb3-contrib, or its policy; with deltarl's policies or their own.
        normalizer: the `VecNormalize` that the policy was trained with; default: that of the model's environment.
        observation_space: the environment's. It matters for images, which Stable-Baselines3 moves to channel-first;
            default: that of the normaliser's or the model's environment, or the policy's.

    Raises:
        ConfigError: for an algorithm or a space that cannot be exported.
    """
    if isinstance(model, BaseAlgorithm):
        policy, envs = model.policy, cast(Any, model.get_env())
        normalizer = model.get_vec_normalize_env() if normalizer is None else normalizer
        if observation_space is None and envs is not None and is_vecenv_wrapped(envs, VecTransposeImage):
            while not isinstance(envs, VecTransposeImage):
                envs = envs.venv
            observation_space = envs.venv.observation_space
    else:
        policy = model
    seen = policy.observation_space
    if normalizer is not None and normalizer.norm_obs:
        raw = normalizer.venv.observation_space
    else:
        raw = seen if observation_space is None else observation_space
    extractor, network, action = (deepcopy(part).cpu() for part in _parts(policy))
    observations = Observations(raw, seen, normalizer, extractor, policy.normalize_images)
    parts = (raw, policy.action_space, observations, network, action)
    if isinstance(policy, RecurrentActorCriticPolicy):
        module: PolicyModule = RecurrentPolicyModule(deepcopy(policy.lstm_actor).cpu(), *parts)
    elif isinstance(policy, MaskableActorCriticPolicy):
        module = MaskablePolicyModule(*parts)
    else:
        module = PolicyModule(*parts)
    if taken := entries(raw).keys() & {each.name for each in module.further}:
        raise ConfigError(f"export: '{min(taken)}' is the name of an observation and of another input of the policy")
    return module.eval().requires_grad_(False)


def _parts(policy: BasePolicy) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Features extractor, network and action head of a policy."""
    space: Any = policy.action_space
    if isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy):
        both = policy.mlp_extractor
        latent = both.policy_net if type(both) is MlpExtractor else Latent(both)
        squash = policy.squash_output
        network = nn.Sequential(latent, policy.action_net)
        return policy.pi_features_extractor, network, head(space, squash=squash, rescale=squash)
    if isinstance(policy, SACPolicy | TQCPolicy | CrossQPolicy):
        actor: Any = policy.actor
        return (
            actor.features_extractor,
            nn.Sequential(actor.latent_pi, actor.mu),
            head(space, squash=True, rescale=True),
        )
    if isinstance(policy, TD3Policy):
        return policy.actor.features_extractor, policy.actor.mu, head(space, rescale=True)
    if isinstance(policy, DQNPolicy):
        return policy.q_net.features_extractor, policy.q_net.q_net, head(space)
    if isinstance(policy, QRDQNPolicy):
        net = policy.quantile_net
        mean = MeanOfQuantiles(int(space.n))
        return net.features_extractor, nn.Sequential(net.quantile_net, mean), head(space)
    raise ConfigError(f"export: no way to deploy a {type(policy).__name__}")
