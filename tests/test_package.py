"""The package as a whole: what importing it needs, and its public names."""

from __future__ import annotations

import subprocess
import sys

import deltarl

# Windows has none of these.
WITHOUT_POSIX = """
import signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del signal.SIGUSR1

import io, json
from pathlib import Path
import deltarl
from rich.console import Console

assert "torch._dynamo" not in sys.modules  # a second and a half of every command

spec = deltarl.load_config(
    "quickstart", "total_timesteps=32", "agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "env.n_envs=2",
    "torso.width=8", "eval.episodes=1", "device=cpu", "name=test", f"out={sys.argv[1]}",
)
[result] = deltarl.train(spec, Console(file=io.StringIO()))
print(result.status, result.peak_memory_mib)
"""


def test_it_trains_without_file_locks_and_says_so(tmp_path: object) -> None:
    command = [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "finished None\n", ended.stderr
    assert ended.stderr.count("no file locks") == 1


def test_public_names_are_sorted_and_there() -> None:
    assert deltarl.__all__ == sorted(deltarl.__all__)
    assert {name for name in deltarl.__all__ if not hasattr(deltarl, name)} == set()
    assert deltarl.GateCallback is deltarl.gates.GateCallback
