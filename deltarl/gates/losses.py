"""The algorithms' training losses on a batch, and their gradients by block.

They follow the formulas of Stable-Baselines3 and sb3-contrib, including coefficients, for the current networks. Nothing
is changed: no parameter, `.grad`, buffer, mode or random state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor
from torch.nn import functional

from deltarl.gates.gradients import Gradients, recorded, root_mean_squares, squares
from deltarl.gates.measure import Batch, Network, evaluating, networks
from deltarl.torsos import Torso

_CLIPPED = (PPO, MaskablePPO, RecurrentPPO)
_SOFT = (SAC, TQC, CrossQ)
_LIBRARIES = ("stable_baselines3", "sb3_contrib", "deltarl")

# Names of networks, and the loss they are trained with: the mean over the rows of the batch.
Losses = dict[tuple[str, ...], Callable[[], Tensor]]


def loss_gradients(model: BaseAlgorithm, batch: Batch) -> dict[str, Gradients]:
    """Gradients of each row's term of the loss: root mean squares by block and gate.

    Terms of opposite sign do not cancel, as they do in the gradient of the mean. Networks are in evaluation mode, so
    CrossQ's norms use running statistics.

    Args:
        model: the algorithm.
        batch: with `training`.

    Returns:
        Gradients by the names of `networks`, for those with a torso. Empty for a batch without `training`, and for an
        algorithm that overrides `train`, because its loss is unknown.
    """
    if batch.training is None or not _is_known(model):
        return {}
    found = networks(model.policy)
    torsos = {name: torso for name, network in found.items() if (torso := _torso(network)) is not None}
    gradients: dict[str, Gradients] = {}
    with evaluating(model.policy), seeded_noise(model.device):
        rows = len(batch.training["actions"])
        for names, loss in losses(model, batch, tuple(found)).items():
            own = {name: torsos[name] for name in names if name in torsos}
            if not own:
                continue
            with torch.enable_grad(), recorded(list(own.values())) as calls:
                total = (
                    loss() * rows
                )  # the sum over rows: its gradient with respect to a row's activations is that row's
            linears = list(calls)
            # Not backward, because the parameters' .grad belongs to the optimizer.
            by = torch.autograd.grad(total, [calls[each][1] for each in linears], allow_unused=True)
            by_output = dict(zip(linears, by, strict=True))
            gradients |= {
                name: root_mean_squares(torso, squares(torso, calls, by_output), rows) for name, torso in own.items()
            }
    return gradients


def values_and_targets(model: BaseAlgorithm, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """The values that critics give a batch, and the targets of their training; the difference is the TD error.

    Quantiles are averaged. Networks are in evaluation mode, and the noise of the targets' actions has its own seed.

    Args:
        model: the algorithm.
        batch: with `training`.

    Returns:
        Values and targets `[N]` by the names of `networks`. Empty for on-policy algorithms, for a batch without
        `training`, and for an algorithm that overrides `train`.
    """
    if batch.training is None or not _is_known(model):
        return {}
    of: Any = model
    with torch.no_grad(), evaluating(model.policy), seeded_noise(model.device):
        if isinstance(model, DQN):
            values = {"q": of.q_net(batch.observations).gather(1, batch.training["actions"].long())}
            target = _dqn_aim(model, batch)
        elif isinstance(model, QRDQN):
            quantiles = of.quantile_net(batch.observations)
            values = {"q": _quantiles_of(quantiles, batch.training["actions"].long())}
            target = _qrdqn_aim(model, batch)
        elif isinstance(model, (*_SOFT, TD3)):
            each = of.critic(batch.observations, batch.actions)
            if isinstance(model, TQC):  # one tensor, [N, critics, quantiles]
                each = each.unbind(1)
            values = {f"qf{index}": value for index, value in enumerate(each)}
            target = _soft_aim(model, batch) if isinstance(model, _SOFT) else _td3_aim(model, batch)
        else:
            return {}
    return {name: (value.mean(1), target.mean(1)) for name, value in values.items()}


def _is_known(model: BaseAlgorithm) -> bool:
    """Whether the loss of its `train` is known."""
    return type(model).train.__module__.partition(".")[0] in _LIBRARIES if hasattr(model, "train") else False


def _torso(network: Network) -> Torso | None:
    return next((child for child in network.trunk if isinstance(child, Torso)), None)


@contextmanager
def seeded_noise(device: torch.device) -> Iterator[None]:
    """Use random numbers of a fixed seed, and restore PyTorch's random states afterwards."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        # Not torch.manual_seed, which also seeds devices whose state is not restored.
        torch.default_generator.manual_seed(0)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield


