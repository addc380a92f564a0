"""The state of a MuJoCo simulation as arrays.

`qpos` and `qvel` are not enough: a simulation that got only these back goes on differently in its last bits, since it
warm-starts its solver and since tasks read quantities that were derived at the last step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mujoco  # type: ignore[import-untyped]

Arrays = dict[str, NDArray[np.generic]]

# What is drawn or looked up, and never simulated: megabytes that no task changes.
_APPEARANCE = ("mesh_", "tex_", "mat_", "skin_", "bvh_", "oct_", "name", "text_", "paths")
# Of the integers of a model, those that tasks change; all others tell where in memory something is, and are no file's
# to say: MuJoCo does not look whether they are within bounds.
_FLAGS = {"geom_contype", "geom_conaffinity", "body_contype", "body_conaffinity"}
# The solver's, of a size that comes and goes with contacts; mj_forward makes them.
_WORKSPACE = ("efc_", "efm_", "iefc_", "island_", "map_", "iacc", "ifrc_", "dof_island", "tree_island")


def is_data(value: object) -> bool:
    """Whether this is an MjData; asked by name, since importing MuJoCo settles how it renders."""
    return (type(value).__module__, type(value).__name__) == ("mujoco._structs", "MjData")


def is_model(value: object) -> bool:
    """Whether this is an MjModel."""
    return (type(value).__module__, type(value).__name__) == ("mujoco._structs", "MjModel")


def read_data(model: mujoco.MjModel, data: mujoco.MjData) -> Arrays:
    """Everything that the next step depends on, and the arrays that a task may read before it.

    Contacts and constraint forces (`contact`, `efc_*`) are not among them: `write_data` computes those of the present
    state, while after a step MuJoCo has those of the state before.
    """
    import mujoco  # noqa: PLC0415

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind))
    mujoco.mj_getState(model, data, state, kind)
    return {"integration": state} | {name: array.copy() for name, array in _derived(data).items()}


def write_data(model: mujoco.MjModel, data: mujoco.MjData, arrays: Arrays) -> None:
    """Fill `data`, of the same model, with what `read_data` gave; the next step is then the same to the last bit."""
    import mujoco  # noqa: PLC0415

    mujoco.mj_setState(model, data, arrays["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(model, data)  # contacts, which are no array of a fixed shape
    for name, array in _derived(data).items():
        array[...] = arrays[name]


def read_model(model: mujoco.MjModel) -> Arrays:
    """The model's physical parameters: tasks move goals and randomise dynamics by writing to them."""
    numbers = {
        f"{part}.{name}": np.array(value) for part in _PARTS for name, value in _numbers(getattr(model, part)).items()
    }
    return {name: array.copy() for name, array in _parameters(model).items()} | numbers


def write_model(model: mujoco.MjModel, arrays: Arrays) -> None:
    """Fill `model`, built from the same description, with what `read_model` gave."""
    for name, array in _parameters(model).items():
        # Older checkpoints have nothing of the statistics, and of the options the arrays alone.
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
    """The attributes that are single numbers: of the options the time step, viscosity, solver and flags."""
    names = [name for name in dir(owner) if not name.startswith("_")]
    values = {name: getattr(owner, name) for name in names}
    return {name: value for name, value in values.items() if type(value) in {int, float}}


def _arrays(owner: object) -> Arrays:
    names = [name for name in dir(owner) if not name.startswith("_")]
    arrays = {name: getattr(owner, name) for name in names}
    return {name: a for name, a in arrays.items() if isinstance(a, np.ndarray) and a.size and a.flags.writeable}
