"""Which folder a run takes, and which it refuses."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from deltarl import ConfigError, RunResult, load_config
from deltarl.training.folder import choose_folder, claimed, load_spec
from tests.training.quick_runs import quick, run


def test_a_finished_run_is_refused_and_nothing_is_written(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"))
    before = {path: path.stat().st_mtime_ns for path in finished.folder.parent.rglob("*")}
    with pytest.raises(ConfigError, match="this run has already finished") as caught:
        run(spec)
    assert "--resume" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.parent.rglob("*")} == before


def test_one_finished_seed_refuses_the_whole_command_before_any_other_is_trained(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), "seeds=[7,0]")
    with pytest.raises(ConfigError, match=r"seed-0: this run has already finished; .* give --resume .* that are left"):
        run(spec)
    assert not (finished.folder.parent / "seed-7").exists()


def test_another_config_of_the_same_name_gets_a_folder_of_its_own(finished: RunResult) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), "agent.gamma=0.5", "name=test")
    assert choose_folder(spec, 0).parent.name == f"test-{spec.digest()}"


def test_a_config_that_an_older_version_wrote_keeps_its_seeds(finished: RunResult, tmp_path: Path) -> None:
    content = yaml.safe_load((finished.folder / "config.yaml").read_text())
    assert content["env"].pop("seeding") == "separate"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert load_spec(tmp_path).env.seeding == "consecutive"
    assert load_config(str(tmp_path / "config.yaml")).env.seeding == "consecutive"
    (tmp_path / "user.yaml").write_text(yaml.safe_dump({**content, "env": {"base": "hopper", "n_envs": 2}}))
    assert load_config(str(tmp_path / "user.yaml")).env.seeding == "separate"


def test_a_run_that_ended_before_its_first_checkpoint_is_moved_aside_not_overwritten(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    result = run(spec)[0]
    (result.folder / "result.json").unlink()
    shutil.rmtree(result.folder / "checkpoints")
    kept = (result.folder / "policy.safetensors").read_bytes()
    again = run(spec)[0]
    assert again.folder == result.folder
    assert (again.folder.with_name("seed-0.unfinished-1") / "policy.safetensors").read_bytes() == kept


def test_a_run_that_can_be_resumed_is_not_started_again(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    folder = run(spec)[0].folder
    (folder / "result.json").unlink()
    with pytest.raises(
        ConfigError, match=r"after its checkpoint of step 64; resume it with: deltarl resume .*seed-0; or"
    ):
        run(spec)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path) -> None:
    spec = quick(tmp_path)
    folder = run(spec)[0].folder
    (folder / "result.json").unlink()
    with (folder / "provenance.json").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another process is training there"):
            run(spec)


@pytest.mark.parametrize("state", ["finished", "running"])
def test_a_run_that_another_process_starts_in_the_meantime_is_neither_moved_nor_overwritten(
    state: str, finished: RunResult, tmp_path: Path
) -> None:
    spec = load_config(str(finished.folder / "config.yaml"), f"out={tmp_path}")
    assert choose_folder(spec, 0) == tmp_path / "test" / "seed-0"
    with ExitStack() as other:
        if state == "running":
            other.enter_context(claimed(spec, 0, ["other"]))
        else:
            run(spec)
        held = sorted(tmp_path.rglob("*"))
        with (
            pytest.raises(ConfigError, match="finished" if state == "finished" else "is training"),
            claimed(spec, 0, []),
        ):
            pass
        assert sorted(tmp_path.rglob("*")) == held


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^out: .* cannot be used: .*file is not a folder$"):
        run(quick(tmp_path / "file"))


@pytest.mark.parametrize(
    "left", [("provenance.json",), ("provenance.json.tmp",), ("provenance.json", "config.yaml.tmp")]
)
def test_a_folder_of_a_run_that_was_killed_before_its_config_was_written_is_reused(
    left: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "test" / "seed-0"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("{")
    spec = quick(tmp_path)
    with claimed(spec, 0, ["deltarl"]) as taken:
        assert taken == folder
        assert load_spec(taken) == spec


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "test" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"contains files but no config\.yaml"):
        run(quick(tmp_path))
    assert list(folder.iterdir()) == [folder / "thesis.tex"]
