"""Train a run from its spec, and read a finished one back."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl import rendering
from deltarl.agents import build_agent, build_policy
from deltarl.envs import build_envs, normalize
from deltarl.errors import ConfigError
from deltarl.training import folder as files
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.parallel import default_jobs, run_seeds
from deltarl.training.playback import record_clip
from deltarl.training.progress import Display, ProgressCallback, Report, default_console
from deltarl.training.records import make_logger, record_evaluation
from deltarl.training.spec import FIRST_EVALUATION_SEED, RunSpec


@dataclass(frozen=True)
class RunResult:
    """How a run ended; all but `folder` stands in its result.json."""

    folder: Path
    seed: int
    status: str
    steps: int
    wall_seconds: float
    device: str
    episodes: int
    final_return_mean: float
    final_return_std: float
    success_rate: float | None


@dataclass(frozen=True)
class Run:
    """A run read back from its folder: the trained policy and how its observations are normalised."""

    folder: Path
    spec: RunSpec
    seed: int
    policy: BasePolicy
    normalizer: VecNormalize | None


class EvaluationCallback(BaseCallback):
    """Evaluates every `spec.eval.every` steps; learning is the same whether it does or not."""

    def __init__(self, spec: RunSpec, folder: Path, normalizer: VecNormalize | None) -> None:
        super().__init__()
        self.spec, self.folder, self.normalizer = spec, folder, normalizer
        self._next = spec.eval.every or sys.maxsize

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next and self.num_timesteps < self.spec.total_timesteps:
            assert self.spec.eval.every is not None
            self._next = (self.num_timesteps // self.spec.eval.every + 1) * self.spec.eval.every
            evaluation = evaluate_policy(self.model, self.spec.env, self.normalizer, self.spec.eval.episodes)
            record_evaluation(self.folder, self.logger, self.num_timesteps, evaluation)
            if self.spec.eval.video:
                record_clip(self.logger, self.model, self.spec.env, self.normalizer, self.num_timesteps)
        return True


def train(
    spec: RunSpec, console: Console | None = None, command: list[str] | None = None, jobs: int | None = None
) -> list[RunResult]:
    """Train `spec` once for each of its seeds.

    Several seeds are trained side by side, each in a process of its own with `spec.threads` threads; what is learned
    does not depend on how many at once. A script that trains several seeds needs Python's usual guard,
    `if __name__ == "__main__":`.

    Args:
        spec: the run.
        console: where progress goes, stderr if not given.
        command: what the provenance names as the command, this process's own if not given.
        jobs: processes at once; as many as the cores allow if not given; 1 trains in this process.

    Returns:
        One result a seed, in the order of `spec.seeds`.

    Raises:
        ConfigError: before anything is written, if a run of the same config has finished in its folder or is
            training there, if the device is not to be had, if environment and algorithm do not fit each other, or if
            `spec.init_from` is no run to start from.
        SeedFailedError: if a process failed in another way; the other seeds are trained all the same.
    """
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: PyTorch finds no CUDA device for '{spec.device}'; use device=cpu")
    if spec.eval.video:
        rendering.set_up()
    for seed in spec.seeds:
        files.choose_folder(spec, seed)
    jobs = default_jobs(len(spec.seeds), spec.threads) if jobs is None else jobs
    labels = {seed: f"seed {seed}" for seed in spec.seeds}
    job = partial(_train_seed, spec, command or sys.argv)
    with Display(list(labels.values()), spec.total_timesteps, console or default_console()) as display:
        if jobs > 1 and len(spec.seeds) > 1:
            with _built(spec, spec.seeds[0]):
                pass  # what cannot be made is said once, and before any process starts
            return run_seeds(
                job, spec.seeds, jobs, lambda seed, steps, state: display.update(labels[seed], steps, state)
            )
        return [job(seed, partial(display.update, labels[seed])) for seed in spec.seeds]


def _train_seed(spec: RunSpec, command: list[str], seed: int, report: Report) -> RunResult:
    threads = torch.get_num_threads()
    torch.set_num_threads(spec.threads)
    try:
        with _built(spec, seed) as (model, normalizer), files.claimed(spec, seed, command) as folder:
            return _learn(spec, seed, model, normalizer, folder=folder, report=report)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _built(spec: RunSpec, seed: int) -> Iterator[tuple[BaseAlgorithm, VecNormalize | None]]:
    """The algorithm in its environments, ready to learn; nothing is written yet."""
    with ExitStack() as opened:
        envs, normalizer = _make_envs(spec, seed)
        opened.callback(envs.close)
        model = _make_agent(spec, envs, seed)
        if spec.init_from is not None:
            _start_from(Path(spec.init_from).expanduser(), model, normalizer)
        yield model, normalizer


def _learn(
    spec: RunSpec, seed: int, model: BaseAlgorithm, normalizer: VecNormalize | None, *, folder: Path, report: Report
) -> RunResult:
    with ExitStack() as opened:
        logger = make_logger(folder)
        opened.callback(logger.close)
        model.set_logger(logger)
        callbacks = [EvaluationCallback(spec, folder, normalizer), ProgressCallback(spec.total_timesteps, report)]
        started = time.monotonic()
        model.learn(spec.total_timesteps, callback=callbacks)
        wall_seconds = time.monotonic() - started
        # Before the evaluation, which can fail or be interrupted and must not take the training with it.
        _save_model(model, normalizer, folder)

        evaluation = evaluate_policy(model, spec.env, normalizer, spec.eval.episodes)
        record_evaluation(folder, logger, model.num_timesteps, evaluation)
        if spec.eval.video:
            record_clip(logger, model, spec.env, normalizer, model.num_timesteps)
        result = RunResult(
            folder=folder,
            seed=seed,
            status="finished",
            steps=model.num_timesteps,
            wall_seconds=round(wall_seconds, 2),
            device=str(model.device),
            episodes=len(evaluation.returns),
            final_return_mean=evaluation.return_mean,
            final_return_std=evaluation.return_std,
            success_rate=evaluation.success_rate,
        )
        files.write_json(folder / files.RESULT, {k: v for k, v in asdict(result).items() if k != "folder"})
    return result


def _start_from(folder: Path, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
    """Fill networks, targets too, and the normaliser from a trained run; optimizers and replay buffer start anew."""
    if not (folder / files.POLICY).is_file():
        raise ConfigError(f"init_from: {folder} holds no trained run, {files.POLICY} is missing")
    trained = files.load_spec(folder)
    if trained.env.normalize.observations and (normalizer is None or not normalizer.norm_obs):
        raise ConfigError(f"init_from: {folder} saw normalised observations; set env.normalize.observations=true")
    if difference := files.misfit(model.policy, folder / files.POLICY):
        raise ConfigError(
            f"init_from: {folder}, {trained.agent.algorithm} on {trained.env.id}, has other networks than this run: "
            f"{difference}"
        )
    files.load_policy(model.policy, folder / files.POLICY)
    if normalizer is not None and (folder / files.NORMALIZER).is_file():
        files.load_normalizer(normalizer, folder / files.NORMALIZER)


def _make_envs(spec: RunSpec, seed: int, n_envs: int | None = None) -> tuple[VecEnv, VecNormalize | None]:
    with one_message(f"env: {spec.env.id} cannot be made as the config says"):
        envs = normalize(build_envs(spec.env, seed, n_envs), spec.env.normalize, spec.agent.gamma)
    return envs, envs if isinstance(envs, VecNormalize) else None


def _make_agent(spec: RunSpec, envs: VecEnv, seed: int) -> BaseAlgorithm:
    with one_message(f"agent: {spec.agent.algorithm} cannot be made for {spec.env.id}"):
        return build_agent(spec.agent, spec.actor_torso, spec.critic_torso, envs, seed=seed, device=spec.device)


@contextmanager
def one_message(what: str) -> Iterator[None]:
    """Whatever an environment or an algorithm raises when it is made is a fault of the config: say so in one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


