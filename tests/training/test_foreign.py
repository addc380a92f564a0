"""Untrusted run folders: any fault is refused in one line, and nothing is written."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

import deltarl
from deltarl import ConfigError, disk, load_config, load_run, train
from deltarl.cli.gates import gates
from deltarl.cli.list_runs import found_in
from deltarl.comparison import write_report
from deltarl.training.result import result_in

TINY = (
    *("agent=sac", "agent.learning_starts=16", "agent.batch_size=8", "agent.buffer_size=100", "env.n_envs=1"),
    *(
        "torso.width=8",
        "torso.depth=1",
        "total_timesteps=40",
        "eval.episodes=1",
        "eval.every=null",
        "gates.every=20",
        "device=cpu",
    ),
)


def spec(out: Path, *more: str) -> deltarl.RunSpec:
    return load_config("quickstart", *TINY, f"out={out}", "name=tiny", *more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(spec(tmp_path_factory.mktemp("trained")), console=Console(file=io.StringIO()))[0].folder


@pytest.fixture
def foreign(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "out" / "tiny" / "seed-0"))


def resume(run: Path) -> None:
    (run / "result.json").unlink(missing_ok=True)
    deltarl.resume(run, console=Console(file=io.StringIO()), jobs=1)


def resume_by_train(run: Path) -> None:
    (run / "result.json").unlink(missing_ok=True)
    train(spec(run.parents[1]), console=Console(file=io.StringIO()), resume=True)


def start_from(run: Path) -> None:
    train(spec(run.parents[2] / "other", f"init_from={run}"), console=Console(file=io.StringIO()))


def list_it(run: Path) -> None:
    [row] = found_in(run.parents[1])
    if row.reason is not None:
        assert row.status == "damaged"
        raise ConfigError(row.reason)


READERS: dict[str, Callable[[Path], object]] = {
    "load_run": load_run,
    "load_run best": lambda run: load_run(run, best=True),
    "gates": gates,
    "list": list_it,
}
WRITERS: dict[str, Callable[[Path], object]] = {
    "resume": resume,
    "train --resume": resume_by_train,
    "init_from": start_from,
}
ENTRIES = READERS | WRITERS


def contents(folder: Path) -> dict[Path, bytes | str]:
    """The contents of a folder; links are followed."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def link_file(path: Path, outside: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "file")


def link_folder(path: Path, outside: Path) -> None:
    if path.exists():
        shutil.rmtree(outside / "folder")
        path.rename(outside / "folder")
    path.symlink_to(outside / "folder")


def pipe(path: Path, _: Path) -> None:
    path.unlink()
    os.mkfifo(path)


ATTACKS = [
    *((name, link_file) for name in ("metrics.jsonl", "model.zip", "config.yaml.tmp", "gates.npz", "notes")),
    *((name, link_folder) for name in ("checkpoints", "checkpoints/40", "checkpoints/40/replay", "figures")),
    *((name, pipe) for name in ("evaluations.csv", "policy.safetensors")),
]


