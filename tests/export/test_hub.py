"""Packed agents go to a repository and come back; huggingface_hub's own client speaks to a local server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deltarl import disk
from deltarl.export import hub as hub_module
from deltarl.training.packed import read_pack, write_pack
from tests.export.hub_server import TOKEN, Hub, local_hub
from tests.quick import Deltarl

REPO = "user/ppo-hopper"
FILES = {
    "README.md": b"---\nlibrary_name: deltarl\n---\n# A card\n",
    "config.yaml": b"agent: {}\n",
    "policy.safetensors": bytes(range(256)) * 1000,
    "checkpoints/best-7/policy.safetensors": b"weights",
    "curve.png": b"\x89PNG",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with local_hub() as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    write_pack(tmp_path / "agent.zip", FILES, seed=3, policy="final", version="0.1.0")
    return tmp_path / "agent.zip"


def command(hub: Hub, cwd: Path, *arguments: str, token: str = TOKEN) -> tuple[int, str, str]:
    """Run a verb in a process of its own, because the client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(cwd / "hf"), "HF_HUB_DISABLE_XET": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", "from deltarl.cli import main; main()", *arguments],
        cwd=cwd,
        env={**os.environ, **settings, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert token not in ended.stdout + ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def test_what_was_pushed_is_pulled(hub: Hub, agent: Path, tmp_path: Path) -> None:
    status, out, error = command(hub, tmp_path, "push", str(agent), REPO, "--private")
    assert (status, out) == (0, f"{hub.endpoint}/{REPO}/commit/0123456789abcdef0123456789abcdef01234567\n"), error
    assert {name: hub.repos[REPO][name] for name in FILES} == FILES
    assert hub.private[REPO] in {"private", True}  # in newer and older versions
    # The same once more changes nothing.
    assert command(hub, tmp_path, "push", str(agent), REPO)[0] == 0
    status, out, error = command(hub, tmp_path, "pull", REPO)
    assert (status, out) == (0, "ppo-hopper.zip: 2 KiB\n"), error
    assert (tmp_path / "ppo-hopper.zip").read_bytes() == agent.read_bytes()
    assert not (tmp_path / "hf" / "hub").exists()  # no second copy
    # A card that was edited there.
    hub.repos[REPO]["README.md"] += b"More.\n"
    assert command(hub, tmp_path, "pull", REPO, "edited.zip", "--revision", "main")[0] == 0
    pulled = read_pack(tmp_path / "edited.zip")
    assert pulled.files == {**FILES, "README.md": FILES["README.md"] + b"More.\n"}
    assert pulled.manifest.seed == 3


def uploaded(hub: Hub, agent: Path) -> dict[str, bytes]:
    """A repository with the agent's files and others, as anyone can make it."""
    pack = read_pack(agent)
    manifest = pack.manifest.model_dump_json().encode()
    hub.repos[REPO] = {**pack.files, "manifest.json": manifest}
    return hub.repos[REPO]


def listed(files: dict[str, bytes], name: str, content: bytes, size: int | None = None) -> None:
    """Put a file into a repository and its manifest."""
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = {"bytes": len(content) if size is None else size, "sha256": disk.digest(content)}
    files |= {name: content, "manifest.json": json.dumps(manifest).encode()}


ATTACKS: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "path": (
        lambda files: listed(files, "../../evil.sh", b"#!/bin/sh"),
        "lists '../../evil.sh', which no packed agent",
    ),
    "pickle": (lambda files: listed(files, "model.pkl", b"\x80"), "lists 'model.pkl', which no packed agent has"),
    "large": (
        lambda files: files.update({"policy.safetensors": bytes(256_001)}),
        "policy.safetensors: expected 256,000 bytes, got 256,001",
    ),
    "total": (
        lambda files: [listed(files, f"checkpoints/best-{i}/policy.safetensors", b"", 2**29) for i in range(2)],
        "has 1,073,",
    ),
    "other": (
        lambda files: files.update({"config.yaml": b"agent: []\n"}),
        "config.yaml: its content is not what was packed",
    ),
    "none": (lambda files: files.pop("manifest.json"), "404"),
}
FAST = {"path", "large", "other"}


@pytest.mark.parametrize(
    "attack", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ATTACKS]
)
def test_attacks_are_refused_and_most_before_anything_is_downloaded(attack: str, hub: Hub, agent: Path) -> None:
    change, message = ATTACKS[attack]
    change(uploaded(hub, agent))
    status, out, error = command(hub, agent.parent, "pull", REPO, "pulled.zip")
    assert (status, out, len(error.splitlines())) == (2, "", 1), error
    assert message in error
    if attack in {"large", "total", "none"}:
        assert "policy.safetensors" not in hub.served
    assert not (agent.parent / "pulled.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (("push", "agent.zip", REPO), "hf_wrong", "push: user/ppo-hopper: HfHubHTTPError: "),
        pytest.param(("pull", REPO), TOKEN, "user/ppo-hopper: RepositoryNotFoundError: 404", marks=pytest.mark.slow),
    ],
)
def test_faults_of_the_server_are_one_line(
    arguments: tuple[str, ...], token: str, message: str, hub: Hub, agent: Path
) -> None:
    status, out, error = command(hub, agent.parent, *arguments, token=token)
    assert (status, out) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("push", "agent.zip", "no//name"), "push: no//name: HFValidationError: "),
        (("push", "agent.zip", REPO, "--best"), "--best: a packed agent is one policy"),
        (("push", "nowhere", REPO), "nowhere: no such folder"),
        (("pull", "no//name"), "pull: no//name: HFValidationError: "),
        (("pull", REPO, "agent.zip"), "pull: agent.zip already exists; give another name, or --overwrite"),
        (("pull", REPO, "agent"), "pull: agent: expected a name that ends in .zip"),
    ],
)
def test_bad_input_is_refused_before_a_server_is_asked(
    arguments: tuple[str, ...], message: str, agent: Path, deltarl: Deltarl
) -> None:
    before = agent.read_bytes()
    status, out, error = deltarl(*arguments)
    assert (status, out, len(error.splitlines())) == (2, "", 1)
    assert message in error
    assert [path.name for path in agent.parent.iterdir()] == ["agent.zip"]
    assert agent.read_bytes() == before


@pytest.mark.parametrize("arguments", [("push", "agent.zip", REPO), ("pull", REPO)])
def test_the_missing_extra_is_named(
    arguments: tuple[str, ...], deltarl: Deltarl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "find_spec", lambda _: None)
    status, _, error = deltarl(*arguments)
    assert (status, error) == (
        2,
        f"deltarl: error: {arguments[0]}: huggingface_hub is not installed; pip install 'deltarl[hub]'\n",
    )
