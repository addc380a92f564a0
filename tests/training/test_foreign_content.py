"""Files of untrusted runs with content that does not fit are refused in one line, and nothing is written."""

from __future__ import annotations

import io
import json
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
from deltarl import ConfigError, disk, load_config, load_run
from deltarl.training.result import result_in
from tests.training.foreign_runs import ENTRIES, contents, list_it


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
        *((entry, fault) for entry in ("load_run", "load_run packed") for fault in MISFITS),
        *(
            (entry, fault)
            for entry in ("load_run best", "init_from", "init_from packed")
            for fault in ("mean of one", "double weights")
        ),
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
    for entry in (result_in, list_it, ENTRIES["list packed"]):
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
