"""Draw README's learning curves from the committed records.

    python docs/figures/comparison.py

writes comparison.png next to this file: the first figure of the report that `deltarl report results/compare/ppo_small`
makes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deltarl.comparison import write_report

HERE = Path(__file__).resolve().parent
STUDY = HERE.parent.parent / "results" / "compare" / "ppo_small"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(STUDY, out=folder)
        shutil.copy(page.parent / "figures" / "learning.png", HERE / "comparison.png")


if __name__ == "__main__":
    main()
