"""2N steps equal N steps, an interruption and N more in a new process, bit for bit."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deltarl import RunResult, load_config, resume, train
from deltarl.checkpoints.checkpoint import Checkpoint, newest
from deltarl.gates import read_record
from deltarl.library import names
from tests.shipped import marks_of

SMALL = ("torso.width=8", "torso.depth=1", "eval.episodes=1", "eval.every=null", "eval.max_episode_steps=60")
ROLLOUTS = ("agent.n_steps=32", "agent.batch_size=32")
FOLLOWING_KL = ("agent.learning_rate={schedule: kl_adaptive, target: 0.001}",)
GSDE = ("agent.use_sde=true", "agent.sde_sample_freq=7")
REPLAY = ("agent.learning_starts=60", "agent.batch_size=16", "agent.buffer_size=1000", "env.n_envs=1")
AT_ANY_SIZE = tuple(
    f"{role}_torso.{option}" for role in ("actor", "critic") for option in ("width=8", "hidden=16", "depth=2")
)
AS_THEY_ARE = ("env.normalize={observations: false, rewards: false}",)


def goals(first: int, envs: int) -> tuple[str, ...]:
    sizes = ("agent.batch_size=16", "agent.buffer_size=1000")
    return ("agent=sac_her", *sizes, f"agent.learning_starts={first}", f"env.n_envs={envs}")


@dataclass(frozen=True)
class Case:
    """A run of 2N steps.

    Attributes:
        name: of the case.
        settings: overrides of the quickstart.
        half: N, at which no environment is at the start of an episode.
        needed: whether it belongs to the covering subset.
    """

    name: str
    settings: tuple[str, ...]
    half: int
    needed: bool = True


CASES = [
    Case("ppo-hopper-normalised", (*ROLLOUTS, *FOLLOWING_KL, "env.n_envs=3"), 32 * 3 * 3),
    Case(
        "ppo-gsde-half_cheetah",
        ("env=half_cheetah", *ROLLOUTS, *FOLLOWING_KL, "agent.use_sde=true", "agent.sde_sample_freq=7"),
        256,
        needed=False,
    ),
    Case(
        "ppo-drifting-half_cheetah",
        (
            "env=half_cheetah",
            *ROLLOUTS,
            "env.n_envs=2",
            # The phase changes before the interruption, in the rollout after it, and at the end.
            "env.wrappers=[{wrapper: drift, at: [100, 220, 380], strength: [1, 0.5, 2, 1], friction: [1, 2, 0.5, 1]}]",
        ),
        64 * 3,
    ),
    Case("a2c-walker2d", ("agent=a2c", "env=walker2d", "env.n_envs=2"), 100),
    Case("trpo-reacher", ("agent=trpo", "env=reacher", *ROLLOUTS, "env.n_envs=2"), 64 * 3),
    Case(
        "recurrent_ppo-hopper",
        ("agent=recurrent_ppo", *ROLLOUTS, "agent.policy.lstm_hidden_size=16", "env.n_envs=2"),
        64 * 3,
    ),
    Case("sac-hopper-normalised", ("agent=sac", *REPLAY), 100),
    Case("sac-gsde-half_cheetah", ("agent=sac", "env=half_cheetah", *REPLAY, *GSDE), 100),
    Case(
        "sac-memory-saving",
        ("agent=sac", *REPLAY, "agent.buffer_size=70", "agent.optimize_memory_usage=true"),
        100,
        needed=False,
    ),
    Case("sac-observations-once", ("agent=sac", *REPLAY, *AS_THEY_ARE, "agent.buffer_size=70"), 100),
    Case(
        "td3-observations-once-three-envs",
        ("agent=td3", *REPLAY, *AS_THEY_ARE, "env.n_envs=3", "agent.buffer_size=120"),
        150,
        needed=False,
    ),
    Case(
        "td3-ou-noise-simbav2",
        ("agent=td3", "torso=simbav2", *REPLAY, "agent.action_noise={kind: ornstein_uhlenbeck, std: 0.2}"),
        100,
    ),
    # Its padded histories are stored one by one.
    Case("td3-hopper_masked", ("agent=td3", "env=hopper_masked", *REPLAY), 100, needed=False),
    Case(
        "ppo-hopper_masked-history",
        ("env=hopper_masked", *ROLLOUTS, "env.n_envs=2", "encoder={kind: history, width: 8, attention_heads: 2}"),
        64 * 3,
    ),
    Case(
        "sac-hopper_masked-gru", ("agent=sac", "env=hopper_masked", *REPLAY, "encoder={kind: gru}"), 100, needed=False
    ),
    # Its observations are drawn.
    Case(
        "ppo-inverted_pendulum_pixels",
        (
            "env=inverted_pendulum_pixels",
            "agent.n_steps=15",
            "agent.batch_size=15",
            "env.n_envs=1",
            "encoder={kind: conv, channels: [4], width: 8}",
        ),
        45,
        needed=False,
    ),
    Case("ddpg-two-envs", ("agent=ddpg", *REPLAY, "env.n_envs=2", "agent.buffer_size=80"), 100, needed=False),
    # In a checkpoint, TQC equals SAC; tests/checkpoints restores the physics of Ant and the other tasks.
    Case("tqc-ant", ("agent=tqc", "env=ant", *REPLAY), 100, needed=False),
    # Its physics are DeepMind Control's, whose steps begin where MuJoCo's are half done.
    Case("sac-dmc_cheetah_run", ("agent=sac", "env=dmc_cheetah_run", *REPLAY), 100),
    *(
        Case(f"sac-{env}", ("agent=sac", f"env={env}", *REPLAY), 100, needed=False)
        for env in ("dmc_finger_turn_hard", "dmc_humanoid_run", "dmc_manipulator_bring_ball", "dmc_quadruped_run")
    ),
    # Draws its goals itself, and moves its hand by a mocap body.
    Case("sac-metaworld_reach", ("agent=sac", "env=metaworld_reach", *REPLAY), 100),
    *(
        Case(f"sac-{env}", ("agent=sac", f"env={env}", *REPLAY), 100, needed=False)
        for env in names("envs")
        if env.startswith("metaworld_") and env != "metaworld_reach"
    ),
    Case("crossq-pusher", ("agent=crossq", "env=pusher", *REPLAY), 90, needed=False),
    Case(
        "dqn-pendulum-stochastic-depth",
        ("agent=dqn", "env=inverted_pendulum_discrete", *REPLAY, "torso.drop_path=0.3"),
        112,
    ),
    # Agents with networks from papers, small ones, with the papers' optimizers and schedules.
    *(
        Case(f"{agent}-hopper", (f"agent={agent}", *REPLAY, *AT_ANY_SIZE), 100, needed=False)
        for agent in ("sac_simba", "sac_simbav2", "sac_bro")
    ),
    Case(
        "ppo_deep-hopper",
        ("agent=ppo_deep", *ROLLOUTS, "torso.head_width=4", "torso.depth=8", "env.n_envs=2"),
        64 * 3,
        needed=False,
    ),
    Case("qrdqn-pendulum", ("agent=qrdqn", "env=inverted_pendulum_discrete", *REPLAY), 100, needed=False),
    Case("her-fetch_reach", (*goals(100, 1), "env=fetch_reach"), 135),
    Case("her-fetch_push", (*goals(200, 2), "env=fetch_push"), 270, needed=False),
    Case(
        "her-point_maze",
        (*goals(300, 1), "env=point_maze_umaze"),
        350,
        needed=False,
    ),
]


def _resume(folder: Path) -> list[RunResult]:
    torch.set_num_threads(1)
    return resume(folder, console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def new_process() -> Iterator[ProcessPoolExecutor]:
    """Run it in a fresh process, which is spawned so that it inherits nothing."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def parameters() -> list[Any]:
    return [
        pytest.param(
            case,
            id=case.name,
            marks=[*marks_of(case.name.partition("-")[2], slow=False), *([] if case.needed else [pytest.mark.slow])],
        )
        for case in CASES
    ]