@pytest.mark.parametrize(
    ("entry", "name", "attack"),
    [
        (entry, *attack)
        for entry in ENTRIES
        for attack in (ATTACKS if entry in {"resume", "load_run"} else ATTACKS[::5])
    ],
)
def test_nothing_is_reached_through_links_and_no_pipe_is_waited_for(
    entry: str, name: str, attack: Callable[[Path, Path], None], foreign: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("precious\n" * 1000)
    attack(foreign / name, outside)
    if entry in {"resume", "train --resume"}:
        (foreign / "result.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"is (a link|not a regular file)") as caught:
        ENTRIES[entry](foreign)
    assert name.split("/", maxsplit=1)[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_the_folder_of_a_run_may_be_a_link_itself(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(trained)
    assert load_run(tmp_path / "linked").seed == 0


def test_seeds_that_are_links_are_not_resumed(foreign: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    foreign.rename(precious)
    foreign.symlink_to(precious)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"seed-0: is a link"):
        deltarl.resume(foreign.parent)
    with pytest.raises(ConfigError, match=r"seed-0: is a link"):
        train(spec(tmp_path / "out"))
    assert contents(tmp_path) == before


def test_a_backup_of_hard_links_stays_as_it_is_when_the_run_continues(foreign: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(foreign, backup, copy_function=os.link)
    before = contents(backup)
    deltarl.resume(
        foreign,
        lambda config: load_config(str(config), "total_timesteps=48"),
        console=Console(file=io.StringIO()),
        jobs=1,
    )
    assert contents(backup) == before


@pytest.mark.parametrize("name", ["report", "summary", "comparison.yaml", "hop", "hop/delta/seed-0/metrics.jsonl"])
def test_a_report_reads_and_writes_nothing_through_links(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "compared"
    (folder / name).parent.mkdir(parents=True)
    (folder / "comparison.yaml").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "comparison.yaml").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "outside" / name if name.endswith("yaml") else tmp_path / "outside")
    with pytest.raises(ConfigError, match=f"{name}: is a link"):
        write_report(folder)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["comparison.yaml"]


def rewritten(change: Callable[[dict[str, Any]], object], name: str) -> Callable[[Path], None]:
    """Change the content of a JSON or .npz file, or of weights, as a mapping."""

    def apply(run: Path) -> None:
        path = run / name
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))
        elif path.suffix == ".npz":
            with np.load(path) as file:
                content = dict(file)
            change(content)
            np.savez(path, **content)
        else:
            content = safetensors.torch.load_file(path)
            change(content)
            safetensors.torch.save_file(content, path)

    return apply


def statistics(**arrays: Any) -> Callable[[Path], None]:
    named = {f"observation/{name}": value for name, value in arrays.items()}
    return rewritten(lambda content: content.update(named), "normalizer.npz")


WEIGHT = "actor.mu.bias"  # of a SAC policy in Hopper, with shape [3]


def weights(value: torch.Tensor) -> Callable[[Path], None]:
    return rewritten(lambda content: content.update({WEIGHT: value}), "policy.safetensors")


MISFITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "mean of one": (
        statistics(mean=np.zeros(1), var=np.ones(1)),
        r"normalizer.npz: .*observation/mean: .* got float64 \(1,\)",
    ),
    "mean of many": (
        statistics(mean=np.zeros((3, 11)), var=np.ones((3, 11))),
        r"expected float64 \(11,\), got float64 \(3, 11\)",
    ),
    "scalar mean": (statistics(mean=np.zeros(())), r"mean: .* got float64 \(\)"),
    "half mean": (statistics(mean=np.zeros(11, np.float16)), "mean: .* got float16"),
    "complex mean": (statistics(mean=np.zeros(11, complex)), "mean: .* got complex128"),
    "textual mean": (statistics(mean=np.array(["0"] * 11)), "mean: .* got <U1"),
    "NaN": (statistics(mean=np.full(11, np.nan)), "observation/mean contains impossible values"),
    "negative variance": (statistics(var=-np.ones(11)), "observation/var contains impossible values"),
    "counts": (statistics(count=np.ones(2)), r"observation/count: .* got float64 \(2,\)"),
    "other names": (
        statistics(**{"goal/mean": np.zeros(3)}),
        "entries that the environment does not have: observation/goal/mean",
    ),
    "no names": (rewritten(lambda content: content.pop("observation/var"), "normalizer.npz"), "'observation/var' is"),
    "one weight": (weights(torch.zeros(1)), rf"policy.safetensors: .*{WEIGHT}: expected shape \[3\], got \[1\]"),
    "rows of weights": (weights(torch.zeros(1, 3)), r"expected shape \[3\], got \[1, 3\]"),
    "double weights": (weights(torch.zeros(3, dtype=torch.float64)), "expected torch.float32, got torch.float64"),
    "integer weights": (weights(torch.zeros(3, dtype=torch.int32)), "got torch.int32"),
    "NaN weights": (weights(torch.full((3,), torch.nan)), f"{WEIGHT} contains NaN or infinity"),
    "missing weights": (rewritten(lambda content: content.pop(WEIGHT), "policy.safetensors"), WEIGHT),
    "other weights": (
        rewritten(lambda content: content.update(other=torch.zeros(3)), "policy.safetensors"),
        r"other: expected no such tensor, got \[3\]",
    ),
}


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        *(("load_run", fault) for fault in MISFITS),
        *((entry, fault) for entry in ("load_run best", "init_from") for fault in ("mean of one", "double weights")),
    ],
)
def test_weights_and_statistics_that_do_not_fit_are_neither_broadcast_nor_cast(
    entry: str, fault: str, foreign: Path
) -> None:
    change, message = MISFITS[fault]
    change(foreign)
    if entry == "load_run best":
        [best] = (foreign / "checkpoints").glob("best-*")
        for name in ("policy.safetensors", "normalizer.npz"):
            shutil.copyfile(foreign / name, best / name)
        sign(best)
    before = contents(foreign)
    with pytest.raises(ConfigError, match=message) as caught:
        ENTRIES[entry](foreign)
    assert "\n" not in str(caught.value)
    assert contents(foreign) == before


