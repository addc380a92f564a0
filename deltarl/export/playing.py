"""Evaluates a policy in an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from deltarl.envs import FIRST_EVALUATION_SEED, EnvSpec
from deltarl.errors import ConfigError, first_complaint
from deltarl.export.onnx_file import read_onnx
from deltarl.export.player import Player
from deltarl.reading import parse_json, readable
from deltarl.training.build import one_message
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.spec import EvaluationSpec


def evaluate_onnx(
    policy: Player | Path | str,
    env: EnvSpec | None = None,
    episodes: int | None = None,
    seed: int = FIRST_EVALUATION_SEED,
) -> Evaluation:
    """Evaluate a policy from an ONNX file, which onnxruntime runs; the episodes are those of `deltarl.evaluate`.

    Args:
        policy: the file, or what `read_onnx` made of it.
        env: the environment; default: the one that the file names.
        episodes: number of episodes; default: as in the run that the policy comes from.
        seed: the episodes are seeded with seed, seed + 1, ...

    Raises:
        ConfigError: if the file is no policy, names no environment where none is given, or does not fit it.
    """
    player = policy if isinstance(policy, Player) else read_onnx(Path(policy))
    env = task_of(player) if env is None else env
    settings = EvaluationSpec.model_validate(_stored(player, "evaluation") or {})
    with one_message(f"env: {env.id} failed in the evaluation"):
        return evaluate_policy(
            cast(Any, player),
            env,
            None,
            episodes=settings.episodes if episodes is None else episodes,
            seed=seed,
            n_envs=settings.n_envs,
            max_episode_steps=settings.max_episode_steps,
        )


def task_of(player: Player) -> EnvSpec:
    """The environment that a policy was trained in.

    Raises:
        ConfigError: if the file names no environment, or an invalid one.
    """
    stored = _stored(player, "env")
    if stored is None:
        raise ConfigError("--env: the file does not say which task it is for; give --env NAME")
    try:
        return EnvSpec.model_validate(stored)
    except ValidationError as error:
        key, message = first_complaint(error, stored)
        raise ConfigError(f"--env: the file's own task cannot be used: {'.'.join(key)}: {message}") from None


def _stored(player: Player, key: str) -> Any:
    """The JSON stored in a file's metadata under a key; None if the key is missing."""
    if key not in player.metadata:
        return None
    with readable(Path(key)):
        return parse_json(player.metadata[key])
