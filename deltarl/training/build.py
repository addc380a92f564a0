"""Builds a run's environments and algorithm from its config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl import places
from deltarl.agents import build_agent
from deltarl.checkpoints import checkpoint
from deltarl.envs import build_envs, build_training_envs, check_own, normalize
from deltarl.errors import ConfigError
from deltarl.own_tasks import scalar_in
from deltarl.reading import check_plain
from deltarl.recording.spec import check_installed
from deltarl.training import folder as files
from deltarl.training import formats, packed
from deltarl.training.finite import FiniteEnvs
from deltarl.training.playback import check_frames
from deltarl.training.resume import demand_exactness
from deltarl.training.spec import RunSpec


@contextmanager
def built(spec: RunSpec, seed: int, found: Path | None = None) -> Iterator[tuple[BaseAlgorithm, VecNormalize | None]]:
    """Build the algorithm and its environments, ready to learn or to be restored; nothing is written."""
    check_installed(spec.logging)
    if spec.eval.video:
        with one_message(f"eval.video: {spec.env.id} cannot be rendered"):
            check_frames(spec.env)
    with ExitStack() as opened:
        envs, normalizer = make_envs(spec, seed, training=True)
        opened.callback(envs.close)
        if found is None:
            check_own(spec.env, spec.env.first_seed(seed))
        demand_exactness(spec, envs)
        model = make_agent(spec, envs, seed)
        envs.seed(spec.env.first_seed(seed))  # the algorithm has reseeded them
        if spec.init_from is not None and (found is None or not checkpoint.steps_of(found)):
            _start_from(places.expanded(spec.init_from, "init_from"), model, normalizer)
        yield model, normalizer


def make_envs(spec: RunSpec, seed: int, training: bool = False) -> tuple[VecEnv, VecNormalize | None]:
    """The environments to train in, or a single Gymnasium environment that provides a trained policy's spaces."""
    with one_message(f"env: {spec.env.id} cannot be built from the config"):
        if training:
            envs: VecEnv = FiniteEnvs(build_training_envs(spec.env, seed, spec.threads))
        else:
            envs = build_envs(spec.env, seed, n_envs=1)
        if name := scalar_in(envs.observation_space):
            raise ConfigError(
                f"env: {spec.env.id}: the observation's '{name}' is a number without a dimension, which no policy "
                "takes; give env.wrappers=[{wrapper: flatten_observation}]"
            )
        envs = normalize(envs, spec.env.normalize, spec.agent.gamma)
    return envs, envs if isinstance(envs, VecNormalize) else None


def make_agent(spec: RunSpec, envs: VecEnv, seed: int) -> BaseAlgorithm:
    with one_message(f"agent: {spec.agent.algorithm} cannot be built for {spec.env.id}"):
        return build_agent(
            spec.agent,
            spec.actor_torso,
            spec.critic_torso,
            envs,
            seed=seed,
            device=spec.device,
            encoder=spec.encoder,
        )


@contextmanager
def one_message(what: str) -> Iterator[None]:
    """Report whatever an environment or algorithm raises when it is built as an error of the config, in one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _start_from(run: Path, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
    """Load networks, including target networks, and normaliser from a trained run; nothing else is taken over."""
    with packed.opened(run) as folder:
        if folder.is_dir():
            check_plain(folder)
        best = None if folder == run else checkpoint.best(folder)
        source = folder if best is None else best.folder
        if not (source / files.POLICY).is_file():
            raise ConfigError(f"init_from: {folder} contains no trained run, {files.POLICY} is missing")
        trained = files.load_spec(folder)
        if trained.env.normalize.observations and (normalizer is None or not normalizer.norm_obs):
            raise ConfigError(f"init_from: {folder} saw normalised observations; set env.normalize.observations=true")
        if difference := formats.misfit(model.policy, source / files.POLICY):
            raise ConfigError(
                f"init_from: {folder}, {trained.agent.algorithm} on {trained.env.id}, has different networks: "
                f"{difference}"
            )
        formats.load_policy(model.policy, source / files.POLICY)
        if normalizer is not None and (source / files.NORMALIZER).is_file():
            formats.load_normalizer(normalizer, source / files.NORMALIZER)