def sign(checkpoint: Path) -> None:
    """Update a checkpoint's manifest to the current digests of its files, as anyone can."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest.pop("sha256")
    for name in manifest["files"]:
        content = (checkpoint / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": disk.digest(content)}
    manifest["sha256"] = disk.digest(json.dumps(manifest, sort_keys=True).encode())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def replayed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return rewritten(change, "replay/00000.safetensors")


def cut(content: dict[str, Any]) -> None:
    content.update({name: tensor[:-1].contiguous() for name, tensor in content.items()})


def shrunk(content: dict[str, Any]) -> None:
    [name] = (name for name in content if name.endswith("/obs_rms/mean"))
    content[name] = content[name][:1].contiguous()


STATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cast rewards": (
        replayed(lambda content: content.update(rewards=content["rewards"].double())),
        "rewards: expected float32 .*, got float64",
    ),
    "broadcast rewards": (
        replayed(lambda content: content.update(rewards=content["rewards"][:, 0])),
        "rewards: expected",
    ),
    "no rewards": (replayed(lambda content: content.pop("rewards")), "expected arrays .*rewards.*; got"),
    "fewer rows": (
        replayed(cut),
        r"\d+ rows are stored, but the buffer had 4\d",
    ),
    "statistics of one": (rewritten(shrunk, "state.safetensors"), "statistics .* have other shapes"),
    "no tensors": (rewritten(lambda content: content.clear(), "state.safetensors"), "missing or damaged"),
    "no tree": (lambda folder: (folder / "state.json").write_text("[" * 100_000) and None, "missing or damaged"),
    "another tree": (lambda folder: (folder / "state.json").write_text('{"dict": 7}') and None, "missing or damaged"),
    "no weights": (lambda folder: (folder / "state.safetensors").write_bytes(b"x") and None, "missing or damaged"),
}


@pytest.mark.parametrize("fault", STATES)
def test_a_checkpoint_that_does_not_fit_is_not_put_into_an_algorithm(fault: str, foreign: Path) -> None:
    change, message = STATES[fault]
    checkpoint = foreign / "checkpoints" / "40"
    change(checkpoint)
    sign(checkpoint)
    with pytest.raises(ConfigError, match=message) as caught:
        deltarl.resume(
            foreign,
            lambda config: load_config(str(config), "total_timesteps=48"),
            console=Console(file=io.StringIO()),
            jobs=1,
        )
    assert "\n" not in str(caught.value)


RESULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another mean": (
        lambda result: result.update(final_return_mean=99999.0),
        "contradicts evaluations.csv: final_return_mean",
    ),
    "another spread": (
        lambda result: result.update(final_return_std=3.0),
        "contradicts evaluations.csv: final_return_std",
    ),
    "more episodes": (
        lambda result: result.update(episodes=20),
        r"contradicts evaluations.csv: episodes: expected 1\d*, got 20",
    ),
    "more steps": (
        lambda result: result.update(steps=1000),
        r"contradicts evaluations.csv: steps: expected 40\d*, got 1000",
    ),
    "a success": (lambda result: result.update(success_rate=1.0), "contradicts evaluations.csv: success_rate"),
    "null": (lambda result: result.update(final_return_mean=None), "final_return_mean: "),
    "text": (lambda result: result.update(final_return_mean="12"), "final_return_mean: "),
    "truth": (lambda result: result.update(seed=True), "seed: "),
    "NaN": (lambda result: result.update(final_return_mean=float("nan")), "NaN is not a JSON number"),
    "no mean": (lambda result: result.pop("final_return_mean"), "final_return_mean: missing"),
    "no list": (lambda result: result.update(continued="exactly"), "continued: "),
}


@pytest.mark.parametrize("fault", RESULTS)
def test_a_result_that_is_odd_or_contradicts_its_evaluations_is_not_believed(fault: str, foreign: Path) -> None:
    change, message = RESULTS[fault]
    rewritten(change, "result.json")(foreign)
    for entry in (result_in, list_it):
        with pytest.raises(ConfigError, match=rf"result\.json: .*{message}"):
            entry(foreign)


def test_a_result_of_an_earlier_or_a_later_version_is_read(foreign: Path) -> None:
    rewritten(lambda result: result.pop("peak_memory_mib"), "result.json")(foreign)
    rewritten(lambda result: result.pop("continued"), "result.json")(foreign)
    rewritten(lambda result: result.update(of_a_later_version=1), "result.json")(foreign)
    assert result_in(foreign).peak_memory_mib is None
    (foreign / "evaluations.csv").unlink()
    assert result_in(foreign).steps == 40


def test_a_result_of_fewer_steps_than_its_config_has_is_not_believed(foreign: Path) -> None:
    config = foreign / "config.yaml"
    config.write_text(config.read_text().replace("total_timesteps: 40", "total_timesteps: 4000"))
    with pytest.raises(ConfigError, match=r"result\.json: has 40 steps, but config\.yaml requires 4,000"):
        list_it(foreign)


def test_statistics_that_the_config_does_not_know_of_are_not_ignored(foreign: Path) -> None:
    config = foreign / "config.yaml"
    config.write_text(re.sub(r"(observations|rewards): true", r"\1: false", config.read_text()))
    with pytest.raises(ConfigError, match=r"normalizer\.npz: .* normalises nothing"):
        load_run(foreign)
