"""Signals to a real run in a process of its own: it stores itself, says how to go on, and has a status of its own."""

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

import numpy as np
import pytest

from deltarl.checkpoints.checkpoint import newest, steps_of
from deltarl.training.signals import SIGNALS, TrainingStopped, stop_on_signals

DELTARL = Path(sys.executable).with_name("deltarl")
SMALL = ("torso.width=8", "torso.depth=1", "total_timesteps=100000000", "device=cpu", "name=run")
SAC = ("agent=sac", "env.n_envs=1", "agent.learning_starts=90000000", "agent.buffer_size=5000")


def start(out: Path, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [DELTARL, "train", "quickstart", *SMALL, f"out={out}", *settings],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps_logged(folder: Path) -> int:
    rows = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    return int(json.loads(rows[-1])["step"]) if rows else 0


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_stores_the_run_also_before_it_learns(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    process = start(tmp_path, *SAC)
    wait_for(lambda: steps_logged(folder))
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]

    assert process.returncode == 75
    found = newest(folder)
    assert found is not None
    last = said.splitlines()[-1]
    assert last == (
        f"deltarl: {number.name}: stopped at step {found.steps:,}, stored at step {found.steps:,}; "
        f"go on with: deltarl resume {folder}"
    )
    assert "Traceback" not in said
    assert not (folder / "result.json").exists()


def test_a_stopped_run_goes_on_and_can_be_stopped_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    process = start(tmp_path, *SAC)
    wait_for(lambda: steps_logged(folder))
    process.terminate()
    process.communicate(timeout=60)
    [first] = steps_of(folder)
    again = subprocess.Popen([DELTARL, "resume", folder], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: steps_logged(folder) > first)
    again.send_signal(signal.SIGUSR1)
    again.communicate(timeout=60)
    assert again.returncode == 75
    assert steps_of(folder)[0] > first


def test_a_second_signal_ends_it_at_once_and_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "seed-0"
    # A rollout of minutes: the first signal waits for its end.
    process = start(tmp_path, "agent.n_steps=1000000", "checkpoint.every=1")
    wait_for((folder / "metrics.jsonl").exists)
    time.sleep(1)
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM
    assert newest(folder) is None


def test_ctrl_c_stops_all_seeds_each_with_its_checkpoint(tmp_path: Path) -> None:
    folders = [tmp_path / "run" / f"seed-{seed}" for seed in (0, 1)]
    process = start(tmp_path, *SAC, "seeds=[0,1,2]", "--jobs", "2")
    wait_for(lambda: all(steps_logged(folder) for folder in folders))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and children
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    for folder in folders:
        found = newest(folder)
        assert found is not None
        assert f"stored at step {found.steps:,}; go on with: deltarl resume {folder}" in said
    assert not (tmp_path / "run" / "seed-2").exists()
    assert "Traceback" not in said


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
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: steps_logged(tmp_path / "run" / "seed-0"))
    process.terminate()
    out, error = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out == "cleaned up\n"
    assert "Traceback" not in error


def test_handlers_that_were_there_come_back() -> None:
    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.reason == "SIGTERM"
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # the next one ends the process
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_nothing_is_caught() -> None:
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
