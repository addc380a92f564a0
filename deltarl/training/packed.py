"""Packed agents: the safe files of a run in one archive, which is read wherever a run's folder is.

README.md             a card about the agent, with curve.png
config.yaml  result.json  evaluations.csv  provenance.json  policy.safetensors  normalizer.npz    as in a run
metrics.jsonl  gates.npz    a part of the run's
checkpoints/best-<steps>/   instead of the final policy, if the policy of the best evaluation was packed
seeds.csv             scores of the run's other seeds
manifest.json         size and SHA-256 of each file
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zipfile import ZipFile

from pydantic import BaseModel, ConfigDict, Field

from deltarl import archive, disk, places
from deltarl.checkpoints.manifest import NORMALIZER, POLICY, File
from deltarl.errors import ConfigError, nearest
from deltarl.reading import neutralised, parse_json, readable
from deltarl.scratch import scratch

CONFIG = "config.yaml"
GATES = "gates.npz"
FORMAT = 1
SUFFIX = ".zip"
MANIFEST = "manifest.json"
CARD = "README.md"
CURVE = "curve.png"
SEEDS = "seeds.csv"
_MIB = 2**20
_SIZES = {POLICY: archive.MOST_BYTES, NORMALIZER: 16 * _MIB}
SIZES = {
    **_SIZES,
    **dict.fromkeys((MANIFEST, CARD, CONFIG, "result.json", "provenance.json", SEEDS), _MIB),
    **dict.fromkeys(("evaluations.csv", "metrics.jsonl", GATES, CURVE), 16 * _MIB),
}
_BEST = re.compile(r"checkpoints/best-\d{1,18}/(.+)", re.ASCII)
_BEST_SIZES = {**_SIZES, MANIFEST: _MIB}
_MOST_NESTED = 64 * _MIB  # of the arrays in an .npz file


class Manifest(BaseModel):
    """What a packed agent says about itself.

    Attributes:
        deltarl: the version that packed it.
        policy: which policy it contains: the final one, or that of the best evaluation.
        seed: the seed of the run that the policy comes from.
        files: all its files, without the manifest.
    """

    model_config = ConfigDict(strict=True)

    format: int
    deltarl: str
    policy: Literal["final", "best"]
    seed: Annotated[int, Field(ge=0)]
    files: Annotated[dict[str, File], Field(max_length=archive.MOST_MEMBERS)]


@dataclass(frozen=True)
class Pack:
    """A packed agent with files that match its manifest."""

    manifest: Manifest
    files: Mapping[str, bytes]


def largest(name: str) -> int | None:
    """The largest size of a file of a packed agent in bytes; None if it has no such file."""
    if best := _BEST.fullmatch(name):
        return _BEST_SIZES.get(best[1])
    return SIZES.get(name)


def write_pack(
    path: Path, files: Mapping[str, bytes], *, seed: int, policy: Literal["final", "best"], version: str
) -> None:
    """Write a packed agent, completely or not at all; the same files give the same bytes.

    Raises:
        ConfigError: if a file is too large, or the archive cannot be written.
    """
    entries = {name: File(bytes=len(data), sha256=disk.digest(data)) for name, data in sorted(files.items())}
    manifest = Manifest(format=FORMAT, deltarl=version, policy=policy, seed=seed, files=entries)
    for name, data in files.items():
        if len(data) > (most := largest(name) or 0):
            raise ConfigError(f"pack: {name} has {len(data):,} bytes; a packed agent takes {most:,}")
    content = archive.packed({**files, MANIFEST: manifest_text(manifest)})
    try:
        disk.replace(path, content)
    except OSError as error:
        raise ConfigError(f"pack: {path} cannot be written: {error.strerror or error}") from None


def read_pack(path: Path) -> Pack:
    """Read a packed agent into memory and check it against its manifest; what the files contain is not checked.

    Raises:
        ConfigError: if it is none, or is damaged.
    """
    with readable(path):
        files = archive.unpacked(path, largest)
        if MANIFEST not in files:
            raise ValueError(f"is not a packed agent: it contains no {MANIFEST}")
    manifest = parse_manifest(files.pop(MANIFEST), path)
    check_files(manifest, files, path)
    return Pack(manifest, files)


def manifest_text(manifest: Manifest) -> bytes:
    """The content of a manifest's file."""
    return json.dumps(manifest.model_dump(), indent=1).encode()


