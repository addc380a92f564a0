"""The sdist and the wheel, installed outside of the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    outcome = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.mark.slow
def test_the_wheel_trains_the_quickstart_from_an_empty_folder(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    assert len(list((tmp_path / "dist").glob("*.tar.gz"))) == 1

    # The dependencies come from the environment of the tests, the package itself only from the wheel.
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    [theirs] = (home / "lib").glob("python*/site-packages")
    [ours] = (Path(sys.prefix) / "lib").glob("python*/site-packages")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    (theirs / "dependencies.pth").write_text(f"{ours}\n")

    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import deltarl; print(deltarl.__file__)", cwd=empty)
    assert Path(where.strip()).is_relative_to(home)
    run(home / "bin" / "deltarl", "train", "quickstart", "total_timesteps=2000", "name=quickstart", cwd=empty)
    result = json.loads((empty / "runs" / "quickstart" / "seed-0" / "result.json").read_text())
    assert result["status"] == "finished"
    said = run(home / "bin" / "deltarl", "evaluate", "hopper_ppo_delta", "--episodes", "1", cwd=empty)
    assert str(theirs / "deltarl" / "_specs") in said
