"""Where a run resumes from, and whether exactly."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv

from deltarl.agents.base import LinearScheduleSpec
from deltarl.checkpoints import checkpoint
from deltarl.checkpoints.state import capture
from deltarl.checkpoints.store import Store
from deltarl.errors import ConfigError
from deltarl.fast.lean import training_step
from deltarl.reading import read_json
from deltarl.training import folder as files
from deltarl.training import records
from deltarl.training.boundary import Origin
from deltarl.training.callbacks import name_of, unsupported
from deltarl.training.provenance import surroundings
from deltarl.training.spec import RunSpec
from deltarl.training.state import put

log = logging.getLogger(__name__)

# Their exploration rate decreases over a fraction of the whole training.
_SCHEDULED = ("dqn", "qrdqn")


def demand_exactness(spec: RunSpec, envs: VecEnv) -> None:
    """Check that a run can be resumed exactly, if `checkpoint.exact` requires it; nothing has been written yet.

    Raises:
        ConfigError: if it cannot, with the reason.
    """
    if not spec.checkpoint.exact:
        return
    if spec.env.vectorization == "envpool":
        raise _inexact("the state of EnvPool's environments cannot be stored; give env.vectorization=dummy")
    if get_device(spec.device).type != "cpu":
        raise _inexact("CUDA's results are not guaranteed to be reproducible bit for bit; give device=cpu")
    for path, kind in capture({"env": envs}).unsupported.items():
        raise _inexact(f"{path.removeprefix('/env')} ({kind}) of the environments cannot be stored")


def demand_stored_callbacks(spec: RunSpec, callbacks: Sequence[BaseCallback]) -> None:
    """Check that checkpoints can store the user's callbacks, if `checkpoint.exact` requires it.

    Raises:
        ConfigError: if they cannot, naming the attribute.
    """
    for path, kind in unsupported(callbacks).items() if spec.checkpoint.exact else ():
        raise _inexact(f"callbacks: {path} ({kind}) cannot be stored")


def _inexact(reasons: str) -> ConfigError:
    return ConfigError(f"checkpoint.exact: {reasons}, or checkpoint.exact=false")


def has_finished(folder: Path, spec: RunSpec) -> bool:
    """Whether a run has finished and `spec` does not require more steps."""
    return (folder / files.RESULT).exists() and spec.total_timesteps <= files.load_spec(folder).total_timesteps


def reopen(  # noqa: PLR0917 - a run and what it needs to resume
    folder: Path,
    spec: RunSpec,
    store: Store,
    model: BaseAlgorithm,
    command: list[str],
    callbacks: Sequence[BaseCallback] = (),
) -> Origin:
    """Prepare a run's folder to resume from its newest valid checkpoint.

    Once it is certain that the checkpoint can be restored into `model`, records are cut back to it, the config is
    updated, and `resumes.jsonl` gets a line. A run that was interrupted before its first checkpoint starts again.

    Raises:
        ConfigError: if there are checkpoints but none is valid or fits, if the run had finished and has none, or if it
            would not resume exactly although the config requires it.
    """
    store.sweep()
    found = checkpoint.newest(folder)
    if found is None and (steps := checkpoint.steps_of(folder)):
        raise ConfigError(f"{folder}: none of its checkpoints (steps {', '.join(map(str, steps))}) is valid")
    if found is None and (folder / files.RESULT).exists():
        raise ConfigError(f"{folder}: the run has finished and has no checkpoint to resume from")
    if found is None:
        log.warning("%s: no checkpoint yet; starting again", folder)
        lengths, origin = {}, Origin()
    else:
        named = [name_of(each) for each in callbacks]
        # A trial; the state is restored again after `learn` has set up the algorithm.
        model.set_logger(Logger(None, []))
        put(model, {}, found, transitions=False)
        lengths, origin = found.manifest["records"], _origin(found, spec, training_step(model), named)
        if spec.checkpoint.exact and origin.continued:
            raise ConfigError(f"{folder}: {_inexact('; '.join(origin.continued))}")
        store.resume_from(found)
    if found is None or not _finished_at(folder, found.steps):
        records.cut_back(folder, lengths)
    records.set_damaged_aside(folder)
    [seed] = files.load_spec(folder).seeds
    # Before the config: a kill between the two must not leave an old result next to a larger total.
    (folder / files.RESULT).unlink(missing_ok=True)
    files.write_config(spec, seed, folder)
    facts = {
        "from_step": 0 if found is None else found.steps,
        "continued": list(origin.continued),
        "training_step": training_step(model),
        "callbacks": [name_of(each) for each in callbacks],
    }
    files.note_resumption(folder, command, facts)
    return origin


def _origin(found: checkpoint.Checkpoint, spec: RunSpec, step: Mapping[str, str], callbacks: list[str]) -> Origin:
    reasons = [*found.manifest["continued"], *_departures(found.manifest, spec, step)]
    if (before := found.manifest.get("callbacks", [])) != callbacks:
        reasons.append(f"callbacks: {_listed(before)}, then {_listed(callbacks)}")
    for path, kind in found.manifest.get("callbacks_not_stored", {}).items():
        reasons.append(f"callbacks: {path} ({kind}) cannot be stored")
    return Origin(found, int(found.manifest["resumes"]) + 1, tuple(dict.fromkeys(reasons)))


def _departures(manifest: Mapping[str, Any], spec: RunSpec, step: Mapping[str, str]) -> Iterator[str]:
    """Why the run cannot resume exactly."""
    here = surroundings(spec.env.id) | {"threads": spec.threads, "device": str(get_device(spec.device))}
    there: dict[str, Any] = {key: manifest.get(key) for key in here}
    for name in sorted(here["packages"].keys() | there["packages"].keys()):
        here[name], there[name] = here["packages"].get(name), there["packages"].get(name)
    for key in sorted(here.keys() - {"packages"}):
        if here[key] != there[key] and not (key == "imported" and key not in manifest):  # written by an older version
            yield f"{key}: {there[key]}, then {here[key]}"
    if torch.device(here["device"]).type != "cpu":
        yield "device: CUDA's results are not guaranteed to be reproducible bit for bit"
    if manifest.get("total_timesteps") != spec.total_timesteps and (schedules := list(_schedules(spec))):
        yield (
            f"total_timesteps: {manifest['total_timesteps']}, then {spec.total_timesteps}, and "
            f"{', '.join(schedules)} follows a schedule over it"
        )
    before = manifest.get("training_step")  # not stored by older versions
    if before is not None and before["implementation"] != step["implementation"]:
        yield f"training step: {_named(before)}, then {_named(step)}"
    for path, kind in manifest["unsupported"].items():
        yield f"state: {path} ({kind}) cannot be stored"


def _listed(callbacks: list[str]) -> str:
    return ", ".join(callbacks) or "none"


def _named(step: Mapping[str, str]) -> str:
    return f"{step['implementation']} ({step['reason']})" if step.get("reason") else step["implementation"]


def _schedules(spec: RunSpec) -> Iterator[str]:
    if spec.agent.algorithm in _SCHEDULED:
        yield "exploration"
    for name in type(spec.agent).model_fields:
        if isinstance(getattr(spec.agent, name), LinearScheduleSpec):
            yield name


def _finished_at(folder: Path, steps: int) -> bool:
    try:
        return bool(read_json(folder / files.RESULT).get("steps") == steps)
    except ConfigError:
        return False
