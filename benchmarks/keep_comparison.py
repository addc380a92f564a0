"""Copy what the report of a comparison is made from, and the report, to where it can be committed.

    python benchmarks/keep_comparison.py runs/ppo_small results/compare/ppo_small

Weights, checkpoints and event files stay behind; of metrics.jsonl go the rows at evaluations and the last ones before
them, of gates.npz all but the histograms and the fixed batch. `deltarl report` gives the same report from the copy.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from deltarl.comparison import write_report
from deltarl.comparison.erasure import ERASURE
from deltarl.comparison.looks import LOOKS
from deltarl.comparison.spec import COMPARISON, COSTS, SIZES
from deltarl.gates import read_record
from deltarl.gates.callback import write_record
from deltarl.training import folder as files

WHOLE = (files.CONFIG, files.PROVENANCE, files.EVALUATIONS, files.RESUMES, files.RESULT, ERASURE)
FIGURES = ("learning.png", "learning.svg")


def keep(source: Path, target: Path) -> None:
    """Copy every finished run that is not there yet, and write the report anew."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (COMPARISON, SIZES, COSTS, LOOKS):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    for result in sorted(source.glob(f"*/*/seed-*/{files.RESULT}")):
        run = target / result.parent.relative_to(source)
        if not (run / files.RESULT).exists():
            run.mkdir(parents=True, exist_ok=True)
            _keep_run(result.parent, run)
    write_report(target)
    for path in (target / "report" / "figures").iterdir():
        if path.name not in FIGURES:
            path.unlink()


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
    if any(name.endswith("/beta_mean") for name in gates):
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


if __name__ == "__main__":
    main()
