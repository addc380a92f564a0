"""CPU time that commands without training take to start, compared with an import of Stable-Baselines3.

    .venv/bin/python benchmarks/start.py [--rounds 5] [--write results/start.json]

Each is a separate process, and all take turns; ratios are within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
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
    "deltarl compare quick --shard 3/2": [DELTARL, "compare", "quick", "--shard", "3/2"],
    "deltarl show quickstart": [DELTARL, "show", "quickstart"],
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rounds = [{name: cpu_seconds(command) for name, command in COMMANDS.items()} for _ in range(options.rounds)]
    found = {
        name: {
            "seconds": statistics.median(each[name] for each in rounds),
            "of_stable_baselines3": statistics.median(each[name] / each[BESIDE] for each in rounds),
        }
        for name in COMMANDS
    }
    for name, row in found.items():
        print(f"{row['seconds']:5.2f} s of CPU, {row['of_stable_baselines3']:4.2f} times {BESIDE}: {name}")
    if options.write is not None:
        options.write.write_text(json.dumps({"rounds": options.rounds, "commands": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
