"""Files of earlier versions are restored, and no file makes anything else than state."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import pytest
import torch
from stable_baselines3.common.policies import BasePolicy

import deltarl.blocks
import deltarl.specs
import deltarl.torso
from deltarl.checkpoints.state import capture, restore
from deltarl.checkpoints.state.kinds import name_of_class
from deltarl.torsos import FAMILIES, CustomTorsoSpec, DeltaTorsoSpec, MLPTorsoSpec, ResidualTorsoSpec, Torso
from tests.checkpoints.objects import Holder, through_json

FIRST = [(deltarl.torso, "Torso")]
FIRST += [(deltarl.specs, name) for name in deltarl.specs.__all__]
FIRST += [(deltarl.blocks, name) for name in deltarl.blocks.__all__ if name != "ACTIVATIONS"]
# By class, the names in checkpoints from before the families of torsos, and from before blocks were apart from specs.
BEFORE_FAMILIES = {name_of_class(getattr(module, name)): f"{module.__name__}.{name}" for module, name in FIRST}
BEFORE_BLOCKS_MOVED = {
    f"deltarl.torsos.{module}{suffix}.{name}": f"deltarl.torsos.{module}.{name}"
    for module, suffix, names in (
        ("bronet", "_blocks", "BroNetBlock"),
        ("hyper", "_blocks", "Connections HyperBlock SumOfStreams"),
        ("residual", "_blocks", "PlainBlock ResidualBlock"),
        ("simbav2", "_blocks", "Embedding Scaler SimbaV2Block UnitLinear"),
    )
    for name in names.split()
} | {"deltarl.torsos.torso.Torso": "deltarl.torsos.base.Torso"}
SMALL: dict[str, Any] = {"width": 8, "depth": 1}


def test_an_option_that_a_later_version_has_added_stays_as_it_was_built() -> None:
    spec = DeltaTorsoSpec(depth=2)
    snapshot = capture(Holder(spec=spec))
    del snapshot.tree["object"]["spec"]["object"]["output_scale"]  # as versions without it wrote
    back, missing = restore(Holder(spec=DeltaTorsoSpec(depth=2)), snapshot)
    assert back.spec == spec
    assert missing == []


@pytest.mark.parametrize(
    ("spec", "old"),
    [
        (DeltaTorsoSpec(**SMALL, channels=2), BEFORE_FAMILIES),
        (DeltaTorsoSpec(**SMALL, update="lerp"), BEFORE_FAMILIES),
        (ResidualTorsoSpec(**SMALL), BEFORE_FAMILIES),
        *((kind(**SMALL), BEFORE_BLOCKS_MOVED) for kind in FAMILIES if kind not in {CustomTorsoSpec, MLPTorsoSpec}),
    ],
    ids=lambda each: getattr(each, "kind", ""),
)
def test_torsos_of_checkpoints_from_before_a_move_are_restored(spec: Any, old: dict[str, str]) -> None:
    """Each name in older checkpoints still refers to the same class."""
    one, other = (Torso(3, spec) for _ in range(2))
    snapshot = capture(Holder(torso=one))
    text = json.dumps(snapshot.tree)
    for new, before in old.items():
        text = text.replace(f'"{new}"', f'"{before}"')
    assert not re.findall(r"deltarl\.torsos\.(?:torso|\w+_blocks)\.\w+", text) or old is BEFORE_BLOCKS_MOVED
    assert '"deltarl.torsos.torso.Torso"' not in text
    snapshot.tree = json.loads(text)
    _, missing = restore(Holder(torso=other), snapshot)
    assert missing == []
    weights = one.state_dict()
    assert all(torch.equal(weights[name], item) for name, item in other.state_dict().items())


def path_node(path: Path) -> dict[str, Any]:
    return {"value": str(path), "kind": "PosixPath"}


@pytest.mark.parametrize(
    "node",
    [
        lambda path: {"method": "unlink", "owner": path_node(path)},
        lambda path: {"bound": {"method": "unlink", "owner": path_node(path)}, "owner": True},
        lambda _: {"method": "zero_grad", "owner": {"same": "/policy"}},
        lambda path: {"bound": {"method": "load", "owner": {"same": "/kind"}}, "owner": str(path)},
    ],
    ids=["a path's", "of a path's", "a module's", "a class's"],
)
def test_no_file_says_what_an_object_calls(node: Any, tmp_path: Path) -> None:
    (path := tmp_path / "precious").touch()

    def built() -> Holder:
        return Holder(kind=BasePolicy, policy=torch.nn.Linear(1, 1), act=[].copy)

    snapshot = capture(built())
    snapshot.tree["object"]["act"] = node(path)
    back, named = restore(built(), snapshot)
    assert named[0].startswith("/act")
    assert back.act() == []


def test_a_partial_keeps_the_function_that_it_calls(tmp_path: Path) -> None:
    (path := tmp_path / "precious").touch()
    snapshot = capture(Holder(act=partial(max, 1)))
    snapshot.tree["object"]["act"]["partial"] = {"method": "unlink", "owner": path_node(path)}
    back, named = restore(Holder(act=partial(max, 1)), snapshot)
    assert (back.act(2), named) == (2, ["/act/#func"])


def test_no_attribute_of_a_file_stands_before_a_method() -> None:
    snapshot = capture(Holder(space=gym.spaces.Discrete(2)))
    snapshot.tree["object"]["space"]["object"] |= {"sample": 3, "more": 4}
    back, named = restore(Holder(space=gym.spaces.Discrete(2)), snapshot)
    assert "sample" not in vars(back.space)
    assert back.space.more == 4
    assert named == ["/space/sample"]


def test_no_file_fills_the_class_of_a_package() -> None:
    snapshot = capture(Holder(space=gym.spaces.Discrete(2)))
    snapshot.tree["object"]["space"]["held"] = {"bases": [], "members": {"mark": 1}}
    restore(Holder(space=gym.spaces.Discrete(2)), snapshot)
    assert not hasattr(gym.spaces.Discrete, "mark")


def test_a_user_defined_method_that_replaced_another_is_restored() -> None:
    class Phases:
        def __init__(self) -> None:
            self.act = self.one

        def one(self) -> int:
            return 1

        def two(self) -> int:
            return 2

    phases = Phases()
    phases.act = phases.two  # type: ignore[method-assign]
    assert through_json(phases, Phases()).act() == 2


def test_options_of_a_simulation_that_are_single_numbers_come_back() -> None:
    def built() -> Any:
        return mujoco.MjModel.from_xml_string("<mujoco/>")

    model = built()
    model.opt.timestep, model.opt.viscosity, model.opt.iterations, model.stat.meaninertia = 0.5, 2.0, 7, 3.0
    model.stat.center[0] = 4.0
    back = through_json(Holder(model=model), Holder(model=built())).model
    assert (back.opt.timestep, back.opt.viscosity, back.opt.iterations) == (0.5, 2.0, 7)
    assert (back.stat.meaninertia, back.stat.center[0]) == (3.0, 4.0)


def test_an_older_snapshot_without_these_options_is_read() -> None:
    snapshot = capture(Holder(model=mujoco.MjModel.from_xml_string("<mujoco/>")))
    names = snapshot.tree["object"]["model"]["mjmodel"]
    names[:] = [name for name in names if not name.startswith("stat.") and name != "opt.timestep"]
    assert restore(Holder(model=mujoco.MjModel.from_xml_string("<mujoco/>")), snapshot)[1] == []


def test_no_file_says_where_in_memory_a_simulation_lies() -> None:
    def built() -> Any:
        return gym.make("Hopper-v5").unwrapped

    snapshot = capture(built())
    for name in ("/model/jnt_qposadr", "/model/geom_contype"):
        snapshot.tensors[name] = torch.full_like(snapshot.tensors[name], 200_000_000)
    back, named = restore(built(), snapshot)
    assert list(back.model.jnt_qposadr) == list(built().model.jnt_qposadr)
    assert list(back.model.geom_contype) == [200_000_000] * back.model.ngeom
    assert named == ["/model/jnt_qposadr"]
