"""A replay buffer that stores each observation once, instead of also as the previous step's next observation."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

_OWN = {"place", "apart", "free"}


class SharedReplayBuffer(ReplayBuffer):
    """Gives the same samples as a plain buffer of the same transitions, but stores no array of next observations.

    The next observation of a slot usually equals the observation of the following slot. If it differs, because an
    episode ended or environments were reset between two calls of `learn`, it is stored separately. The two are compared
    bit by bit when the following slot is filled; no flags are used.

    Files contain both arrays, in Stable-Baselines3's own format.

    Args:
        plain: an empty buffer with observations in single precision, to be replaced by this one.

    Attributes:
        place: where the next observations are, `[slots, environments]`: a row of `apart`, or -1 for the following slot.
        apart: the observations stored separately, `[rows, ...]`. The first rows, one per environment, belong to the
            newest slot, which has no following slot yet.
        free: further rows that are not in use.
    """

    def __init__(self, plain: ReplayBuffer) -> None:
        vars(self).update({name: value for name, value in vars(plain).items() if name != "next_observations"})
        self.place: NDArray[np.int32] = np.full((self.buffer_size, self.n_envs), -1, np.int32)
        self.apart: NDArray[np.float32] = np.zeros((self.n_envs, *self.obs_shape), np.float32)
        self.free: list[int] = []

    @property
    def next_observations(self) -> NDArray[np.float32]:  # type: ignore[override]
        """A copy of all next observations, `[slots, environments, ...]`; writing to it has no effect on the buffer."""
        array = self._all_following()
        array.flags.writeable = False
        return array

    def _all_following(self) -> NDArray[np.float32]:
        array = np.roll(self.observations, -1, axis=0)
        kept = self.place >= 0
        array[kept] = self.apart[self.place[kept]]
        array[self.size() :] = 0
        return array

    def following(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Next observations, `[n, ...]`.

        Args:
            places: slot times the number of environments, plus environment, `[n]`.
        """
        observations = self.observations.reshape(-1, *self.obs_shape)
        found = observations.take(places + self.n_envs, axis=0, mode="wrap")
        rows = self.place.take(places)
        [kept] = (rows >= 0).nonzero()
        if len(kept):
            found[kept] = self.apart[rows[kept]]
        return found

    def add(  # noqa: PLR0917 - Stable-Baselines3's signature
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        self.observations[self.pos] = obs
        self._settle()
        self.free.extend(row for row in self.place[self.pos].tolist() if row >= self.n_envs)
        self.apart[: self.n_envs] = next_obs
        self.place[self.pos] = range(self.n_envs)

        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        if self.handle_timeout_termination:
            self.timeouts[self.pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def _settle(self) -> None:
        """Decide where the next observations of the slot before are, now that the slot after it is filled."""
        place = self.place[self.pos - 1]
        if place[0] != 0:  # there is none: nothing has been added yet
            return
        place[:] = -1
        # As bytes, because NaN does not equal itself.
        begun, followed = self.observations[self.pos], self.apart[: self.n_envs]
        if begun.tobytes() == followed.tobytes():  # nearly always
            return
        for env in range(self.n_envs):
            if begun[env].tobytes() != followed[env].tobytes():
                place[env] = row = self._free_row()
                self.apart[row] = followed[env]

    def _free_row(self) -> int:
        if not self.free:
            rows = len(self.apart)
            # At most one per transition.
            longer = np.zeros((min(2 * rows, (self.buffer_size + 1) * self.n_envs), *self.obs_shape), np.float32)
            longer[:rows] = self.apart
            self.apart = longer
            self.free.extend(reversed(range(rows, len(longer))))
        return self.free.pop()

    def _get_samples(self, batch_inds: NDArray[Any], env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Sample as Stable-Baselines3 does, with the same random numbers."""
        columns = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))
        ended = self.dones[batch_inds, columns] * (1 - self.timeouts[batch_inds, columns])
        fields: tuple[Any, ...] = (
            self._normalize_obs(self.observations[batch_inds, columns], env),
            self.actions[batch_inds, columns],
            self._normalize_obs(self.following(batch_inds * self.n_envs + columns), env),
            ended.reshape(-1, 1),
            self._normalize_reward(self.rewards[batch_inds, columns].reshape(-1, 1), env),
        )
        return ReplayBufferSamples(*map(self.to_torch, fields))

    def plain(self) -> ReplayBuffer:
        """A plain buffer with the same transitions; it shares all arrays except the next observations."""
        plain = ReplayBuffer.__new__(ReplayBuffer)
        vars(plain).update({name: value for name, value in vars(self).items() if name not in _OWN})
        plain.next_observations = self._all_following()
        return plain

    def __reduce__(self) -> tuple[Any, ...]:
        # Files can be opened without this class.
        return object.__new__, (ReplayBuffer,), vars(self.plain())

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedReplayBuffer:
        memo[id(self)] = copied = type(self).__new__(type(self))
        vars(copied).update(deepcopy(vars(self), memo))
        return copied


def shared(buffer: Any) -> Any:
    """An empty buffer as a shared one, or `buffer` itself if that is not possible.

    Only plain buffers with observations in single precision are supported.
    """
    is_known = type(buffer) is ReplayBuffer and not buffer.optimize_memory_usage and buffer.size() == 0
    return SharedReplayBuffer(buffer) if is_known and buffer.observations.dtype == np.float32 else buffer