@pytest.mark.parametrize("case", parameters())
def test_an_interruption_changes_nothing(case: Case, tmp_path: Path, new_process: ProcessPoolExecutor) -> None:
    spec = load_config(
        "quickstart",
        *SMALL,
        *case.settings,
        f"total_timesteps={2 * case.half}",
        f"checkpoint.every={case.half}",
        "checkpoint.keep=9",
        f"eval.every={3 * case.half // 2}",
        f"gates.every={2 * case.half // 3}",
        "gates.rows=8",
        f"out={tmp_path}",
        "name=whole",
        "device=cpu",
    )
    [whole] = train(spec, console=Console(file=io.StringIO()))
    interrupted = interrupt(whole.folder, case.half)
    assert in_an_episode(newest(interrupted))

    [result] = new_process.submit(_resume, interrupted).result(timeout=300)

    assert (result.resumes, result.continued) == (1, ())
    assert result.final_return_mean == whole.final_return_mean
    assert differences(newest(whole.folder), newest(interrupted)) == []
    assert (interrupted / "policy.safetensors").read_bytes() == (whole.folder / "policy.safetensors").read_bytes()
    assert (interrupted / "evaluations.csv").read_text() == (whole.folder / "evaluations.csv").read_text()
    assert metrics(interrupted) == metrics(whole.folder)
    assert gates(interrupted) == gates(whole.folder)
    assert progress(interrupted) == progress(whole.folder)
    assert curves(interrupted) == curves(whole.folder)