def losses(model: Any, batch: Batch, names: tuple[str, ...]) -> Losses:
    """Each loss with the networks it trains; empty for an unknown algorithm."""
    if isinstance(model, (*_CLIPPED, A2C, TRPO)):
        return {("policy",): lambda: _policy_loss(model, batch), ("value",): lambda: _value_loss(model, batch)}
    if isinstance(model, DQN | QRDQN):
        loss = _dqn_loss if isinstance(model, DQN) else _qrdqn_loss
        return {names: lambda: loss(model, batch)}
    actor, critics = names[:1], names[1:]
    if isinstance(model, _SOFT):
        return {actor: lambda: _soft_actor_loss(model, batch), critics: lambda: _soft_critic_loss(model, batch)}
    if isinstance(model, TD3):  # and DDPG
        return {actor: lambda: _td3_actor_loss(model, batch), critics: lambda: _td3_critic_loss(model, batch)}
    return {}


def _training(batch: Batch) -> Mapping[str, Any]:
    assert batch.training is not None
    return batch.training


def _policy_loss(model: Any, batch: Batch) -> Tensor:
    policy: Any = model.policy
    given, observations = _training(batch), batch.observations
    if isinstance(model, RecurrentPPO):
        assert batch.lstm_states is not None
        distribution, _ = policy.get_distribution(observations, batch.lstm_states.pi, batch.episode_starts)
    elif isinstance(model, MaskablePPO):
        distribution = policy.get_distribution(observations, given["action_masks"])
    else:
        distribution = policy.get_distribution(observations)
    log_prob = distribution.log_prob(given["actions"])
    advantages = given["advantages"]
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    if isinstance(model, A2C):
        gain = advantages * log_prob
    else:
        ratio = torch.exp(log_prob - given["old_log_prob"])
        gain = advantages * ratio
        if isinstance(model, _CLIPPED):
            bound = model.clip_range(model._current_progress_remaining)  # type: ignore[operator]
            gain = torch.minimum(gain, advantages * ratio.clamp(1 - bound, 1 + bound))
    loss: Tensor = -gain.mean()
    if isinstance(model, TRPO):
        return loss
    entropy = distribution.entropy()
    return loss - model.ent_coef * (-log_prob if entropy is None else entropy).mean()  # type: ignore[no-any-return]


def _value_loss(model: Any, batch: Batch) -> Tensor:
    policy: Any = model.policy
    given, observations = _training(batch), batch.observations
    if isinstance(model, RecurrentPPO):
        assert batch.lstm_states is not None
        values = policy.predict_values(observations, batch.lstm_states.vf, batch.episode_starts)
    else:
        values = policy.predict_values(observations)
    values = values.flatten()
    if isinstance(model, _CLIPPED) and model.clip_range_vf is not None:
        bound = model.clip_range_vf(model._current_progress_remaining)  # type: ignore[operator]
        values = given["old_values"] + (values - given["old_values"]).clamp(-bound, bound)
    loss: Tensor = functional.mse_loss(values, given["returns"])
    return loss if isinstance(model, TRPO) else model.vf_coef * loss


def _aim(model: Any, batch: Batch, next_values: Tensor) -> Tensor:
    """Reward plus discounted value of the next state."""
    given = _training(batch)
    discounts = given.get("discounts", model.gamma)
    aim: Tensor = given["rewards"] + (1 - given["dones"]) * discounts * next_values
    return aim


def _entropy_coefficient(model: Any) -> Tensor:
    coefficient: Tensor = (
        model.ent_coef_tensor if model.log_ent_coef is None else torch.exp(model.log_ent_coef.detach())
    )
    return coefficient


