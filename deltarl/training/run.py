"""Train a run from its spec, and read a finished one back."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field, TypeAdapter
from rich.console import Console
from safetensors import safe_open
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from deltarl import disk, places, rendering
from deltarl.agents import KLAdaptiveScheduleSpec, build_agent, build_policy, roles_of
from deltarl.checkpoints import checkpoint
from deltarl.checkpoints.store import Store
from deltarl.envs import FIRST_EVALUATION_SEED, build_envs, build_training_envs, normalize
from deltarl.errors import ConfigError
from deltarl.fast.algorithm import training_step
from deltarl.gates import GateCallback
from deltarl.reading import check_plain, read_json, readable
from deltarl.schedules import KLAdaptiveLearningRate
from deltarl.specs import AnyTorsoSpec, MLPTorsoSpec
from deltarl.training import folder as files
from deltarl.training import formats
from deltarl.training.boundary import Boundary, Origin
from deltarl.training.evaluation import Evaluation, evaluate_policy
from deltarl.training.finite import FiniteEnvs, NonFiniteError, check_tensors
from deltarl.training.parallel import default_jobs, run_in_turn, run_seeds
from deltarl.training.playback import check_frames, record_clip
from deltarl.training.progress import Display, ProgressCallback, Report, default_console
from deltarl.training.records import describe, evaluations_in, make_logger, record_evaluation
from deltarl.training.resume import demand_exactness, has_finished, reopen
from deltarl.training.signals import StopRequest, TrainingStopped, stop_on_signals
from deltarl.training.spec import RunSpec

log = logging.getLogger(__name__)

# Seconds for which a stop waits for an evaluation in mid-training to end: with it, the run can be stored as it is, and
# without it the run goes back to its last checkpoint.
PATIENCE = 5.0


@dataclass(frozen=True)
class RunResult:
    """How a run ended; all but `folder` stands in its result.json.

    Attributes:
        peak_memory_mib: the most memory that the process had, in MiB of 2^20 bytes, whatever else it did before; None
            where the system does not say.
        resumes: how often it was interrupted and gone on with.
        continued: why it then is not to the last bit the run that an uninterrupted one would have been; empty if it is.
        notes: what has to be known to read the score.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    folder: Path
    seed: Annotated[int, Field(ge=0)]
    status: str
    steps: Annotated[int, Field(ge=1)]
    wall_seconds: Annotated[float, Field(ge=0)]
    device: str
    episodes: Annotated[int, Field(ge=1)]
    final_return_mean: float
    final_return_std: Annotated[float, Field(ge=0)]
    success_rate: Annotated[float, Field(ge=0, le=1)] | None
    peak_memory_mib: Annotated[float, Field(ge=0)] | None = None
    resumes: Annotated[int, Field(ge=0)] = 0
    continued: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_RESULT = TypeAdapter(RunResult)


@dataclass(frozen=True)
class Run:
    """A run read back from its folder: the trained policy and how its observations are normalised."""

    folder: Path
    spec: RunSpec
    seed: int
    policy: BasePolicy
    normalizer: VecNormalize | None