def interrupt(folder: Path, steps: int) -> Path:
    """A copy of a run as a kill some time after its checkpoint of `steps` would have left it."""
    copy = folder.with_name("seed-0-interrupted")
    shutil.copytree(folder, copy)
    for name in ("result.json", "policy.safetensors", "model.zip", "normalizer.npz", "vecnormalize.pkl"):
        (copy / name).unlink(missing_ok=True)
    for checkpoint in (copy / "checkpoints").iterdir():
        if checkpoint.name != str(steps):
            shutil.rmtree(checkpoint)
    return copy


def in_an_episode(checkpoint: Checkpoint | None) -> bool:
    """Whether all environments are in an episode, as their monitors count it."""
    assert checkpoint is not None
    tree = json.loads((checkpoint.folder / "state.json").read_text())
    [monitors] = [node for node in find(tree, "envs") if "list" in node]
    rewards = [found for monitor in monitors["list"] for found in find(monitor, "rewards")]
    return bool(rewards) and all(any(r.values()) for r in rewards)


def find(node: Any, name: str) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from find(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from find(value, name)


def differences(one: Checkpoint | None, other: Checkpoint | None) -> list[str]:
    """The paths at which two checkpoints differ, except for clock times."""
    assert one is not None
    assert other is not None
    first, second = load_file(one.folder / "state.safetensors"), load_file(other.folder / "state.safetensors")
    found = sorted(first.keys() ^ second.keys())
    found += [k for k in first.keys() & second.keys() if not torch.equal(bits(first[k]), bits(second[k]))]
    found = [name for name in found if not name.endswith("episode_times")]
    trees = [timeless(json.loads((each.folder / "state.json").read_text())) for each in (one, other)]
    found += ["state.json"] * (trees[0] != trees[1])
    found += [name for name in one.segments if one.files[name] != other.files[name]]
    return found + ["segments"] * (one.segments != other.segments)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.ndim else tensor.reshape(1).view(torch.uint8)


def timeless(node: Any) -> Any:
    """A state without clock times: those of Monitor's episodes and of the logger's speed."""
    if isinstance(node, dict):
        return {key: timeless(value) for key, value in node.items() if key != "episode_times"}
    if isinstance(node, list):
        if len(node) == 2 and isinstance(node[0], str) and node[0] in {"t", "time/fps", "time/time_elapsed"}:
            return node[0]
        return [timeless(value) for value in node]
    return node


CLOCK = {"wall_seconds", "time/fps", "time/time_elapsed"}


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def progress(folder: Path) -> list[dict[str, np.float32 | None]]:
    """The rows of progress.csv in single precision, because the number of digits depends on a number's precision."""
    with (folder / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: np.float32(text) if text else None for key, text in row.items() if key not in CLOCK} for row in rows]


def gates(folder: Path) -> dict[str, bytes]:
    record = read_record(folder / "gates.npz")
    assert len(record["steps"]) > 1
    return {name: array.tobytes() for name, array in record.items()}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All curves as TensorBoard reads them, each with increasing steps."""
    events = EventAccumulator(str(folder), purge_orphaned_data=False, size_guidance={"scalars": 0})
    events.Reload()
    found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag, points in found.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
    return {tag: points for tag, points in found.items() if tag not in CLOCK}
