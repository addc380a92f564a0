"""EnvPool's MuJoCo tasks, which are stepped in C++, as vectorised environments of Stable-Baselines3."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from deltarl.errors import ConfigError

_NEVER = 2**31 - 1  # EnvPool's seeds and step counts are of 32 bits


class EnvPoolVecEnv(VecEnv):
    """EnvPool's environments (Weng et al., arXiv 2206.10558), through its Gymnasium interface.

    It behaves like Stable-Baselines3's `DummyVecEnv` of Gymnasium environments, except that observations are float32,
    which is what networks see anyway. The spaces are Gymnasium's, so a policy fits both. Actions are passed on
    unchanged. When an episode ends, the next one's first observation is returned at once, and the last observation is
    in the info as `terminal_observation`. Infos contain nothing specific to the task. The environments' state is in C++
    and can be neither read nor stored.

    Args:
        task: one of `envpool_tasks.TASKS`.
        n_envs: number of environments.
        seed: the environments are seeded with seed, seed + 1, ... at the first reset. What they then do depends neither
            on each other nor on the number of threads.
        threads: EnvPool's threads, in addition to the one that waits for them.
        options: keyword arguments of `gymnasium.make`; EnvPool supports `envpool_tasks.OPTIONS`.

    Raises:
        ConfigError: if EnvPool cannot be imported.
        TypeError: if the task does not have an option, or its type is wrong.
    """

    render_mode = None

    def __init__(
        self, task: str, n_envs: int, seed: int, threads: int = 1, options: Mapping[str, Any] | None = None
    ) -> None:
        twin = gym.make(task, **(options or {}))
        twin.close()
        self.spec = twin.spec
        super().__init__(n_envs, twin.observation_space, twin.action_space)
        self.task, self.threads = task, threads
        # EnvPool reports a fall at the time limit only as truncation, Gymnasium also as termination. So the limit is
        # kept here, where the two can be told apart, and EnvPool's own is out of reach.
        self.options = {**(options or {}), "max_episode_steps": _NEVER}
        self.limit = (twin.spec and twin.spec.max_episode_steps) or sys.maxsize
        self.lengths = np.zeros(n_envs, int)
        self.seeds: list[int] = []
        self.pool: Any = None  # created at the first reset; invalid options are reported here
        _envpool().make_spec(task, **self.options)
        self.seed(seed)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Recreate the environments at the next reset, seeded with seed, seed + 1, ..."""
        seeds = super().seed(seed)
        self.seeds = [each % _NEVER for each in seeds if each is not None]
        return seeds

    def reset(self) -> VecEnvObs:
        """First observations, shape (n_envs, size)."""
        if self.pool is None or None not in self._seeds:
            self.pool = _envpool().make_gymnasium(
                self.task, num_envs=self.num_envs, num_threads=self.threads, env_seed=self.seeds, **self.options
            )
        self._reset_seeds()
        self._reset_options()
        self.lengths[:] = 0
        return _single(self.pool.reset()[0])

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        self.pool.send(actions)

    def step_wait(self) -> VecEnvStepReturn:
        received, rewards, terminated, _, _ = self.pool.recv()
        observations, rewards = _single(received), _single(rewards)
        self.lengths += 1
        truncated = ~terminated & (self.lengths >= self.limit)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": cut} for cut in truncated.tolist()]
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            for index in ended:
                infos[index]["terminal_observation"] = observations[index].copy()
            # Otherwise EnvPool would spend the next step on this and ignore its action.
            observations[ended] = self.pool.reset(ended.astype(np.int32))[0]
            self.lengths[ended] = 0
        return observations, rewards, terminated | truncated, infos

    def close(self) -> None:
        self.pool = None  # its threads end with it

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attributes that are the same for all environments: `spec`, `render_mode`, the spaces.

        Raises:
            AttributeError: for anything else.
        """
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refused.

        Raises:
            AttributeError: always.
        """
        del value, indices
        raise AttributeError(f"EnvPool's environments cannot be changed: '{attr_name}' cannot be set")

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **_: Any) -> list[Any]:
        """Refused.

        Raises:
            AttributeError: always.
        """
        del method_args, indices
        raise AttributeError(f"EnvPool's environments are not Python objects: they have no method '{method_name}'")

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False for each: Gymnasium's wrappers cannot wrap them."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[None]:
        """None for each: they are used for training only and never rendered."""
        return [None] * self.num_envs


def _single(received: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A float32 copy; always a copy, because the memory is EnvPool's: it may be overwritten, and cannot be restored."""
    return received.astype(np.float32)


def _envpool() -> Any:
    try:
        import envpool  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise ConfigError(
            f"env.vectorization: 'envpool' needs EnvPool ({error}): pip install 'deltarl[envpool]', or give dummy"
        ) from error
    return envpool