def _save_model(model: BaseAlgorithm, normalizer: VecNormalize | None, folder: Path) -> None:
    files.save_policy(model.policy, folder / files.POLICY)
    model.save(folder / files.SB3_MODEL)
    if normalizer is not None:
        files.save_normalizer(normalizer, folder / files.NORMALIZER)
        normalizer.save(str(folder / files.SB3_NORMALIZER))


def load_run(folder: Path | str, device: str = "auto") -> Run:
    """Read a finished run back, from its safe formats alone: YAML, safetensors and NumPy without pickle.

    Args:
        folder: the run's folder, `.../seed-<n>`.
        device: where the policy goes, as Stable-Baselines3 takes it.

    Raises:
        ConfigError: if the folder holds no finished run, or one whose files are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if seeds := sorted(path.name for path in folder.glob("seed-*")):
        raise ConfigError(f"{folder}: holds runs and is none itself; give one of {', '.join(seeds)} in it")
    for needed in (files.CONFIG, files.RESULT, files.POLICY):
        if not (folder / needed).is_file():
            raise ConfigError(f"{folder}: no finished run there, {needed} is missing")
    spec = files.load_spec(folder)
    seed = spec.seeds[0]
    envs, normalizer = _make_envs(spec, seed, n_envs=1)
    envs.close()
    policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs).to(get_device(device))
    files.load_policy(policy, folder / files.POLICY)
    if normalizer is not None:
        files.load_normalizer(normalizer, folder / files.NORMALIZER)
        normalizer.training = False
    return Run(folder=folder, spec=spec, seed=seed, policy=policy, normalizer=normalizer)


def evaluate(run: Run | Path | str, episodes: int | None = None, seed: int = FIRST_EVALUATION_SEED) -> Evaluation:
    """Score a run's final policy: deterministic, unnormalised returns of complete episodes.

    Args:
        run: a run, or its folder.
        episodes: how many, the config's `eval.episodes` if not given.
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
        )
