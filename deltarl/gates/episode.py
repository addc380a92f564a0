"""The gates along one episode, together with what the agent does in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from deltarl.envs import LONGEST_EPISODE, EnvSpec, build_envs
from deltarl.gates.drawing import INK, RULE, SHARE_LABEL
from deltarl.gates.figures import SHARES
from deltarl.gates.measure import Batch, NetworkRecord, measure
from deltarl.torsos import BlockRecord

COLOURS = {"reward": "#0072b2", "speed": "#00805e", "distance to goal": "#00805e", "contact force": "#c44e00"}


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        networks: measurements of each network on the T observations.
        curves: by name, each `[T]`: reward; speed along x as reported by the task, or distance to the goal; and the sum
            of the magnitudes of the external forces on bodies, in newtons. Curves that a task does not have are absent.
    """

    networks: dict[str, NetworkRecord]
    curves: dict[str, NDArray[np.floating[Any]]]

    @property
    def beta(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Gates of each network that has any, heads pooled: `[T, blocks]`."""
        return self._of_blocks(lambda block: block.beta)

    @property
    def erase_share(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Erase shares of each network whose blocks erase, heads and channels pooled: `[T, blocks]`."""
        return self._of_blocks(lambda block: block.erase_share)

    def _of_blocks(self, read: Callable[[BlockRecord], torch.Tensor | None]) -> dict[str, NDArray[np.floating[Any]]]:
        found = {}
        for name, record in self.networks.items():
            read_of = [values.flatten(1).mean(-1) for block in record.blocks if (values := read(block)) is not None]
            if read_of:
                found[name] = torch.stack(read_of, dim=-1).cpu().numpy()
        return found


@dataclass
class _Seen:
    observations: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    starts: list[Any] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)


def play_episode(
    policy: BasePolicy,
    env: EnvSpec,
    normalizer: VecNormalize | None,
    seed: int,
    max_episode_steps: int = LONGEST_EPISODE,
) -> Episode:
    """Play one deterministic episode, or its first steps, and measure the policy's networks on its observations."""
    envs = build_envs(env, seed, n_envs=1)
    seen = _Seen()
    try:
        observation: Any = envs.reset()
        state, start = None, np.ones(1, bool)
        while len(seen.actions) < max_episode_steps:
            normal = observation if normalizer is None else normalizer.normalize_obs(observation)
            seen.observations.append(normal)
            seen.states.append(state)
            seen.starts.append(start)
            action, state = policy.predict(normal, state=state, episode_start=start, deterministic=True)
            seen.actions.append(action)
            observation, reward, start, [info] = envs.step(action)
            values = {"reward": float(reward[0]), **_motion(info, observation), **_force(envs.get_attr("unwrapped")[0])}
            for name, value in values.items():
                seen.curves.setdefault(name, []).append(value)
            if start[0]:
                break
    finally:
        envs.close()
    return Episode(measure(policy, _batch(policy, seen)), {name: np.array(c) for name, c in seen.curves.items()})


def _motion(info: dict[str, Any], observation: Any) -> dict[str, float]:
    if isinstance(observation, dict) and {"achieved_goal", "desired_goal"} <= observation.keys():
        there = info.get("terminal_observation", {key: value[0] for key, value in observation.items()})
        return {"distance to goal": float(np.linalg.norm(there["achieved_goal"] - there["desired_goal"]))}
    return {"speed": float(info["x_velocity"])} if "x_velocity" in info else {}


def _force(env: Any) -> dict[str, float]:
    data = getattr(env, "data", None)
    forces = getattr(data, "cfrc_ext", None)  # torque and force on each body
    return {} if forces is None else {"contact force": float(np.linalg.norm(forces[:, 3:], axis=-1).sum())}


def _batch(policy: BasePolicy, seen: _Seen) -> Batch:
    def joined(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: joined([value[key] for value in values]) for key in values[0]}
        return torch.as_tensor(np.concatenate(values), device=policy.device)

    observations = joined(seen.observations)
    if not isinstance(observations, dict):
        observations, _ = policy.obs_to_tensor(observations.cpu().numpy())
    actions = None
    if isinstance(policy.action_space, spaces.Box) and policy.squash_output:
        # Flat, as critics take them from a replay buffer.
        scaled = policy.scale_action(np.concatenate(seen.actions))
        actions = torch.as_tensor(scaled.reshape(len(scaled), -1), device=policy.device)
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return Batch(observations, actions)
    blank = tuple(np.zeros_like(part) for part in seen.states[1] or _fresh(policy))
    states = [blank if state is None else state for state in seen.states]
    # [layers, 1, hidden] a step to [layers, steps, hidden].
    lstm = tuple(torch.as_tensor(np.concatenate([s[part] for s in states], 1), device=policy.device) for part in (0, 1))
    starts = torch.as_tensor(np.concatenate(seen.starts), device=policy.device).float()
    return Batch(observations, actions, RNNStates(lstm, lstm), starts)


def _fresh(policy: RecurrentActorCriticPolicy) -> tuple[NDArray[Any], ...]:
    layers, _, hidden = policy.lstm_hidden_state_shape
    return tuple(np.zeros((layers, 1, hidden), np.float32) for _ in range(2))


def draw_episode(episode: Episode) -> Figure:
    """Beta and erase share of each block over time, above what the agent does."""
    curves = episode.curves
    shares = episode.erase_share
    images = []
    for name, gates in episode.beta.items():
        images.append((f"β of {name}\nblock", gates, "RdBu_r", 2))
        if name in shares:
            images.append((f"{SHARE_LABEL}\nblock", shares[name], SHARES, 1))
    heights = [0.4 + 0.2 * values.shape[1] for _, values, _, _ in images] + [0.8] * len(curves)
    figure = Figure(figsize=(8.0, 0.9 + sum(heights)), dpi=110, layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for (label, values, colours, most), axis in zip(images, axes, strict=False):
        extent = (-0.5, len(values) - 0.5, values.shape[1] - 0.5, -0.5)
        image = axis.imshow(
            values.T, aspect="auto", cmap=colours, vmin=0, vmax=most, interpolation="nearest", extent=extent
        )
        axis.set_yticks(range(values.shape[1]))
        axis.set_ylabel(label)
        bar = figure.colorbar(image, ax=axis, pad=0.015, ticks=[0, most / 2, most])
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7)
    for (name, values), axis in zip(curves.items(), axes[len(images) :], strict=True):
        axis.plot(values, color=COLOURS[name], linewidth=1)
        axis.set_ylabel(name)
    for axis in axes:
        axis.spines[:].set_color(RULE)
        axis.tick_params(color=RULE, labelcolor=INK, labelsize=8)
        axis.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=9, color=INK)
    axes[-1].set_xlabel("step of the episode", fontsize=9, color=INK)
    figure.suptitle(f"Gates along one episode, return {curves['reward'].sum():,.1f}", x=0.01, ha="left", fontsize=11)
    return figure
