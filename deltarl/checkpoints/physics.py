"""The state of a MuJoCo simulation as arrays.

`qpos` and `qvel` are not enough: MuJoCo warm-starts its solver, and tasks read quantities derived at the last step.
A simulation restored from these two alone would continue with different last bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mujoco  # type: ignore[import-untyped]

Arrays = dict[str, NDArray[np.generic]]

# Drawn or looked up but never simulated: megabytes that no task changes.
_APPEARANCE = ("mesh_", "tex_", "mat_", "skin_", "bvh_", "oct_", "name", "text_", "paths")
# The integers of a model that tasks change. All others are indices into memory and are never read from a file, because
# MuJoCo does not check their bounds.
_FLAGS = {"geom_contype", "geom_conaffinity", "body_contype", "body_conaffinity"}
# The solver's workspace, whose size varies with the contacts; mj_forward fills it.
_WORKSPACE = ("efc_", "efm_", "iefc_", "island_", "map_", "iacc", "ifrc_", "dof_island", "tree_island")


def is_data(value: object) -> bool:
    """Whether this is an MjData; tested by name, because importing MuJoCo fixes how it renders."""
    return (type(value).__module__, type(value).__name__) == ("mujoco._structs", "MjData")


def is_model(value: object) -> bool:
    """Whether this is an MjModel."""
    return (type(value).__module__, type(value).__name__) == ("mujoco._structs", "MjModel")


def read_data(model: mujoco.MjModel, data: mujoco.MjData) -> Arrays:
    """Read everything that the next step depends on, and the arrays that a task may read before it.

    Contacts and constraint forces (`contact`, `efc_*`) are not included: `write_data` computes them for the current
    state, while after a step MuJoCo holds those of the previous state.
    """
    import mujoco  # noqa: PLC0415

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    return {"integration": state} | {name: array.copy() for name, array in _derived(data).items()}


def write_data(model: mujoco.MjModel, data: mujoco.MjData, arrays: Arrays) -> None:
    """Fill `data`, of the same model, from `read_data`; the next step is then the same bit for bit."""
    import mujoco  # noqa: PLC0415

    mujoco.mj_setState(model, data, arrays["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(model, data)  # computes contacts, which have no fixed shape
    for name, array in _derived(data).items():
        array[...] = arrays[name]


def read_model(model: mujoco.MjModel) -> Arrays:
    """The model's physical parameters: tasks move goals and randomise dynamics by writing to them."""
    numbers = {
        f"{part}.{name}": np.array(value) for part in _PARTS for name, value in _numbers(getattr(model, part)).items()
    }
    return {name: array.copy() for name, array in _parameters(model).items()} | numbers


def write_model(model: mujoco.MjModel, arrays: Arrays) -> None:
    """Fill `model`, built from the same description, from `read_model`."""
    for name, array in _parameters(model).items():
        # Older checkpoints have no statistics, and only the arrays of the options.
        if (not _is_index(array) or name in _FLAGS) and (name in arrays or not name.startswith("stat.")):
            array[...] = arrays[name]
    for part in _PARTS:
        for name, value in _numbers(getattr(model, part)).items():
            if (key := f"{part}.{name}") in arrays:
                setattr(getattr(model, part), name, type(value)(arrays[key].item()))


def _is_index(array: NDArray[np.generic]) -> bool:
    return array.dtype.kind in "iu" and array.dtype.itemsize > 1


def _derived(data: mujoco.MjData) -> Arrays:
    arrays = _arrays(data).items()
    return {name: array for name, array in arrays if not (name.startswith(_WORKSPACE) or _is_index(array))}


def _parameters(model: mujoco.MjModel) -> Arrays:
    found = {name: array for name, array in _arrays(model).items() if not name.startswith(_APPEARANCE)}
    return found | {f"{part}.{name}": array for part in _PARTS for name, array in _arrays(getattr(model, part)).items()}


_PARTS = ("opt", "stat")


def _numbers(owner: object) -> dict[str, int | float]:
    """The attributes that are single numbers, such as the options' time step, viscosity, solver and flags."""
    names = [name for name in dir(owner) if not name.startswith("_")]
    values = {name: getattr(owner, name) for name in names}
    return {name: value for name, value in values.items() if type(value) in {int, float}}


def _arrays(owner: object) -> Arrays:
    names = [name for name in dir(owner) if not name.startswith("_")]
    arrays = {name: getattr(owner, name) for name in names}
    return {name: a for name, a in arrays.items() if isinstance(a, np.ndarray) and a.size and a.flags.writeable}
