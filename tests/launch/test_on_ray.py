"""Jobs on Ray clusters: one with a single node, and one of several nodes on this machine, of which some are killed."""

from __future__ import annotations

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from deltarl.comparison import load_comparison
from deltarl.comparison.cells import train_cell
from deltarl.errors import ConfigError
from deltarl.launch.launcher import Job, Launcher, Outcome
from deltarl.launch.local import Processes
from deltarl.launch.on_ray import Ray
from deltarl.search import load_search, tune
from deltarl.training.progress import Progress, Report
from deltarl.training.signals import StopRequest, TrainingStopped

TINY = (
    "env=inverted_pendulum",
    "env.n_envs=1",
    "total_timesteps=64",
    "agent={n_steps: 32, batch_size: 32, n_epochs: 1}",
    "torso={width: 16, depth: 1}",
    "eval={every: 32, episodes: 2}",
    "gates.every=null",
    "device=cpu",
    "n_seeds=1",
    "name=tiny",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for jobs, and two nodes with one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # 15 otherwise, and the other tests keep the cores busy
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        found.add_node(num_cpus=1)
        found.add_node(num_cpus=1)
        ray.init(found.address, log_to_driver=False, logging_level="ERROR")
        yield found
        ray.shutdown()
        found.shutdown()


pytestmark = pytest.mark.usefixtures("cluster")


def run(
    jobs: list[Job[Any]], launcher: Ray, stop: StopRequest | None = None, **options: Any
) -> dict[str, Outcome[Any]]:
    stop = StopRequest() if stop is None else stop  # one that nobody has made is false
    return launcher.run(jobs, options.get("report", lambda *_: None), stop)


def square(number: int, report: Report, stop: StopRequest) -> int:
    del stop
    report(Progress(number, 1.0))
    return number * number


def fail(error: str, report: Report, stop: StopRequest) -> int:
    del report, stop
    if error == "config":
        raise ConfigError("torso: no such kind")
    raise ZeroDivisionError("a bug")


def say(words: str, report: Report, stop: StopRequest) -> None:
    del report, stop
    os.write(1, f"{words}\n".encode())
    os.system(f"echo its child says {words} >&2")


def until_asked(report: Report, stop: StopRequest) -> int:
    report(Progress(1, 1.0))
    while not stop:
        time.sleep(0.05)
    raise TrainingStopped(f"{stop.reason}: stopped at step 1")


def die_once(mark: Path, report: Report, stop: StopRequest) -> str:
    del report, stop
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "work"


def again(report: Report, stop: StopRequest) -> str:
    del report, stop
    return "again"


def test_jobs_run_on_the_nodes_and_report() -> None:
    shown: list[tuple[str, Progress]] = []
    jobs = [Job(f"job {n}", partial(square, n)) for n in range(2)]
    outcomes = run(jobs, Ray(), report=lambda *each: shown.append(each))
    assert {name: outcome.result for name, outcome in outcomes.items()} == {f"job {n}": n * n for n in range(2)}
    assert {name: progress.steps for name, progress in shown} == {f"job {n}": n for n in range(2)}


def test_what_a_job_prints_is_kept_in_its_log(tmp_path: Path) -> None:
    """Also what its child processes print, and what it printed before; a job that prints nothing leaves no file."""
    logs = {name: tmp_path / "logs" / f"{name}.log" for name in ("one", "two", "silent")}
    logs["two"].parent.mkdir()
    logs["two"].write_text("before\n")
    jobs: list[Job[Any]] = [Job(name, partial(say, name), log=logs[name]) for name in ("one", "two")]
    outcomes = run([*jobs, Job("silent", partial(square, 2), log=logs["silent"])], Ray())
    assert {outcome.kind for outcome in outcomes.values()} == {"result"}
    assert logs["one"].read_text() == "one\nits child says one\n"
    assert logs["two"].read_text() == "before\ntwo\nits child says two\n"
    assert not logs["silent"].exists()


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others() -> None:
    jobs = [Job(name, partial(fail, name)) for name in ("config", "bug")]
    outcomes = run([*jobs, Job("fine", partial(square, 3))], Ray())
    assert isinstance(outcomes["config"].failure, ConfigError)
    assert "ZeroDivisionError: a bug" in str(outcomes["bug"].failure)
    assert outcomes["fine"].result == 9


@pytest.mark.slow
def test_a_stop_request_reaches_running_jobs_and_no_others_start() -> None:
    stop = StopRequest()
    jobs = [Job(f"job {n}", until_asked) for n in range(6)]
    outcomes = run(jobs, Ray(most=3), stop, report=lambda *_: stop.make("SIGINT"))
    assert {outcome.kind for outcome in outcomes.values()} == {"stopped"}
    assert 1 <= len(outcomes) <= 3
    assert any(outcome.stopped == "SIGINT: stopped at step 1" for outcome in outcomes.values())


@pytest.mark.slow
def test_a_job_whose_worker_dies_is_done_again(tmp_path: Path) -> None:
    jobs = [Job("one", partial(die_once, tmp_path / "one"), again), Job("two", partial(die_once, tmp_path / "two"))]
    outcomes = run(jobs, Ray())
    assert [outcomes[name].result for name in ("one", "two")] == ["again", "work"]


@pytest.mark.slow
def test_a_job_that_always_dies_fails(tmp_path: Path) -> None:
    outcomes = run([Job("one", partial(die_once, tmp_path / "not" / "there"))], Ray(retries=1))
    assert outcomes["one"].kind == "failure"


def test_a_run_without_room_on_any_node_is_refused() -> None:
    with pytest.raises(ConfigError, match="threads: a run takes 2 CPUs, and the largest Ray node has 1"):
        run([Job("one", again)], Ray(cpus=2))
    with pytest.raises(ConfigError, match=r"--gpus: a run takes 0\.5 GPUs, and the largest Ray node has 0"):
        run([Job("one", again)], Ray(gpus=0.5))


def test_there_is_room_for_as_many_jobs_as_the_nodes_have_cpus() -> None:
    assert Ray().room() == 2
    assert Ray(most=1).room() == 1
    with pytest.raises(ConfigError, match="threads: a run takes 2 CPUs"):
        Ray(cpus=2).room()


@pytest.mark.slow
def test_a_search_on_the_nodes_finds_what_one_process_finds(tmp_path: Path) -> None:
    """Random values depend on the trial's number alone, and scores on the values and the seed."""
    space = tmp_path / "space.yaml"
    space.write_text("space: {agent.gamma: [0.9, 0.95, 0.99]}\nsampler: {name: random, seed: 1}\npruner: none\n")
    found = {}
    for name, launcher in (("here", None), ("there", Ray())):
        search = load_search("quickstart", str(space), *TINY, f"out={tmp_path / name}")
        tuned = tune(search, Console(file=io.StringIO()), ["deltarl"], trials=4, jobs=1, launcher=launcher)
        found[name] = {row.number: (row.score, row.values) for row in tuned.found.rows}
    assert len(found["here"]) == 4
    assert found["there"] == found["here"]


def test_signals_are_still_handled_as_before(cluster: Cluster) -> None:
    """Ray takes SIGTERM when it connects."""
    address = cluster.address
    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    Ray(address).connect()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1; start one with 'ray start --head'"),
        ("no.such.host.invalid:6379", "no Ray cluster at no.such.host.invalid:6379"),
        ("ray://127.0.0.1:10001", "'ray://127.0.0.1:10001' is not HOST:PORT, auto or local"),
        ("127.0.0.1", "'127.0.0.1' is not HOST:PORT"),
        ("127.0.0.1:99999", "no Ray cluster at 127.0.0.1:99999"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(cluster: Cluster, address: str, message: str) -> None:
    ray.shutdown()
    with pytest.raises(ConfigError, match=re.escape(f"--ray-address: {message}")):
        Ray(address).connect()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")


@pytest.mark.parametrize("error", [ConnectionError("none found"), ray.exceptions.AuthenticationError("no token")])
def test_a_cluster_that_wants_a_token_is_named(
    cluster: Cluster, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a process without the token, Ray reports one of these errors after half a minute."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    ray.shutdown()
    with monkeypatch.context() as patch:
        patch.setattr(ray, "init", refuse)
        with pytest.raises(
            ConfigError, match=r"; one with token authentication needs RAY_AUTH_MODE=token and its token"
        ):
            Ray(cluster.address).connect()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")


@pytest.mark.slow
def test_a_comparison_loses_no_run_with_a_node(tmp_path: Path) -> None:
    """Twelve runs on two nodes, of which one is killed: each ends once, with the weights of the local launcher."""
    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    lost, _ = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
    (tmp_path / "small.yaml").write_text(
        "arms: {a: {torso: {kind: residual, width: 16}}, b: {torso: {kind: delta, width: 16}}}\n"
        "reference: a\n"
        "tasks: {pendulum: {env: inverted_pendulum}}\n"
        "seeds: [0, 1, 2, 3, 4, 5]\n"
        "total_timesteps: 2048\n"
        "agent: {base: ppo, n_steps: 64, batch_size: 64}\n"
        "checkpoint: {every: 128}\n"
        "eval: {every: null, episodes: 1}\n"
        "device: cpu\n"
    )
    finished: list[str] = []

    def report(_: str, progress: Progress) -> None:
        """With jobs waiting, both nodes are at work."""
        raylet = lost.all_processes["raylet"][0].process
        if len(finished) >= 4 and progress.steps >= 512 and raylet.poll() is None:
            workers = Path(f"/proc/{raylet.pid}/task/{raylet.pid}/children").read_text().split()
            for pid in [raylet.pid, *map(int, workers)]:  # a machine takes all of its processes with it
                os.kill(pid, signal.SIGKILL)

    weights = []
    for where in ("ray", "local"):
        comparison = load_comparison(str(tmp_path / "small.yaml"), f"out={tmp_path / where}")
        jobs = [Job(cell.label, partial(train_cell, cell, ["deltarl"])) for cell in comparison.cells]
        launcher: Launcher = Ray(nodes.address) if where == "ray" else Processes(2)
        if where == "ray":
            outcomes = launcher.run(jobs, report, StopRequest(), ended=lambda name, _: finished.append(name))
            assert any((cell.folder / "resumes.jsonl").exists() for cell in comparison.cells)
        else:
            outcomes = launcher.run(jobs, lambda *_: None, StopRequest())
        assert {outcome.kind for outcome in outcomes.values()} == {"result"}
        assert len(outcomes) == 12
        weights.append({cell.label: (cell.folder / "policy.safetensors").read_bytes() for cell in comparison.cells})
    nodes.shutdown()
    assert len(finished) == len(set(finished)) == 12
    assert weights[0] == weights[1]


def mark(folder: Path, number: int, report: Report, stop: StopRequest) -> int:
    del report, stop
    with (folder / f"{number}").open("a") as file:
        file.write("done\n")
    return number


@pytest.mark.slow
def test_two_hundred_jobs_are_done_while_nodes_come_and_go(tmp_path: Path) -> None:
    ray.shutdown()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    alive = [nodes.add_node(num_cpus=1) for _ in range(3)]
    ended: list[str] = []

    def end(name: str, _: Outcome[Any]) -> None:
        ended.append(name)
        if len(ended) in {50, 100, 150}:
            os.kill(alive.pop(0).all_processes["raylet"][0].process.pid, signal.SIGKILL)
            alive.append(nodes.add_node(num_cpus=1, wait=False))

    jobs = [Job(f"job {n}", partial(mark, tmp_path, n)) for n in range(200)]
    outcomes = Ray(nodes.address).run(jobs, lambda *_: None, StopRequest(), ended=end)
    nodes.shutdown()
    assert {name: outcome.result for name, outcome in outcomes.items()} == {f"job {n}": n for n in range(200)}
    assert sorted(ended) == sorted(outcomes)
    assert all((tmp_path / f"{n}").read_text().count("done") <= 2 for n in range(200))
