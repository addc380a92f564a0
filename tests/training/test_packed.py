"""Packed agents from anybody are read completely or refused in one line; nothing is left behind."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from deltarl import ConfigError, evaluate, load_run
from deltarl.archive import packed as archived
from deltarl.cli.show import show
from deltarl.training.packed import is_pack, largest, opened, read_pack, shipped, write_pack
from tests.quick import Deltarl
from tests.test_reading import LAUGHS
from tests.training.foreign_runs import PACKED, as_pack, zipped

Files = dict[str, bytes]


@pytest.fixture
def agent(foreign: Path, tmp_path: Path) -> Path:
    return zipped(foreign, tmp_path / "agent.zip")


def files_of(agent: Path) -> Files:
    with ZipFile(agent) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Files], None]:
    def apply(files: Files) -> None:
        content = json.loads(files["manifest.json"])
        change(content)
        files["manifest.json"] = json.dumps(content).encode()

    return apply


def replaced(name: str, content: bytes) -> Callable[[Files], None]:
    return lambda files: files.update({name: content})


HASH = "0" * 64
FAULTS: dict[str, tuple[Callable[[Files], object], str]] = {
    "no manifest": (lambda files: files.pop("manifest.json"), "not a packed agent: it contains no manifest.json"),
    "another hash": (
        manifest(lambda content: content["files"]["config.yaml"].update(sha256=HASH)),
        r"config\.yaml: its content is not what was packed",
    ),
    "another size": (
        manifest(lambda content: content["files"]["config.yaml"].update(bytes=7)),
        r"config\.yaml: its content is not what was packed",
    ),
    "other content": (replaced("result.json", b"{}"), r"result\.json: its content is not what was packed"),
    "not in the manifest": (
        manifest(lambda content: content["files"].pop("result.json")),
        r"manifest\.json and the archive disagree about result\.json",
    ),
    "not in the archive": (lambda files: files.pop("result.json"), r"disagree about result\.json"),
    "a path in the manifest": (
        manifest(lambda content: content["files"].update({"../../x": {"bytes": 1, "sha256": HASH}})),
        r"disagree about \.\./\.\./x",
    ),
    "a later format": (manifest(lambda content: content.update(format=2)), "format 2; this version of deltarl reads 1"),
    "no seed": (manifest(lambda content: content.pop("seed")), "seed: missing"),
    "a list": (replaced("manifest.json", b"[]"), "expected a mapping"),
    "no JSON": (replaced("manifest.json", b"{"), "Expecting property name"),
    "deep": (replaced("manifest.json", b"[" * 100_000), "nested more than"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_manifest_that_does_not_fit_is_refused(fault: str, agent: Path) -> None:
    change, message = FAULTS[fault]
    files = files_of(agent)
    change(files)
    agent.write_bytes(archived(files))
    with pytest.raises(ConfigError, match=rf"agent\.zip.*({message})") as caught:
        load_run(agent)
    assert "\n" not in str(caught.value)


CONTENTS: dict[str, tuple[str, bytes, str]] = {
    "laughing config": ("config.yaml", LAUGHS.encode(), "contains YAML aliases or tags"),
    "large config": ("config.yaml", b"#" * (2**20 + 1), "config.yaml has 1,048,577 bytes, more than 1,048,576"),
    "code in the config": ("config.yaml", b"!!python/object/apply:os.mkdir [opened]", "aliases or tags"),
    "no weights": ("policy.safetensors", b"\x80\x04K\x01.", "policy.safetensors: missing or damaged"),
}


@pytest.mark.parametrize("fault", CONTENTS)
def test_content_is_refused_as_in_a_folder_and_named_as_in_the_archive(fault: str, foreign: Path) -> None:
    name, content, message = CONTENTS[fault]
    (foreign / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        as_pack(load_run, foreign)
    assert f"agent.zip{': ' if 'large' in fault else f'/{name}'}" in str(caught.value)


def test_arrays_that_unpack_to_more_than_they_may_are_not_read(foreign: Path) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, mean=np.zeros(2**24))  # 128 MiB of zeros in 128 KiB
    (foreign / "normalizer.npz").write_bytes(content.getvalue())
    with pytest.raises(ConfigError, match=r"normalizer\.npz has 134,.* bytes unpacked, more than 67,108,864"):
        as_pack(load_run, foreign)


def test_a_config_must_not_name_files_of_this_machine(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("algorithm: ppo\n")
    text = (foreign / "config.yaml").read_text()
    (foreign / "config.yaml").write_text(text.replace("agent:\n", f"agent:\n  base: {tmp_path / 'secret.yaml'}\n"))
    with pytest.raises(ConfigError, match=r"agent\.sac: unknown key"):
        as_pack(lambda agent: show(str(agent)), foreign)


@pytest.mark.parametrize("entry", sorted(PACKED.keys() - {"gates packed"}))  # the run was too short to measure any
def test_what_is_packed_without_faults_is_read(entry: str, foreign: Path) -> None:
    PACKED[entry](zipped(foreign, foreign / "agent.zip"))


def test_nothing_is_left_of_an_opened_agent(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with opened(agent) as folder:
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(
            read_pack(agent).files
        )
    with pytest.raises(KeyError), opened(agent):
        raise KeyError
    assert set(tmp_path.iterdir()) == before


def test_a_folder_is_opened_as_it_is(foreign: Path) -> None:
    with opened(foreign) as folder:
        assert folder == foreign


def test_no_room_to_unpack_is_one_line(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nothing")
    with pytest.raises(ConfigError, match=r"agent\.zip: cannot be unpacked into /proc/nothing: No such file"):
        load_run(agent)


def test_other_files_are_no_packed_agents(agent: Path, foreign: Path, tmp_path: Path, deltarl: Deltarl) -> None:
    assert is_pack(agent)
    (tmp_path / "notes.txt").write_text("notes")
    for path in (tmp_path / "notes.txt", foreign / "model.zip", tmp_path / "nowhere.zip"):
        assert not is_pack(path)
    status, _, error = deltarl("evaluate", str(foreign / "model.zip"))
    assert (status, len(error.splitlines())) == (2, 1)
    assert "model.zip: missing or damaged" in error


def test_what_is_too_large_is_not_packed(tmp_path: Path) -> None:
    content = {"config.yaml": bytes((largest("config.yaml") or 0) + 1)}
    with pytest.raises(ConfigError, match=r"pack: config\.yaml has 1,048,577 bytes; a packed agent takes 1,048,576"):
        write_pack(tmp_path / "agent.zip", content, seed=0, policy="final", version="0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", shipped())
def test_shipped_agents_are_small_trained_and_found_by_name(name: str) -> None:
    assert shipped()[name].stat().st_size <= 300_000
    run = load_run(name, device="cpu")
    assert (run.folder, run.spec.init_from) == (shipped()[name], None)
    random = run.spec.env.random_score
    assert random is not None
    assert evaluate(run, episodes=1).return_mean > random.mean + 500


def test_a_folder_of_that_name_comes_first(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(foreign.parent)
    foreign.rename("hopper_ppo_delta")
    assert load_run("hopper_ppo_delta").folder == Path("hopper_ppo_delta")


def test_shipped_agents_are_listed_and_suggested(deltarl: Deltarl) -> None:
    status, out, _ = deltarl("list", "trained", "--json")
    assert status == 0
    assert {row["trained"] for row in json.loads(out)} == set(shipped())
    for verb in ("evaluate", "gates"):
        assert deltarl(verb, "hopper_ppo_dleta")[2].endswith("no such folder; did you mean 'hopper_ppo_delta'?\n")


def test_names_of_shipped_agents_are_packed_agents(deltarl: Deltarl) -> None:
    assert "hopper_ppo_delta.zip is a packed agent already" in deltarl("pack", "hopper_ppo_delta")[2]
    assert "--best: a packed agent is one policy" in deltarl("push", "hopper_ppo_delta", "user/name", "--best")[2]
    assert "no optimizer" in deltarl("resume", "hopper_ppo_delta")[2]
    status, out, _ = deltarl("show", "hopper_ppo_delta")
    assert status == 0
    assert "id: Hopper-v5" in out
