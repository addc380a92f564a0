"""`deltarl train` as a user types it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import forked
import pytest

from deltarl.cli import lead_closed_streams_nowhere, main

SHORT = (
    "total_timesteps=64",
    "agent.n_steps=16",
    "agent.batch_size=32",
    "env.n_envs=2",
    "eval.episodes=2",
    "eval.every=null",
)


def test_a_run_ends_in_a_summary_and_a_second_one_is_refused(tmp_path: Path) -> None:
    first = forked.deltarl(["train", "quickstart", *SHORT], tmp_path)
    assert first.returncode == 0, first.stderr
    assert "PPO on Hopper-v5, delta 64x2 torsos" in first.stdout
    assert "(a random policy: 16.0)" in first.stdout
    assert "steps/s on cpu with 1 thread, " in first.stdout or "steps/s on cuda" in first.stdout
    [folder] = (tmp_path / "runs").glob("quickstart*")
    assert f"folder   runs/{folder.name}/seed-0" in first.stdout
    assert f"tensorboard --logdir runs/{folder.name}" in first.stdout
    assert "100%" in first.stderr

    second = forked.deltarl(["train", "quickstart", *SHORT], tmp_path)
    assert second.returncode == 2
    assert second.stdout == ""
    assert second.stderr.count("\n") == 1
    assert "this run has already finished" in second.stderr


BAD_FILES = {
    "twice": "total_timesteps: 1\ntotal_timesteps: 2\n",
    "tag": "agent: !!python/object/apply:os.system [ls]\n",
    "bomb": "a: &a [x, x]\nb: [*a, *a]\n",
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quickstrat",), "no config 'quickstrat'; did you mean 'quickstart'?"),
        (("quickstart", "torso=delt"), "torso: unknown name 'delt'; did you mean 'delta'?"),
        (("quickstart", "agent=pppo"), "agent: no agent 'pppo'; did you mean 'ppo'?"),
        (("quickstart", "env.id=Hoper-v5"), "env.id: no environment 'Hoper-v5'; did you mean 'Hopper-v5'?"),
        (("quickstart", "total_timesteps=soon"), "total_timesteps: input should be a valid integer"),
        ((), "Missing argument 'CONFIG'"),
        (("quickstart", "--fast"), "No such option: --fast"),
        (("quickstart", "--jobs", "0"), "Invalid value for '--jobs'"),
        (("quickstart", "agent.gamma=2"), "agent.gamma: input should be less than or equal to 1; got 2"),
        (("quickstart", "env=hoper"), "env: no env 'hoper'; did you mean 'hopper'?"),
        (("quickstart", "agents.gamma=0.9"), "agents: unknown key; did you mean 'agent'?"),
        (("quickstart", "name=../mine"), "name: string should match pattern"),
        (("quickstart", "env.id=os:Evil-v0"), "'os:Evil-v0' names a module to import"),
        (("quickstart", "agent=dqn"), "agent: dqn needs Discrete actions; the environment has Box("),
        (("quickstart", "agent=td3", "env=inverted_pendulum_discrete"), "agent: td3 needs Box actions"),
        (("fetch_reach_tqc_her", "agent=crossq"), "agent: crossq does not support Dict observations; sac and tqc do"),
        (("quickstart", "agent=sac_her"), "agent.her: the environment has no goals"),
        (("quickstart", "init_from=nowhere"), "init_from: nowhere contains no trained run"),
        (("quickstart", "actor_torso.block=x"), "actor_torso.block: unknown key"),
        (("quickstart", "torso=custom"), "torso.block: missing"),
        (("bad/twice.yaml",), "bad/twice.yaml:2: total_timesteps: duplicate key"),
        (("bad/tag.yaml",), "bad/tag.yaml:1: YAML tags are not supported"),
        (("bad/bomb.yaml",), "bad/bomb.yaml:2: YAML aliases are not supported"),
    ],
)
def test_bad_input_ends_in_one_line_status_2_and_nothing_written(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    for name, text in BAD_FILES.items():
        (tmp_path / "bad" / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["deltarl", "train", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    printed = capsys.readouterr()
    assert exit_.value.code == 2
    assert printed.out == ""
    [error] = [line for line in printed.err.splitlines() if not line.startswith("note: ")]
    assert error.startswith("deltarl: error: ")
    assert message in error
    assert sorted(path.stem for path in tmp_path.rglob("*") if path.is_file()) == sorted(BAD_FILES)


def test_an_interruption_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deltarl.launch.train", interrupt)
    monkeypatch.setattr(sys, "argv", ["deltarl", "train", "quickstart"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "deltarl: interrupted\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_summary_on_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["deltarl", "list", "configs"])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as exit_:
            main()
        monkeypatch.undo()
    assert exit_.value.code == 1
    said = "deltarl: error: cannot write to stdout: No space left on device\n"
    assert capsys.readouterr().err == said


def test_a_closed_stream_leads_nowhere_and_no_file_takes_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        monkeypatch.setattr(sys, "stderr", None)
        lead_closed_streams_nowhere()
        assert stat.S_ISCHR(os.fstat(2).st_mode)
        assert os.get_inheritable(2)
        print("nobody reads this", file=sys.stderr)  # noqa: T201
        sys.stderr.close()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
