"""Wrappers of environments as data: Gymnasium's by their class names, and shorter names for some of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

import gymnasium as gym
import numpy as np
from pydantic import Field, create_model

from deltarl.drift import DriftSpec
from deltarl.errors import Spec
from deltarl.history import HistorySpec
from deltarl.mask import MaskSpec
from deltarl.pixels import PixelsSpec


class DiscretizeActionSpec(Spec):
    """Divides continuous actions into bins of equal width, each combination a discrete action; for dqn and qrdqn."""

    wrapper: Literal["discretize_action"]
    bins: Annotated[int, Field(ge=2)] | tuple[Annotated[int, Field(ge=2)], ...] = Field(
        description="Number of bins for every component of the action, or one number per component."
    )

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.DiscretizeAction(env, self.bins)


class FlattenObservationSpec(Spec):
    """Flattens Dict observations, including nested ones, into one vector."""

    wrapper: Literal["flatten_observation"]

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.FlattenObservation(env)


class FilterObservationSpec(Spec):
    """Keeps only some entries of Dict observations."""

    wrapper: Literal["filter_observation"]
    keys: tuple[str, ...] = Field(min_length=1, description="Entries to keep.")

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.FilterObservation(env, list(self.keys))


class TimeAwareObservationSpec(Spec):
    """Adds the time since the start of the episode to the observation."""

    wrapper: Literal["time_aware_observation"]

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.TimeAwareObservation(env)


class GymnasiumSpec(Spec):
    """A wrapper of Gymnasium's by its class name; the options are the arguments of its constructor."""

    arrays: ClassVar[frozenset[str]] = frozenset()  # options that Gymnasium expects as arrays
    wrapper: str

    def wrap(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        options = {name: getattr(self, name) for name in type(self).model_fields if name != "wrapper"}
        for name in self.arrays:
            options[name] = np.asarray(options[name]) if isinstance(options[name], tuple) else options[name]
        made: gym.Env[Any, Any] = getattr(gym.wrappers, self.wrapper)(env, **options)
        return made


_DONE = "every environment is built with what it does"
_DRAWS = "it changes frames, which an agent does not see"
_FUNCTION = "its argument is a function; write a wrapper where your environment is registered, and give --import"
# Wrappers of Gymnasium that are not to be used here, and what to do instead.
REFUSED = {
    "AddRenderObservation": "use pixels, which also stacks frames",
    "AddWhiteNoise": _DRAWS,
    "AtariPreprocessing": "it is for Atari games",
    "Autoreset": _DONE,
    "HumanRendering": "use deltarl play",
    "NormalizeObservation": "use env.normalize.observations=true, whose statistics evaluations share",
    "NormalizeReward": "use env.normalize.rewards=true, which leaves scores as they are",
    "ObstructView": _DRAWS,
    "OrderEnforcing": _DONE,
    "PassiveEnvChecker": _DONE,
    "RecordEpisodeStatistics": _DONE,
    "RecordVideo": "use eval.video=true, or deltarl play --video FILE",
    "RenderCollection": _DRAWS,
    "TimeLimit": "use env.kwargs={max_episode_steps: N}",
    "TransformAction": _FUNCTION,
    "TransformObservation": _FUNCTION,
    "TransformReward": _FUNCTION,
}
_NUMBERS = float | tuple[float, ...]
# What Gymnasium's annotations mean in YAML.
_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "str | ObsType": str,
    "Any": str,  # a dtype
    "int | tuple[int, ...]": int | tuple[int, ...],
    "int | tuple[int, int]": int | tuple[int, int],
    "tuple[int, int]": tuple[int, int],
    "Sequence[str | int]": tuple[str, ...],
    "np.floating | np.integer | np.ndarray": _NUMBERS,
    "float | np.ndarray | None": _NUMBERS | None,
}


def _specs_of_gymnasium() -> Iterator[type[GymnasiumSpec]]:
    # Not `dir`: it includes conversions to JAX and PyTorch, whose import fails where these are missing.
    for name, kind in sorted(vars(gym.wrappers).items()):
        if not inspect.isclass(kind) or not issubclass(kind, gym.Wrapper) or name in REFUSED:
            continue
        fields: dict[str, Any] = {"wrapper": (Literal[name], ...)}
        _, _, *parameters = inspect.signature(kind.__init__).parameters.values()  # self and the environment
        for each in parameters:
            is_needed = each.default is each.empty
            told = "Required." if is_needed else f"Default: {'null' if each.default is None else each.default}."
            if each.annotation in _TYPES:
                default = ... if is_needed else each.default
                fields[each.name] = (_TYPES[each.annotation], Field(default, description=told))
        if all(each.name in fields or each.default is not each.empty for each in parameters):
            spec = create_model(f"{name}Spec", __base__=GymnasiumSpec, __doc__=f"Gymnasium's `{name}`.", **fields)
            spec.arrays = frozenset(each.name for each in parameters if "np.ndarray" in str(each.annotation))
            yield spec


WRAPPERS: tuple[type[Spec], ...] = (
    DiscretizeActionSpec,
    FlattenObservationSpec,
    FilterObservationSpec,
    TimeAwareObservationSpec,
    MaskSpec,
    HistorySpec,
    PixelsSpec,
    DriftSpec,
    *_specs_of_gymnasium(),
)
if TYPE_CHECKING:
    WrapperSpec = (
        DiscretizeActionSpec
        | FlattenObservationSpec
        | FilterObservationSpec
        | TimeAwareObservationSpec
        | MaskSpec
        | HistorySpec
        | PixelsSpec
        | DriftSpec
        | GymnasiumSpec
    )
else:
    WrapperSpec = Annotated[Union[WRAPPERS], Field(discriminator="wrapper")]  # noqa: UP007 - of a tuple
