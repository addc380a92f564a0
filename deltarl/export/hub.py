"""Packed agents in repositories of the Hugging Face Hub: their files side by side, so that the card is shown there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deltarl import archive
from deltarl.errors import ConfigError
from deltarl.reading import content_of, readable
from deltarl.scratch import scratch
from deltarl.training import packed

MISSING = "huggingface_hub is not installed; pip install 'deltarl[hub]'"
_LONGEST_REASON = 300


def push_pack(agent: Path | str, repo: str, *, private: bool | None = None) -> str:
    """Upload a packed agent to a repository of the Hugging Face Hub, which is created if there is none.

    Endpoint, token and proxies are huggingface_hub's own settings (`HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`).

    Args:
        agent: the packed agent, or the name of a shipped one.
        repo: the repository, `user/name`.
        private: whether a new repository is private; default: as the account is set.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: if the packed agent is damaged, huggingface_hub is not installed, or the upload fails.
    """
    check_package("push")
    agent = packed.found(Path(agent))
    pack = packed.read_pack(agent)
    files = {**pack.files, packed.MANIFEST: packed.manifest_text(pack.manifest)}

    from huggingface_hub import CommitOperationAdd, HfApi  # noqa: PLC0415 - an extra

    with _one_line(f"push: {repo}"):
        api = HfApi(library_name="deltarl")
        api.create_repo(repo, exist_ok=True, private=private)
        found = api.create_commit(
            repo,
            [CommitOperationAdd(name, content) for name, content in sorted(files.items())],
            commit_message=f"Agent of deltarl {pack.manifest.deltarl}",
        )
    return str(found.commit_url)


def pull_pack(
    repo: str, path: Path | str | None = None, *, revision: str | None = None, overwrite: bool = False
) -> Path:
    """Download a packed agent from a repository of the Hugging Face Hub.

    Only the files of a packed agent are downloaded, after a look at their sizes, and checked against the manifest. The
    card may have been edited there. If it has not, the result equals the file that was uploaded.

    Args:
        repo: the repository, `user/name`.
        path: the file to write; default: the repository's name with .zip, in the current folder.
        revision: a branch, tag or commit; default: main.
        overwrite: replace an existing file.

    Returns:
        The file's path.

    Raises:
        ConfigError: if there is no packed agent, it is damaged, or it cannot be downloaded or written.
    """
    check_package("pull")
    target = Path(f"{repo.rpartition('/')[2]}{packed.SUFFIX}" if path is None else path)
    packed.check_target(target, "pull", overwrite=overwrite)
    with scratch() as cache:
        remote = _Remote(repo, revision, cache)
        content = remote.read(packed.MANIFEST)
        manifest = packed.parse_manifest(content, Path(repo))
        if (total := sum(entry.bytes for entry in manifest.files.values())) > archive.MOST_BYTES:
            raise ConfigError(f"pull: {repo}: has {total:,} bytes, more than {archive.MOST_BYTES:,}")
        files = {name: remote.read(name, manifest.files[name].bytes) for name in manifest.files}
    packed.check_files(manifest, files, Path(repo), edited={packed.CARD})
    packed.write_pack(target, files, seed=manifest.seed, policy=manifest.policy, version=manifest.deltarl)
    return target


def check_package(asker: str) -> None:
    """Check that huggingface_hub is installed.

    Raises:
        ConfigError: naming the command that installs it.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(f"{asker}: {MISSING}")


class _Remote:
    """The files of one commit of a repository, downloaded into a folder of their own."""

    def __init__(self, repo: str, revision: str | None, cache: Path) -> None:
        self.repo, self.revision, self.cache = repo, revision, cache

    def read(self, name: str, size: int | None = None) -> bytes:
        """Download a file.

        Args:
            name: must be one that a packed agent has.
            size: what its manifest says; a card may have any.

        Raises:
            ConfigError: if it cannot be downloaded, or is larger than it may be.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415 - an extra

        if (most := packed.largest(name)) is None:
            raise ConfigError(f"pull: {self.repo}: lists {name[:80]!r}, which no packed agent has")
        with _one_line(f"pull: {self.repo}"):
            there = get_hf_file_metadata(hf_hub_url(self.repo, name, revision=self.revision))
            # All files are read from the commit that the first one came from.
            self.revision = there.commit_hash or self.revision
        if there.size is None or there.size > most or (size not in {None, there.size} and name != packed.CARD):
            expected = f"at most {most:,}" if size is None or size > most else f"{size:,}"
            raise ConfigError(f"pull: {self.repo}: {name}: expected {expected} bytes, got {there.size or 0:,}")
        with _one_line(f"pull: {self.repo}"):
            path = Path(hf_hub_download(self.repo, name, revision=self.revision, cache_dir=self.cache))
        with readable(Path(self.repo, name)):
            return content_of(path.resolve(), most)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn whatever a client of HTTP raises into one line; tokens are in headers, which errors do not show."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason: Any = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ConfigError(f"{what}: {type(error).__name__}: {reason}") from None
