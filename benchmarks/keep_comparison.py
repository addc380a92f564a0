"""Copy the records that a comparison's report is made from to a folder that can be committed.

    python benchmarks/keep_comparison.py runs/ppo_small results/compare/ppo_small

Weights, checkpoints and event files are left out. From metrics.jsonl, only the rows at evaluations and the last row
before each are kept; from gates.npz, everything except the histograms and the fixed batch. The report is not copied:
`deltarl report results/compare/ppo_small` makes the same one from the records, in a folder that git ignores.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from deltarl.comparison.erasure import ERASURE
from deltarl.comparison.looks import LOOKS
from deltarl.comparison.spec import COMPARISON, COSTS, SIZES, TUNING, UNTUNED
from deltarl.gates import read_record
from deltarl.gates.record import write_record
from deltarl.training import folder as files

WHOLE = (files.CONFIG, files.PROVENANCE, files.EVALUATIONS, files.RESUMES, files.RESULT, ERASURE)


def keep(source: Path, target: Path) -> None:
    """Copy the records of every finished run that is not in the target yet."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (COMPARISON, SIZES, COSTS, LOOKS, TUNING):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    if (source / UNTUNED).is_dir():
        keep(source / UNTUNED, target / UNTUNED)
    for result in sorted(source.glob(f"*/*/seed-*/{files.RESULT}")):
        run = target / result.parent.relative_to(source)
        if not (run / files.RESULT).exists():
            run.mkdir(parents=True, exist_ok=True)
            _keep_run(result.parent, run)


def _keep_run(source: Path, target: Path) -> None:
    rows = [json.loads(line) for line in (source / files.METRICS).read_text().splitlines()]
    kept, newest = [], None
    for row in rows:
        if "eval/return_mean" in row:
            kept += [row] if newest is None else [newest, row]
            newest = None
        elif "train/n_updates" in row:
            newest = row
    (target / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in kept))
    gates = {
        name: values
        for name, values in read_record(source / files.GATES).items()
        if not name.startswith("gates_probe/") and not name.endswith("/beta_counts")
    }
    if len(gates) > 1:  # more than its steps
        write_record(target / files.GATES, gates)
    for name in WHOLE:
        if (source / name).exists():
            shutil.copy(source / name, target / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of a comparison")
    parser.add_argument("target", type=Path, help="where the copy goes")
    arguments = parser.parse_args()
    keep(arguments.source, arguments.target)
    print(f"Make its report with: deltarl report {arguments.target}")


if __name__ == "__main__":
    main()
