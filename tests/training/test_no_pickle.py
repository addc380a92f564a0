"""No pickle in a run's folder is ever opened."""

from __future__ import annotations

import pickle
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from deltarl import ConfigError, evaluate, load_run, resume, train
from deltarl.training import packed
from tests.quick import Payload
from tests.training.foreign_runs import as_pack
from tests.training.small import SAC, SETTINGS, longer, quiet, spec_of


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        pytest.param((*SETTINGS, "checkpoint.keep=1"), "", id="ppo", marks=pytest.mark.slow),
        pytest.param(SAC, "/replay/", id="sac"),
    ],
)
def test_a_pickle_in_place_of_any_file_is_never_opened(
    settings: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload = pickle.dumps(Payload())
    pickle.loads(payload)
    Path("opened").rmdir()  # it does work
    [result] = train(spec_of(tmp_path, "eval.max_episode_steps=5", base=settings), quiet())
    files = [path.relative_to(result.folder) for path in result.folder.rglob("*") if path.is_file()]
    files += [Path("policy.pkl"), Path("checkpoints/128/state.pt"), Path("checkpoints/128/replay/0.npy")]
    chosen = [name for name in files if where in f"/{name}"]
    assert len(chosen) > 3
    for name in chosen:
        folder = tmp_path / "planted"
        shutil.copytree(result.folder, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(payload)
        with suppress(ConfigError):
            evaluate(folder, episodes=1)
        with suppress(ConfigError):
            evaluate(load_run(folder, best=True), episodes=1)
        if where == "" and packed.largest(str(name)) is not None:
            with suppress(ConfigError):
                as_pack(partial(evaluate, episodes=1), folder)
        (folder / "result.json").unlink()
        with suppress(ConfigError):
            resume(folder, longer(160), quiet())
        shutil.rmtree(folder)
        assert not Path("opened").exists(), name
