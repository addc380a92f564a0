"""Loads and evaluates a finished run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from deltarl.agents import build_policy, roles_of
from deltarl.checkpoints import checkpoint
from deltarl.encoders import EncoderSpec
from deltarl.envs import FIRST_EVALUATION_SEED
from deltarl.errors import ConfigError
from deltarl.reading import check_plain, readable
from deltarl.torsos import TorsoSpec
from deltarl.training import folder as files
from deltarl.training import formats, packed
from deltarl.training.build import make_envs, one_message
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.spec import RunSpec


@dataclass(frozen=True)
class Run:
    """A run loaded from its folder: the trained policy and the normaliser of its observations.

    Attributes:
        folder: the folder, or the packed agent.
        best: whether the policy is that of the best evaluation; else it is the final one.
    """

    folder: Path
    spec: RunSpec
    seed: int
    policy: BasePolicy
    normalizer: VecNormalize | None
    best: bool = False


def load_run(folder: Path | str, device: str = "auto", best: bool = False) -> Run:
    """Load a run from its safe formats only: YAML, JSON, safetensors and NumPy without pickle.

    Args:
        folder: the run's folder, `.../seed-<n>`, a packed agent, or the name of a shipped one.
        device: the policy's device, as in Stable-Baselines3.
        best: load the policy of the best evaluation instead of the final one; the run need not have finished. A packed
            agent contains one policy, which is loaded without asking for it.

    Raises:
        ConfigError: if the folder contains no finished run (with `best`: no evaluated run), or its files are damaged.
    """
    folder = packed.found(Path(folder))
    with packed.opened(folder) as inside:
        if inside != folder:
            if best and (inside / files.POLICY).is_file():
                raise ConfigError(f"{folder}: contains the final policy only; pack the run again with --best")
            best = best or checkpoint.best(inside) is not None
        return replace(_load(inside, device, best), folder=folder)


def _load(folder: Path, device: str, best: bool) -> Run:
    if not folder.is_dir():
        raise ConfigError(packed.nothing_at(folder))
    if seeds := sorted(path.name for path in folder.glob("seed-*")):
        raise ConfigError(f"{folder}: contains runs but is not one; give one of {', '.join(seeds)} in it")
    check_plain(folder)
    for needed in (files.CONFIG,) if best else (files.CONFIG, files.RESULT, files.POLICY):
        if not (folder / needed).is_file():
            resumable = checkpoint.steps_of(folder) and not (folder / files.RESULT).is_file()
            hint = f"; resume it with: deltarl resume {folder}" if resumable else ""
            raise ConfigError(f"{folder}: not a finished run, {needed} is missing{hint}")
    source = folder
    if best:
        if (found := checkpoint.best(folder)) is None:
            raise ConfigError(f"{folder}: no best policy yet; there is one after the first evaluation (eval.every)")
        source = found.folder
    spec = files.load_spec(folder)
    seed = spec.seeds[0]
    envs, normalizer = make_envs(spec, seed)
    envs.close()
    _check_size(spec, source / files.POLICY)
    with one_message(f"{folder}: its policy cannot be built"):
        policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs, spec.encoder)
    policy = policy.to(get_device(device))
    formats.load_policy(policy, source / files.POLICY)
    if normalizer is not None:
        formats.load_normalizer(normalizer, source / files.NORMALIZER)
        normalizer.training = False
    elif (source / files.NORMALIZER).exists():
        raise ConfigError(
            f"{source / files.NORMALIZER}: the policy was trained with normalised observations or rewards, but "
            f"{files.CONFIG} normalises nothing"
        )
    return Run(folder, spec, seed, policy, normalizer, best)


def _check_size(spec: RunSpec, path: Path) -> None:
    """Refuse a config whose networks need more weights than the file has, before allocating memory."""
    with readable(path), safe_open(str(path), framework="pt"):
        stored = path.stat().st_size
    for role in (*roles_of(spec.agent), "encoder"):
        network: TorsoSpec | EncoderSpec = getattr(spec, role)
        if (needed := network.least_weights * torch.float32.itemsize) > stored:
            raise ConfigError(f"{path}: has {stored:,} bytes, but the config's {role} needs at least {needed:,}")


def evaluate(run: Run | Path | str, episodes: int | None = None, seed: int = FIRST_EVALUATION_SEED) -> Evaluation:
    """Evaluate a run's final policy: deterministic actions, unnormalised returns of complete episodes.

    Args:
        run: a run, or its folder.
        episodes: number of episodes; default: the config's `eval.episodes`.
        seed: the episodes are seeded with seed, seed + 1, ...; the default repeats the run's own evaluation.
    """
    if not isinstance(run, Run):
        run = load_run(run)
    with one_message(f"env: {run.spec.env.id} failed in the evaluation"):
        return evaluate_policy(
            run.policy,
            run.spec.env,
            run.normalizer,
            episodes=run.spec.eval.episodes if episodes is None else episodes,
            seed=seed,
            n_envs=run.spec.eval.n_envs,
            max_episode_steps=run.spec.eval.max_episode_steps,
        )