def parse_manifest(content: bytes, source: Path) -> Manifest:
    """Parse a manifest; `source` is the packed agent, for messages.

    Raises:
        ConfigError: if it is damaged, or of another format.
    """
    with readable(source / MANIFEST):
        written = parse_json(content)
        if isinstance(written, dict) and written.get("format") != FORMAT:
            raise ValueError(f"format {written.get('format')}; this version of deltarl reads {FORMAT}")
        return Manifest.model_validate(neutralised(written))


def check_files(
    manifest: Manifest, files: Mapping[str, bytes], source: Path, edited: Collection[str] = frozenset()
) -> None:
    """Check files against a manifest.

    Args:
        source: the packed agent, for messages.
        edited: files whose content may be another.

    Raises:
        ConfigError: naming the first file that does not match.
    """
    with readable(source):
        for name in manifest.files.keys() ^ files.keys():
            raise ValueError(f"{MANIFEST} and the archive disagree about {name[:80]}")
        for name, entry in manifest.files.items():
            is_same = (len(files[name]), disk.digest(files[name])) == (entry.bytes, entry.sha256)
            if not is_same and name not in edited:
                raise ValueError(f"{name}: its content is not what was packed (SHA-256 differs)")
            if name.endswith(".npz"):
                _check_arrays(name, files[name])


def check_target(path: Path, asker: str, *, overwrite: bool) -> None:
    """Check that a packed agent can be written, before any work is done for it.

    Raises:
        ConfigError: if not, or if it exists and `overwrite` is not given.
    """
    if path.suffix.lower() != SUFFIX:
        raise ConfigError(f"{asker}: {path}: expected a name that ends in {SUFFIX}")
    if not path.parent.is_dir():
        raise ConfigError(f"{asker}: {path.parent}: no such folder")
    places.check_file(path, asker)
    if path.exists() and not overwrite:
        raise ConfigError(f"{asker}: {path} already exists; give another name, or --overwrite")


def shipped() -> dict[str, Path]:
    """The packed agents that come with deltarl, by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob(f"*{SUFFIX}"))}


def shipped_folder() -> Path:
    """The folder of the packed agents that come with deltarl."""
    return places.shipped() / "results" / "agents"


def found(run: Path) -> Path:
    """The run, or the shipped agent of that name if there is no such file or folder."""
    return run if run.exists() else shipped().get(str(run), run)


def nothing_at(run: Path) -> str:
    """The message that there is no such run, with the nearest shipped agent."""
    return f"{run}: no such folder{nearest(str(run), shipped())}"


def is_pack(path: Path) -> bool:
    """Whether a file is a packed agent, damaged or not, by its names."""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    try:
        with readable(path):
            return {MANIFEST, CONFIG} <= archive.names_in(path)
    except ConfigError:
        return False


@contextmanager
def opened(run: Path) -> Iterator[Path]:
    """A run as a folder to read: the run's folder itself, or a packed agent, unpacked for the duration of the context.

    A bare name is that of a shipped agent, if there is no such file or folder.

    Errors name the packed agent, not the temporary folder.

    Raises:
        ConfigError: if the packed agent is damaged, or cannot be unpacked.
    """
    run = found(run)
    if not run.is_file():
        yield run
        return
    pack = read_pack(run)
    with ExitStack() as held:
        try:
            folder = held.enter_context(scratch())
            for name, content in pack.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        except OSError as error:
            raise ConfigError(
                f"{run}: cannot be unpacked into {tempfile.gettempdir()}: {error.strerror or error}"
            ) from None
        try:
            yield folder
        except ConfigError as error:
            raise type(error)(str(error).replace(str(folder), str(run))) from None


def _check_arrays(name: str, content: bytes) -> None:
    """An .npz file is an archive too: check the size that it claims, before anybody reads that much."""
    with ZipFile(io.BytesIO(content)) as arrays:
        if (size := sum(array.file_size for array in arrays.infolist())) > _MOST_NESTED:
            raise ValueError(f"{name} has {size:,} bytes unpacked, more than {_MOST_NESTED:,}")