def _soft_actor_loss(model: Any, batch: Batch) -> Tensor:
    actions, log_prob = model.actor.action_log_prob(batch.observations)
    values = model.critic(batch.observations, actions)
    if isinstance(model, TQC):
        value = values.mean(dim=2).mean(dim=1, keepdim=True)
    else:
        value = torch.cat(values, dim=1).min(dim=1, keepdim=True).values
    loss: Tensor = (_entropy_coefficient(model) * log_prob.reshape(-1, 1) - value).mean()
    return loss


@torch.no_grad()
def _soft_aim(model: Any, batch: Batch) -> Tensor:
    following = _training(batch)["next_observations"]
    target = model.critic if isinstance(model, CrossQ) else model.critic_target
    actions, log_prob = model.actor.action_log_prob(following)
    values = target(following, actions)
    if isinstance(model, TQC):
        kept = model.critic.quantiles_total - model.top_quantiles_to_drop_per_net * model.critic.n_critics
        value = values.flatten(1).sort().values[:, :kept]
    else:
        value = torch.cat(values, dim=1).min(dim=1, keepdim=True).values
    return _aim(model, batch, value - _entropy_coefficient(model) * log_prob.reshape(-1, 1))


def _soft_critic_loss(model: Any, batch: Batch) -> Tensor:
    aim = _soft_aim(model, batch)
    current = model.critic(batch.observations, batch.actions)
    if isinstance(model, TQC):
        return quantile_huber_loss(current, aim.unsqueeze(1), sum_over_quantiles=False)
    return 0.5 * torch.stack([functional.mse_loss(each, aim) for each in current]).sum()


def _td3_actor_loss(model: Any, batch: Batch) -> Tensor:
    loss: Tensor = -model.critic.q1_forward(batch.observations, model.actor(batch.observations)).mean()
    return loss


@torch.no_grad()
def _td3_aim(model: Any, batch: Batch) -> Tensor:
    following = _training(batch)["next_observations"]
    assert batch.actions is not None
    noise = model.target_policy_noise * torch.randn_like(batch.actions)
    noise = noise.clamp(-model.target_noise_clip, model.target_noise_clip)
    actions = (model.actor_target(following) + noise).clamp(-1, 1)
    return _aim(model, batch, torch.cat(model.critic_target(following, actions), 1).min(1, keepdim=True).values)


def _td3_critic_loss(model: Any, batch: Batch) -> Tensor:
    aim = _td3_aim(model, batch)
    current = model.critic(batch.observations, batch.actions)
    return torch.stack([functional.mse_loss(each, aim) for each in current]).sum()


@torch.no_grad()
def _dqn_aim(model: Any, batch: Batch) -> Tensor:
    following = _training(batch)["next_observations"]
    return _aim(model, batch, model.q_net_target(following).max(1, keepdim=True).values)


def _dqn_loss(model: Any, batch: Batch) -> Tensor:
    aim = _dqn_aim(model, batch)
    current = model.q_net(batch.observations).gather(1, _training(batch)["actions"].long())
    return functional.smooth_l1_loss(current, aim)


def _quantiles_of(quantiles: Tensor, actions: Tensor) -> Tensor:
    """Quantiles of the actions `[n, 1]`, from those of all actions `[n, quantiles, actions]`."""
    return quantiles.gather(2, actions[..., None].expand(-1, quantiles.shape[1], 1)).squeeze(2)


@torch.no_grad()
def _qrdqn_aim(model: Any, batch: Batch) -> Tensor:
    following = model.quantile_net_target(_training(batch)["next_observations"])
    return _aim(model, batch, _quantiles_of(following, following.mean(1).argmax(1, keepdim=True)))


def _qrdqn_loss(model: Any, batch: Batch) -> Tensor:
    aim = _qrdqn_aim(model, batch)
    current = _quantiles_of(model.quantile_net(batch.observations), _training(batch)["actions"].long())
    return quantile_huber_loss(current, aim, sum_over_quantiles=True)
