"""A launcher that runs jobs on a Ray cluster (https://docs.ray.io), each as a task."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

try:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    from deltarl.errors import ConfigError as _Missing

    raise _Missing("--launcher ray: Ray is not installed: pip install 'deltarl[ray]'") from error

from deltarl import plugins
from deltarl.errors import ConfigError
from deltarl.launch.launcher import Ended, Job, Outcome, Outcomes, Result, Told, ended_as, unheard
from deltarl.training.locks import TakenError
from deltarl.training.progress import Progress, Report
from deltarl.training.signals import SIGNALS, StopRequest, TrainingStopped

LOCAL, AUTO = "local", "auto"
LOOK_SECONDS = 0.2
CONNECT_SECONDS = 5.0
ASK_SECONDS = 1.0  # how often a job asks whether it should stop
UNLOCK_SECONDS = 60.0  # how long the process of a lost job may take to end
# What a job needs of the driver's environment: the user's modules, how to render, and where to tell of runs. Accounts
# are left to the nodes.
PASSED_ON = (
    plugins.VARIABLE,
    "MUJOCO_GL",
    "PYOPENGL_PLATFORM",
    *(f"WANDB_{name}" for name in ("MODE", "PROJECT", "ENTITY", "BASE_URL", "DIR")),
    *(f"MLFLOW_{name}" for name in ("TRACKING_URI", "EXPERIMENT_NAME")),
)


class Ray:
    """Run each job as a Ray task, wherever the cluster has room.

    A job whose worker or node dies is started again, elsewhere if need be, and resumes from its newest checkpoint.
    Every node needs the same installation of deltarl and the working directory of this process, on a file system that
    all nodes share. If this process ends, so do its jobs.

    Args:
        address: of the cluster: `host:port`, `auto` for one that runs on this machine or is named by `RAY_ADDRESS`, or
            `local` to start one with this machine's cores until the jobs have ended.
        cpus: CPUs that each job takes: its threads.
        gpus: GPUs that each job takes; 0.25 puts four jobs on one.
        most: the maximum number of jobs at once; default: as many as there is room for.
        retries: how often a job is started again after its worker or node was lost.
    """

    def __init__(
        self, address: str = AUTO, *, cpus: int = 1, gpus: float = 0.0, most: int | None = None, retries: int = 3
    ) -> None:
        self.address, self.cpus, self.gpus, self.most, self.retries = address, cpus, gpus, most, retries
        self._disconnects = False

    def connect(self) -> None:
        """Connect to the cluster, unless this process is connected already; `run` does so too, and ends what it began.

        Raises:
            ConfigError: if there is no cluster at the address, or no node with room for a job.
        """
        if not ray.is_initialized():
            _connect(self.address)
            self._disconnects = True
        self._check_room()

    def room(self) -> int:
        """How many jobs the nodes can run at once, if nothing else runs on them; see `Launcher.room`.

        Raises:
            ConfigError: if there is no cluster at the address, or no node with room for a job.
        """
        self.connect()
        return min(sum(map(self._room_on, _nodes())), sys.maxsize if self.most is None else self.most)

    def run(
        self, jobs: Sequence[Job[Result]], report: Told, stop: StopRequest, *, ended: Ended[Result] = unheard
    ) -> Outcomes[Result]:
        """Run jobs; see `Launcher.run`.

        Raises:
            ConfigError: if there is no cluster at the address, or no node with room for a job.
            TrainingStopped: if the cluster was lost.
        """
        self.connect()
        try:
            return _Tasks(self, ended).run(jobs, report, stop)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            raise TrainingStopped(f"the Ray cluster was lost ({reason}); repeat the command to resume") from error
        finally:
            if self._disconnects:
                ray.shutdown()
                self._disconnects = False

    def _check_room(self) -> None:
        """Refuse jobs that no node could ever run, which Ray would wait for."""
        nodes = _nodes()
        for kind, wanted, option in (("CPU", self.cpus, "threads"), ("GPU", self.gpus, "--gpus")):
            most = max((node.get(kind, 0) for node in nodes), default=0)
            if wanted > most:
                raise ConfigError(f"{option}: a run takes {wanted:g} {kind}s, and the largest Ray node has {most:g}")

    def _room_on(self, node: Mapping[str, float]) -> int:
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(int(node.get(kind, 0) / amount) for kind, amount in wanted.items() if amount)


def _nodes() -> list[Mapping[str, float]]:
    """The resources of each node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Board:
    """An actor that collects the progress of jobs and tells them when to stop."""

    def __init__(self) -> None:
        self.progress: dict[str, Progress] = {}
        self.begun: set[str] = set()
        self.reason: str | None = None

    def begin(self, name: str) -> str | None:
        self.begun.add(name)
        return self.reason

    def note(self, name: str, progress: Progress) -> None:
        self.progress[name] = progress

    def take(self) -> dict[str, Progress]:
        taken, self.progress = self.progress, {}
        return taken

    def ask_to_stop(self, reason: str | None) -> set[str]:
        """The names of the jobs that have started."""
        self.reason = reason or "stopped"
        return self.begun

    def asked(self) -> str | None:
        return self.reason


