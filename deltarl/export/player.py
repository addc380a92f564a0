"""Plays deployed policies behind the interface of Stable-Baselines3's `predict`, with NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deltarl.export.signature import Arrays, Input, feeds


class Player:
    """A deployed policy with the `predict` of a Stable-Baselines3 policy, for batches of observations.

    Args:
        run: computes the outputs from the inputs by name.
        inputs: of the policy.
        metadata: what the file says about the policy.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Sequence[Any]],
        inputs: Sequence[Input],
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.run, self.inputs, self.metadata = run, tuple(inputs), dict(metadata or {})

    def predict(
        self,
        observation: Any,
        state: tuple[Any, ...] | None = None,
        episode_start: Any | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, tuple[Any, ...] | None]:
        """Actions for a batch of raw observations, and the next states of a recurrent policy.

        Args:
            observation: `[batch, ...]`, or a mapping of such arrays for Dict observations.
            state: what the last call returned; None at the start.
            episode_start: `[batch]`, where states are set to zeros.
            deterministic: a deployed policy always is.
        """
        del deterministic
        action, *states = self.run(feeds(self.inputs, observation, state, episode_start))
        return action, tuple(states) or None