class EvaluationCallback(BaseCallback):
    """Evaluates every `spec.eval.every` steps; learning is the same whether it does or not.

    Args:
        spec: the run.
        folder: of the run.
        normalizer: what its observations are normalised with.
        best: keeps the best policy.
        steps: where the run goes on from.
        check: called before each step of an evaluation; whatever it raises ends that.
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: Path,
        normalizer: VecNormalize | None,
        best: Best,
        steps: int,
        *,
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.spec, self.folder, self.normalizer, self.best, self.check = spec, folder, normalizer, best, check
        self._next = self._next_after(steps)

    def _next_after(self, steps: int) -> int:
        every = self.spec.eval.every
        return sys.maxsize if every is None else (steps // every + 1) * every

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next and self.num_timesteps < self.spec.total_timesteps:
            self._next = self._next_after(self.num_timesteps)
            evaluation = _evaluated(self.spec, self.model, self.normalizer, self.check)
            if evaluation.note is not None:
                log.warning("%s: step %s: %s", self.folder, f"{self.num_timesteps:,}", evaluation.note)
            self.best.offer(self.num_timesteps, evaluation)
            record_evaluation(self.folder, self.logger, self.num_timesteps, evaluation)
            if self.spec.eval.video:
                record_clip(self.logger, self.model, self.spec, self.normalizer, self.num_timesteps, check=self.check)
        return True


def _evaluated(
    spec: RunSpec, model: BaseAlgorithm, normalizer: VecNormalize | None, check: Callable[[], None]
) -> Evaluation:
    """An evaluation as the config asks for it; `check` is called before each step."""
    return evaluate_policy(
        model,
        spec.env,
        normalizer,
        spec.eval.episodes,
        n_envs=spec.eval.n_envs,
        max_episode_steps=spec.eval.max_episode_steps,
        watch=lambda _: check(),
    )


class Best:
    """Keeps the policy, and what its observations are normalised with, of the best evaluation."""

    def __init__(self, store: Store, folder: Path, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
        self.store, self.model, self.normalizer = store, model, normalizer
        known = checkpoint.best(folder)
        self.score = -math.inf if known is None else float(known.manifest["return_mean"])

    def offer(self, steps: int, evaluation: Evaluation) -> None:
        """Keep the policy as it is now, if its mean return is higher than any before.

        Raises:
            NonFiniteError: if the return, or the policy, is NaN or infinite.
        """
        if not math.isfinite(evaluation.return_mean):
            raise NonFiniteError(f"step {steps:,}: the mean return of the evaluation is {evaluation.return_mean}")
        if evaluation.return_mean <= self.score:
            return
        check_tensors(steps, self.model.policy.state_dict().items())
        facts = {"return_mean": evaluation.return_mean, "success_rate": evaluation.success_rate}
        try:
            self.store.write_best(steps, self._write, facts)
        except Exception as error:
            if not isinstance(error, OSError) and not disk.is_full(error):
                raise
            log.warning("the best policy, of step %s, could not be kept: %s", f"{steps:,}", error)
            return
        self.score = evaluation.return_mean

    def _write(self, folder: Path) -> None:
        formats.save_policy(self.model.policy, folder / files.POLICY)
        if self.normalizer is not None:
            formats.save_normalizer(self.normalizer, folder / files.NORMALIZER)


def train(
    spec: RunSpec,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
    resume: bool = False,
) -> list[RunResult]:
    """Train `spec` once for each of its seeds.

    Several seeds are trained side by side, each in a process of its own with `spec.threads` threads; what is learned
    does not depend on how many at once. A script that trains several seeds needs Python's usual guard,
    `if __name__ == "__main__":`.

    SIGINT (Ctrl-C), SIGTERM and SIGUSR1 stop the runs once they have written a checkpoint; a second one ends the
    process at once.

    Args:
        spec: the run.
        console: where progress goes, stderr if not given.
        command: what the provenance names as the command, this process's own if not given.
        jobs: processes at once; as many as the cores allow if not given; 1 trains in this process.
        resume: go on with runs of this config that were interrupted, and leave alone those that have finished; those
            that have not begun are begun. The same call is then right the first time and after every interruption.

    Returns:
        One result a seed, in the order of `spec.seeds`.

    Raises:
        ConfigError: before anything is written, if a run of the same config has finished in its folder, is
            training there or can be resumed, if the device is not to be had, if environment and algorithm do not fit
            each other, or if `spec.init_from` is no run to start from; with `resume`, if the run that is there has
            another config or no checkpoint that verifies.
        NonFiniteError: if an observation, a reward, a loss or a parameter is NaN or infinite.
        TrainingStopped: if a signal asked for it, or the disk is full, and the run can be gone on with.
        FullDiskError: if the disk had no room for any checkpoint.
        SeedFailedError: if a process failed in another way; the other seeds are trained all the same.
    """
    spec.check_seeds()
    if not resume:
        for seed in spec.seeds:
            files.choose_folder(spec, seed)
        return _train([(spec, seed, None) for seed in spec.seeds], console, command, jobs)
    found = {seed: files.find_run(spec, seed) for seed in spec.seeds}
    done = {
        seed: result_in(folder) for seed, folder in found.items() if folder is not None and has_finished(folder, spec)
    }
    left = [(spec, seed, found[seed]) for seed in spec.seeds if seed not in done]
    results = iter(_train(left, console, command, jobs)) if left else iter(())
    return [done[seed] if seed in done else next(results) for seed in spec.seeds]


def resume(
    run: Path | str,
    changed: Callable[[Path], RunSpec] | None = None,
    console: Console | None = None,
    command: list[str] | None = None,
    jobs: int | None = None,
) -> list[RunResult]:
    """Go on with an interrupted run from its newest checkpoint that verifies, as if nothing had happened.

    Args:
        run: the folder of a run, or one that holds several seeds' runs, of which those that have finished are left.
        changed: gives the config to go on with for a run's config file; its own if not given. It may differ in
            `eval`, `checkpoint`, `threads`, `device`, and have a larger `total_timesteps`.
        console: as in `train`.
        command: as in `train`.
        jobs: as in `train`.

    Returns:
        One result for each run that was gone on with.

    Raises:
        ConfigError: if there is no run, if all have finished, if the config differs where it must not, or if no
            checkpoint verifies.
        NonFiniteError, FullDiskError, TrainingStopped, SeedFailedError: as in `train`.
    """
    run = Path(run)
    folders = _runs_in(run)
    jobs_to_do: list[_Job] = []
    for folder in folders:
        stored = files.load_spec(folder)
        spec = stored if changed is None else changed(folder / files.CONFIG)
        spec = spec.model_copy(update={name: getattr(stored, name) for name in ("name", "out", "seeds")})
        if keys := files.fixed_differences(stored, spec):
            raise files.differing(folder, keys)
        if not has_finished(folder, spec):
            jobs_to_do.append((spec, stored.seeds[0], folder))
    if len({seed for _, seed, _ in jobs_to_do}) < len(jobs_to_do):
        raise ConfigError(f"{run}: holds the same seed's run twice; resume one folder at a time")
    if not jobs_to_do:
        total = files.load_spec(folders[0]).total_timesteps
        raise ConfigError(f"{run}: has finished, at {total:,} steps; to train longer, give a larger total_timesteps")
    return _train(jobs_to_do, console, command, jobs)


_Job = tuple[RunSpec, int, Path | None]  # a run, its seed, and the folder of one to go on with


def _train(
    todo: Sequence[_Job], console: Console | None, command: list[str] | None, jobs: int | None
) -> list[RunResult]:
    spec = todo[0][0]
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device: PyTorch finds no CUDA device for '{spec.device}'; use device=cpu")
    for run, seed, found in todo:
        places.check_folder(found or places.expanded(run.out, "out") / run.name / f"seed-{seed}", "out")
    if spec.eval.video:
        rendering.set_up()
    jobs = default_jobs(len(todo), spec.threads) if jobs is None else jobs
    labels = {seed: f"seed {seed}" for _, seed, _ in todo}
    job = partial(_train_seed, {seed: (spec, folder) for spec, seed, folder in todo}, command or sys.argv)
    with (
        Display(list(labels.values()), spec.total_timesteps, console or default_console()) as display,
        stop_on_signals() as stop,
    ):
        if jobs > 1 and len(todo) > 1:
            with built(*todo[0]):
                pass  # what cannot be made is said once, and before any process starts
            return run_seeds(
                job, list(labels), jobs, lambda seed, steps, state: display.update(labels[seed], steps, state), stop
            )
        return run_in_turn(job, list(labels), lambda seed: partial(display.update, labels[seed]), stop)


def _train_seed(
    places: Mapping[int, tuple[RunSpec, Path | None]], command: list[str], seed: int, report: Report, stop: StopRequest
) -> RunResult:
    spec, found = places[seed]
    return train_one(spec, seed, found, command=command, report=report, stop=stop)


def train_one(
    spec: RunSpec, seed: int, found: Path | None, *, command: list[str], report: Report, stop: StopRequest
) -> RunResult:
    """Train one seed in this process.

    Args:
        spec: the run.
        seed: the seed.
        found: the folder of a run to go on with, None to begin one.
        command: what the provenance names as the command.
        report: told of the progress.
        stop: looked at at every boundary.

    Raises:
        ConfigError, NonFiniteError, FullDiskError, TrainingStopped: as in `train`.
    """
    threads, folder = torch.get_num_threads(), found
    torch.set_num_threads(spec.threads)
    try:
        with built(spec, seed, found) as (model, normalizer), ExitStack() as held:
            if found is None:
                facts = {"training_step": training_step(model)}
                folder = held.enter_context(files.claimed(spec, seed, command, facts))
                store, origin = Store(folder, spec.checkpoint.keep), Origin()
            else:
                held.enter_context(files.reopened(folder := found))
                if has_finished(folder, spec):  # meanwhile, by another process
                    return result_in(folder)
                store = Store(folder, spec.checkpoint.keep)
                origin = reopen(folder, spec, store, model, command)
            return _learn(
                spec, seed, model, normalizer, folder=folder, store=store, origin=origin, report=report, stop=stop
            )
    except Exception as error:
        if not disk.is_full(error):
            raise
        kept = [] if folder is None else checkpoint.steps_of(folder)
        if not kept:
            raise disk.FullDiskError(
                f"{folder or spec.out}: no space left on the disk, and nothing is stored; with room again, the same "
                "command begins anew"
            ) from error
        raise TrainingStopped(
            f"no space left on the disk: stopped, stored at step {kept[0]:,}; when there is room again: deltarl resume "
            f"{folder}"
        ) from error
    finally:
        torch.set_num_threads(threads)


@contextmanager
def built(spec: RunSpec, seed: int, found: Path | None = None) -> Iterator[tuple[BaseAlgorithm, VecNormalize | None]]:
    """The algorithm in its environments, ready to learn or to be filled from a checkpoint; nothing is written yet."""
    if spec.eval.video:
        with one_message(f"eval.video: {spec.env.id} draws no frames"):
            check_frames(spec.env)
    with ExitStack() as opened:
        envs, normalizer = _make_envs(spec, seed, training=True)
        opened.callback(envs.close)
        demand_exactness(spec, envs)
        model = _make_agent(spec, envs, seed)
        envs.seed(spec.env.first_seed(seed))  # the algorithm has seeded them anew
        if spec.init_from is not None and (found is None or not checkpoint.steps_of(found)):
            _start_from(places.expanded(spec.init_from, "init_from"), model, normalizer)
        yield model, normalizer


def _learn(
    spec: RunSpec,
    seed: int,
    model: BaseAlgorithm,
    normalizer: VecNormalize | None,
    *,
    folder: Path,
    store: Store,
    origin: Origin,
    report: Report,
    stop: StopRequest,
) -> RunResult:
    with ExitStack() as opened:
        logger = make_logger(folder, origin.elapsed_seconds)
        opened.callback(logger.close)
        model.set_logger(logger)
        if not origin.resumes:
            describe(logger, spec, seed)
        gates = (
            None if spec.gates.every is None else GateCallback(spec.gates.every, spec.gates.rows, folder / files.GATES)
        )
        also = {} if gates is None else {"gates": gates.state}
        boundary = Boundary(
            model,
            folder,
            store,
            every=spec.checkpoint.every,
            origin=origin,
            stop=stop,
            also=also,
            exact=spec.checkpoint.exact,
        )
        best = Best(store, folder, model, normalizer)
        callbacks: list[BaseCallback] = [
            EvaluationCallback(
                spec, folder, normalizer, best, origin.steps, check=partial(boundary.stop_if_asked, PATIENCE)
            ),
            ProgressCallback(spec.total_timesteps, report),
            *([] if gates is None else [gates]),
        ]
        if isinstance(rate := spec.agent.learning_rate, KLAdaptiveScheduleSpec):
            callbacks.append(KLAdaptiveLearningRate(rate.target, rate.factor, rate.bounds))
        try:
            boundary.learn(spec.total_timesteps, callbacks)
        except NonFiniteError as error:
            kept = checkpoint.steps_of(folder)
            before = f"the newest checkpoint is of step {kept[0]:,}" if kept else "there is no checkpoint yet"
            raise NonFiniteError(f"{folder}: {error}; {before}") from None
        wall_seconds = boundary.elapsed_seconds
        if gates is not None:
            gates.save()
            gates.draw()
        _save_model(model, normalizer, folder)

        evaluation = _evaluated(spec, model, normalizer, boundary.stop_if_asked)
        best.offer(model.num_timesteps, evaluation)
        record_evaluation(folder, logger, model.num_timesteps, evaluation)
        if spec.eval.video:
            record_clip(logger, model, spec, normalizer, model.num_timesteps, check=boundary.stop_if_asked)
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
            peak_memory_mib=_peak_memory(),
            resumes=origin.resumes,
            continued=tuple(boundary.continued),
            notes=() if evaluation.note is None else (evaluation.note,),
        )
        files.write_json(folder / files.RESULT, {k: v for k, v in asdict(result).items() if k != "folder"})
    return result


def _peak_memory() -> float | None:
    if not sys.platform.startswith("linux"):  # elsewhere the unit is another
        return None
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def result_in(folder: Path) -> RunResult:
    """The result of a finished run.

    Raises:
        ConfigError: if there is none, or it is damaged.
    """
    path = folder / files.RESULT
    content = read_json(path)
    with readable(path):
        # As JSON, where strict validation takes a list for a tuple.
        result = replace(_RESULT.validate_json(json.dumps({**content, "folder": "."})), folder=folder)
    if (folder / files.EVALUATIONS).exists():
        _check_scores(result, evaluations_in(folder))
    return result


def _check_scores(result: RunResult, evaluations: Mapping[int, Evaluation]) -> None:
    """A result is of the run's last evaluation; one that says something else is not to be believed."""
    last = max(evaluations, default=None)
    recorded: dict[str, Any] = {"steps": last}
    if last == result.steps:
        found = evaluations[last]
        recorded |= {
            "episodes": len(found.returns),
            "final_return_mean": found.return_mean,
            "final_return_std": found.return_std,
            "success_rate": found.success_rate,
        }
    for name, there in recorded.items():
        here = getattr(result, name)
        if here is not there and (here is None or there is None or not math.isclose(here, there, rel_tol=1e-9)):
            raise ConfigError(
                f"{result.folder / files.RESULT}: contradicts {files.EVALUATIONS}: {name} is {here}, and {there} there"
            )


