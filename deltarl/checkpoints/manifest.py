"""The schema of a checkpoint's manifest, strict because manifests may come from elsewhere and name paths."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deltarl.errors import complaint

FORMAT = 1
TREE = "state.json"
TENSORS = "state.safetensors"
REPLAY = "replay"
PARITY = f"{REPLAY}/parity"
POLICY = "policy.safetensors"
NORMALIZER = "normalizer.npz"
# The required and the allowed files of a checkpoint, and of the policy of the best evaluation.
STATE_FILES = {TREE, TENSORS}, {TREE, TENSORS, PARITY}
BEST_FILES = {POLICY}, {POLICY, NORMALIZER}

Count = Annotated[int, Field(ge=0, le=2**62)]


def segment(index: int) -> str:
    """The name of a segment of the replay transitions."""
    return f"{REPLAY}/{index:05}.safetensors"


class File(BaseModel):
    """Size and digest of a file."""

    model_config = ConfigDict(strict=True)

    bytes: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Layout(BaseModel):
    """Layout of the replay transitions: rows per segment, dtype and shape of each array."""

    model_config = ConfigDict(strict=True)

    rows: int = Field(ge=1)
    arrays: dict[str, list[str | Count]]


class TrainingStep(BaseModel):
    """The implementation of the training step, and the reason if it is not the lean one."""

    model_config = ConfigDict(strict=True)

    implementation: Literal["deltarl", "sb3"]
    reason: str = ""


class Manifest(BaseModel):
    """The manifest; its file names are a closed set, all within the checkpoint's folder."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    format: int
    steps: Count
    files: dict[str, File]
    replay: Layout | None = None
    records: dict[str, Count] = {}
    state: Count = 1
    unsupported: dict[str, str] = {}
    resumes: Count = 0
    continued: list[str] = []
    callbacks: list[str] = []
    callbacks_not_stored: dict[str, str] = {}
    elapsed_seconds: float = Field(0.0, ge=0)
    return_mean: float | None = None
    packages: dict[str, Any] = {}
    training_step: TrainingStep | None = None

    @model_validator(mode="after")
    def _names_are_known(self) -> Manifest:
        is_best = POLICY in self.files
        needed, known = BEST_FILES if is_best else STATE_FILES
        others = self.files.keys() - known
        segments = set() if is_best else {segment(index) for index in range(len(others))}
        if others != segments:
            raise complaint(
                f"names files that do not belong in it: {', '.join(sorted(others - segments))[:80]}", key="files"
            )
        if lacking := needed - self.files.keys():
            raise complaint(f"does not name {', '.join(sorted(lacking))}", key="files")
        if is_best and self.return_mean is None:
            raise complaint("missing", key="return_mean")
        return self