class _Tasks:
    """The tasks of one call of `Ray.run`."""

    def __init__(self, launcher: Ray, ended: Ended[Any]) -> None:
        self.launcher, self.ended = launcher, ended
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here, max_concurrency=1).remote()
        # Ray itself retries nothing, because only a job that is examined again resumes.
        self.task = ray.remote(_run).options(num_cpus=launcher.cpus, num_gpus=launcher.gpus, max_retries=0)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.surroundings = Path.cwd(), environment, list(sys.path)
        self.running: dict[Any, tuple[Job[Any], int]] = {}
        self.outcomes: Outcomes[Any] = {}

    def run(self, jobs: Sequence[Job[Any]], report: Told, stop: StopRequest) -> Outcomes[Any]:
        waiting, told = list(jobs), False
        while waiting or self.running:
            if stop and not told:
                waiting, told = [], True
                begun = ray.get(self.board.ask_to_stop.remote(stop.reason))
                for reference, (job, _) in self.running.items():
                    if job.name not in begun:
                        ray.cancel(reference)
            while waiting and (self.launcher.most is None or len(self.running) < self.launcher.most):
                self._start(waiting.pop(0), 0)
            done, _ = ray.wait(list(self.running), num_returns=len(self.running), timeout=LOOK_SECONDS)
            for name, progress in ray.get(self.board.take.remote()).items():
                report(name, progress)
            for reference in done:
                self._end(reference, bool(stop))
        return self.outcomes

    def _start(self, job: Job[Any], attempt: int) -> None:
        work = job.again if attempt and job.again is not None else job.work
        log = None if job.log is None else job.log.absolute()
        reference = self.task.remote(
            ray.cloudpickle.dumps(work), job.name, attempt > 0, self.board, log, *self.surroundings
        )
        self.running[reference] = job, attempt

    def _end(self, reference: Any, stopping: bool) -> None:
        errors, (job, attempt) = ray.exceptions, self.running.pop(reference)
        try:
            outcome = ray.get(reference)
        except errors.TaskCancelledError:
            return
        except errors.RayTaskError as error:  # before the work began
            outcome = Outcome("failure", failure=str(error))
        except errors.RayError as error:
            if attempt < self.launcher.retries and not stopping:
                self._start(job, attempt + 1)
                return
            kind, reason = type(error).__name__, str(error).strip().partition("\n")[0]
            lost = f"lost {attempt + 1} times with its worker or node, last by {kind}: {reason}"
            outcome = Outcome("stopped", stopped=lost) if stopping else Outcome("failure", failure=lost)
        self.outcomes[job.name] = outcome
        self.ended(job.name, outcome)


def _run(  # noqa: PLR0917 - what a task is called with
    packed: bytes,
    name: str,
    is_retry: bool,
    board: Any,
    log: Path | None,
    folder: Path,
    environment: Mapping[str, str],
    path: Sequence[str],
) -> Outcome[Any]:
    """A job's work, on a node of the cluster."""
    try:
        os.chdir(folder)
    except OSError:
        node = ray.util.get_node_ip_address()
        return Outcome("failure", failure=ConfigError(f"node {node} has no {folder}: runs need a folder of all nodes"))
    os.environ.update(environment)
    sys.path += [each for each in path if each not in sys.path]
    stop, over = StopRequest(), threading.Event()
    if (reason := ray.get(board.begin.remote(name))) is not None:
        return Outcome("stopped", stopped=f"{reason}: stopped before it started")

    def ask() -> None:
        while not (stop or over.wait(ASK_SECONDS)):
            with suppress(ray.exceptions.RayError):
                if (reason := ray.get(board.asked.remote())) is not None:
                    stop.make(reason)

    threading.Thread(target=ask, daemon=True).start()
    try:
        with _printing_to(log):
            return ended_as(
                partial(_once_free if is_retry else _called, pickle.loads(packed)),
                lambda progress: board.note.remote(name, progress),
                stop,
            )
    finally:
        over.set()


@contextmanager
def _printing_to(log: Path | None) -> Iterator[None]:
    """Append to a file what this process and its children print; nothing is left if they print nothing."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [(stream, os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr)]
    with log.open("ab") as file:
        for stream, _ in kept:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        yield
    finally:
        for stream, before in kept:
            stream.flush()
            os.dup2(before, stream.fileno())
            os.close(before)
        with suppress(OSError):
            if not log.stat().st_size:
                log.unlink()


def _called(work: Callable[[Report, StopRequest], Result], report: Report, stop: StopRequest) -> Result:
    return work(report, stop)


def _once_free(work: Callable[[Report, StopRequest], Result], report: Report, stop: StopRequest) -> Result:
    """Do work again once the lost process no longer holds the lock of its run."""
    until = time.monotonic() + UNLOCK_SECONDS
    while True:
        try:
            return work(report, stop)
        except TakenError:
            if stop or time.monotonic() > until:
                raise
            time.sleep(ASK_SECONDS)


def _connect(address: str) -> None:
    given = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    if given not in {LOCAL, AUTO}:
        _check_address(given)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if given == LOCAL:
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: jobs would starve beside other processes
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        # To Ray, a cluster that wants a token is often the same as none.
        hint = "; one with token authentication needs RAY_AUTH_MODE=token and its token here, too"
        raise _no_cluster("on this machine" if address == AUTO else f"at {address}", hint) from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray takes SIGTERM for itself
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConfigError(f"--ray-address: '{address}' is not HOST:PORT, {AUTO} or {LOCAL}")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(f"at {address}") from error


def _no_cluster(where: str, hint: str = "") -> ConfigError:
    return ConfigError(
        f"--ray-address: no Ray cluster {where}; start one with 'ray start --head', or give --ray-address {LOCAL}{hint}"
    )
