"""Signals to a real run in a separate process: it is stored, says how to resume, and exits with its own status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest

from deltarl.checkpoints.checkpoint import newest, steps_of
from deltarl.training.signals import SIGNALS, TrainingStopped, stop_on_signals

DELTARL = Path(sys.executable).with_name("deltarl")
SMALL = ("torso.width=8", "torso.depth=1", "total_timesteps=100000000", "device=cpu", "name=run")
SAC = ("agent=sac", "env.n_envs=1", "agent.learning_starts=90000000", "agent.buffer_size=5000")


def start(out: Path, *settings: str) -> forked.Running:
    return forked.Running(["deltarl", "train", "quickstart", *SMALL, f"out={out}", *settings], out, group=True)


def wait_for(process: forked.Running, condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert not process.has_ended, process.wait()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_logged(folder: Path) -> int:
    rows = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    return int(json.loads(rows[-1])["step"]) if rows else 0


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_stores_the_run_also_before_it_learns(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    process = start(tmp_path, *SAC)
    wait_for(process, lambda: steps_logged(folder))
    os.kill(process.pid, number)
    ended = process.wait(60)

    assert ended.returncode == 75
    found = newest(folder)
    assert found is not None
    last = ended.stderr.splitlines()[-1]
    assert last == (
        f"deltarl: {number.name}: stopped at step {found.steps:,}, stored at step {found.steps:,}; "
        f"resume with: deltarl resume {folder}"
    )
    assert "Traceback" not in ended.stderr
    assert not (folder / "result.json").exists()


def test_a_stopped_run_resumes_and_can_be_stopped_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    process = start(tmp_path, *SAC)
    wait_for(process, lambda: steps_logged(folder))
    os.kill(process.pid, signal.SIGTERM)
    process.wait(60)
    [first] = steps_of(folder)
    again = forked.Running(["deltarl", "resume", str(folder)], tmp_path)
    wait_for(again, lambda: steps_logged(folder) > first)
    os.kill(again.pid, signal.SIGUSR1)
    assert again.wait(60).returncode == 75
    assert steps_of(folder)[0] > first


def test_a_second_signal_ends_it_at_once_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    # With a rollout of minutes, the first signal waits for its end.
    process = start(tmp_path, "agent.n_steps=1000000", "checkpoint.every=1")
    wait_for(process, (folder / "metrics.jsonl").exists)
    time.sleep(1)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.5)
    assert not process.has_ended
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10).returncode == -signal.SIGTERM
    assert newest(folder) is None


def test_ctrl_c_stops_all_seeds_each_with_its_checkpoint(tmp_path: Path) -> None:
    folders = [tmp_path / "run" / f"seed-{seed}" for seed in (0, 1)]
    process = start(tmp_path, *SAC, "seeds=[0,1,2]", "--jobs", "2")
    wait_for(process, lambda: all(steps_logged(folder) for folder in folders))
    os.killpg(process.pid, signal.SIGINT)  # to parent and children, as a terminal does
    ended = process.wait(60)
    assert ended.returncode == 75
    for folder in folders:
        found = newest(folder)
        assert found is not None
        assert f"stored at step {found.steps:,}; resume with: deltarl resume {folder}" in ended.stderr
    assert not (tmp_path / "run" / "seed-2").exists()
    assert "Traceback" not in ended.stderr


def test_a_script_is_stopped_by_an_exit(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import deltarl\n"
        f"spec = deltarl.load_config('quickstart', *{[*SMALL, *SAC, f'out={tmp_path}']})\n"
        "try:\n"
        "    deltarl.train(spec)\n"
        "except deltarl.TrainingStopped as stop:\n"
        "    print('cleaned up')\n"
        "    raise\n"
    )
    process = forked.Running([str(script)], tmp_path, code=script)
    wait_for(process, lambda: steps_logged(tmp_path / "run" / "seed-0"))
    os.kill(process.pid, signal.SIGTERM)
    ended = process.wait(60)
    assert ended.returncode == 75
    assert ended.stdout == "cleaned up\n"
    assert "Traceback" not in ended.stderr


def test_handlers_that_were_there_come_back() -> None:
    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.reason == "SIGTERM"
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # a second one ends the process
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_are_not_caught_outside_the_main_thread() -> None:
    requests = []

    def work() -> None:
        with stop_on_signals() as stop:
            requests.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requests == [False]


def test_a_stop_is_an_exit_and_no_exception_that_a_script_would_swallow() -> None:
    assert not issubclass(TrainingStopped, Exception)
    assert TrainingStopped("why").code == 75
    assert str(TrainingStopped("why")) == "why"


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_kills_at_any_moment_change_nothing(agent: str, tmp_path: Path) -> None:
    ppo = ("total_timesteps=10000", "checkpoint.every=300", "agent.n_steps=32", "agent.batch_size=32", "env.n_envs=2")
    sac = ("agent=sac", "total_timesteps=1500", "checkpoint.every=100", "agent.learning_starts=50", "env.n_envs=1")
    settings = (*SMALL, *(ppo if agent == "ppo" else sac), "eval.every=1000", "eval.episodes=1")
    command = [DELTARL, "train", "quickstart", *settings, "--resume"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, f"out={whole}"], capture_output=True, check=True)
    random = np.random.default_rng(0)
    kills = 0
    while not (killed / "run" / "seed-0" / "result.json").exists():
        process = subprocess.Popen([*command, f"out={killed}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=random.uniform(3, 6))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills > 1
    first, second = whole / "run" / "seed-0", killed / "run" / "seed-0"
    for name in ("policy.safetensors", "evaluations.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    result = json.loads((second / "result.json").read_text())
    assert result["continued"] == []
    steps = [json.loads(line)["step"] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (first / "metrics.jsonl").read_text().splitlines()]
