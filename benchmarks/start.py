"""CPU time that commands without training take, and that `train` takes until it first says something, compared with an
import of Stable-Baselines3.

    .venv/bin/python benchmarks/start.py [--rounds 5] [--write results/start.json]

Each is a separate process, and all take turns; ratios are within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PYTHON = sys.executable
DELTARL = str(Path(PYTHON).with_name("deltarl"))
BESIDE = "import stable_baselines3"
COMMANDS = {
    BESIDE: [PYTHON, "-c", BESIDE],
    "import deltarl": [PYTHON, "-c", "import deltarl"],
    "deltarl --help": [DELTARL, "--help"],
    "deltarl train --fast": [DELTARL, "train", "--fast"],
    "deltarl copy quikstart": [DELTARL, "copy", "quikstart"],
    "deltarl train quickstart torso.widht=3": [DELTARL, "train", "quickstart", "torso.widht=3"],
    "deltarl evaluate .": [DELTARL, "evaluate", "."],
    "deltarl compare quick --shard 3/2": [DELTARL, "compare", "quick", "--shard", "3/2"],
    "deltarl compare quick arms.delta.torso=dleta": [DELTARL, "compare", "quick", "arms.delta.torso=dleta"],
    "deltarl show quickstart": [DELTARL, "show", "quickstart"],
}
# What `deltarl train quickstart` says on a terminal, in this order.
SAYS = ("loading", "building environments")


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _waited(process)


def cpu_seconds_until(words: str) -> float:
    """User and system time of `deltarl train quickstart` until it says these words on a terminal; it is then killed."""
    with tempfile.TemporaryDirectory() as folder:
        terminal, end = pty.openpty()
        command = [DELTARL, "train", "quickstart", f"out={folder}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end)
        os.close(end)
        said = b""
        while words.encode() not in said:
            said += os.read(terminal, 1024)
        process.kill()
        seconds = _waited(process)
        os.close(terminal)
    return seconds


def _waited(process: subprocess.Popen[bytes]) -> float:
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rounds = [
        {
            **{name: cpu_seconds(command) for name, command in COMMANDS.items()},
            **{f"deltarl train quickstart, until '{words}'": cpu_seconds_until(words) for words in SAYS},
        }
        for _ in range(options.rounds)
    ]
    found = {
        name: {
            "seconds": statistics.median(each[name] for each in rounds),
            "of_stable_baselines3": statistics.median(each[name] / each[BESIDE] for each in rounds),
            "more_than_stable_baselines3": statistics.median(each[name] - each[BESIDE] for each in rounds),
        }
        for name in rounds[0]
    }
    for name, row in found.items():
        print(f"{row['seconds']:5.2f} s of CPU, {row['of_stable_baselines3']:4.2f} times {BESIDE}: {name}")
    if options.write is not None:
        options.write.write_text(json.dumps({"rounds": options.rounds, "commands": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