def _runs_in(folder: Path) -> list[Path]:
    """A run's folder itself, or those of its seeds."""
    found = [folder] if (folder / files.CONFIG).is_file() else []
    for path in () if found else sorted(folder.glob("seed-*")):
        if path.is_symlink():
            raise ConfigError(f"{path}: is a link; resume what it points to instead")
        if path.name[5:].isdigit() and (path / files.CONFIG).is_file():
            found.append(path)
    if not found:
        raise ConfigError(f"{folder}: no run there" if folder.is_dir() else f"{folder}: no such folder")
    for path in found:
        check_plain(path)
    return found


def _start_from(folder: Path, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
    """Fill networks, targets too, and the normaliser from a trained run; optimizers and replay buffer start anew."""
    if folder.is_dir():
        check_plain(folder)
    if not (folder / files.POLICY).is_file():
        raise ConfigError(f"init_from: {folder} holds no trained run, {files.POLICY} is missing")
    trained = files.load_spec(folder)
    if trained.env.normalize.observations and (normalizer is None or not normalizer.norm_obs):
        raise ConfigError(f"init_from: {folder} saw normalised observations; set env.normalize.observations=true")
    if difference := formats.misfit(model.policy, folder / files.POLICY):
        raise ConfigError(
            f"init_from: {folder}, {trained.agent.algorithm} on {trained.env.id}, has other networks than this run: "
            f"{difference}"
        )
    formats.load_policy(model.policy, folder / files.POLICY)
    if normalizer is not None and (folder / files.NORMALIZER).is_file():
        formats.load_normalizer(normalizer, folder / files.NORMALIZER)


def _make_envs(spec: RunSpec, seed: int, training: bool = False) -> tuple[VecEnv, VecNormalize | None]:
    """The environments to train in, or a single one of Gymnasium's that a trained policy's spaces are read off."""
    with one_message(f"env: {spec.env.id} cannot be made as the config says"):
        if training:
            envs: VecEnv = FiniteEnvs(build_training_envs(spec.env, seed, spec.threads))
        else:
            envs = build_envs(spec.env, seed, n_envs=1)
        envs = normalize(envs, spec.env.normalize, spec.agent.gamma)
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
    formats.save_policy(model.policy, folder / files.POLICY)
    model.save(folder / files.SB3_MODEL)
    if normalizer is not None:
        formats.save_normalizer(normalizer, folder / files.NORMALIZER)
        normalizer.save(str(folder / files.SB3_NORMALIZER))


def load_run(folder: Path | str, device: str = "auto", best: bool = False) -> Run:
    """Read a run back, from its safe formats alone: YAML, JSON, safetensors and NumPy without pickle.

    Args:
        folder: the run's folder, `.../seed-<n>`.
        device: where the policy goes, as Stable-Baselines3 takes it.
        best: the policy of the best evaluation in the place of the final one; the run need not have finished.

    Raises:
        ConfigError: if the folder holds no finished run (of `best`: none that was evaluated), or one whose files are
            damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if seeds := sorted(path.name for path in folder.glob("seed-*")):
        raise ConfigError(f"{folder}: holds runs and is none itself; give one of {', '.join(seeds)} in it")
    check_plain(folder)
    for needed in (files.CONFIG,) if best else (files.CONFIG, files.RESULT, files.POLICY):
        if not (folder / needed).is_file():
            resumable = checkpoint.steps_of(folder) and not (folder / files.RESULT).is_file()
            hint = f"; go on with it: deltarl resume {folder}" if resumable else ""
            raise ConfigError(f"{folder}: no finished run there, {needed} is missing{hint}")
    source = folder
    if best:
        if (found := checkpoint.best(folder)) is None:
            raise ConfigError(f"{folder}: no best policy there; there is one from the first evaluation on (eval.every)")
        source = found.folder
    spec = files.load_spec(folder)
    seed = spec.seeds[0]
    envs, normalizer = _make_envs(spec, seed)
    envs.close()
    _check_size(spec, source / files.POLICY)
    with one_message(f"{folder}: its policy cannot be made"):
        policy = build_policy(spec.agent, spec.actor_torso, spec.critic_torso, envs).to(get_device(device))
    formats.load_policy(policy, source / files.POLICY)
    if normalizer is not None:
        formats.load_normalizer(normalizer, source / files.NORMALIZER)
        normalizer.training = False
    return Run(folder=folder, spec=spec, seed=seed, policy=policy, normalizer=normalizer)


def _check_size(spec: RunSpec, path: Path) -> None:
    """Refuse a config whose torsos need more weights than the file has, before any memory is asked for."""
    with readable(path), safe_open(str(path), framework="pt"):
        stored = path.stat().st_size
    for role in roles_of(spec.agent):
        torso: AnyTorsoSpec = getattr(spec, role)
        if isinstance(torso, MLPTorsoSpec):
            numbers = sum(one * other for one, other in pairwise(torso.net_arch or ()))
        else:
            numbers = torso.depth * torso.width * torso.hidden
        if (needed := numbers * torch.float32.itemsize) > stored:
            raise ConfigError(f"{path}: has {stored:,} bytes; the config's {role} takes at least {needed:,}")


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
            n_envs=run.spec.eval.n_envs,
            max_episode_steps=run.spec.eval.max_episode_steps,
        )
