"""How a run ended: its result.json."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from deltarl.errors import ConfigError
from deltarl.reading import read_json, readable
from deltarl.training import folder as files
from deltarl.training.evaluation import Evaluation
from deltarl.training.records import evaluations_in
from deltarl.training.spec import RunSpec


@dataclass(frozen=True)
class RunResult:
    """How a run ended; everything except `folder` is in its result.json.

    Attributes:
        status: `finished`, or `stopped` if a callback ended the run; `notes` then names it.
        peak_memory_mib: peak memory of the process in MiB (2^20 bytes), including anything it did before; None if the
            system does not report it.
        resumes: how often the run was resumed.
        continued: why it differs from the uninterrupted run; empty if it is the same, bit for bit.
        notes: caveats about the score.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    folder: Path
    seed: Annotated[int, Field(ge=0)]
    status: str
    steps: Annotated[int, Field(ge=1)]
    wall_seconds: Annotated[float, Field(ge=0)]
    device: str
    episodes: Annotated[int, Field(ge=1)]
    final_return_mean: float
    final_return_std: Annotated[float, Field(ge=0)]
    success_rate: Annotated[float, Field(ge=0, le=1)] | None
    peak_memory_mib: Annotated[float, Field(ge=0)] | None = None
    resumes: Annotated[int, Field(ge=0)] = 0
    continued: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def scores(self) -> dict[str, float | str]:
        """What loggers show at the end of a run."""
        success = {} if self.success_rate is None else {"success_rate": self.success_rate}
        returns = {"return_mean": self.final_return_mean, "return_std": self.final_return_std}
        return {**returns, **success, "wall_seconds": self.wall_seconds, "status": self.status}


_RESULT = TypeAdapter(RunResult)


def result_in(folder: Path) -> RunResult:
    """Load the result of a finished run.

    Raises:
        ConfigError: if there is none, or it is damaged.
    """
    path = folder / files.RESULT
    content = read_json(path)
    with readable(path):
        # As JSON, because strict validation then accepts a list for a tuple.
        result = replace(_RESULT.validate_json(json.dumps({**content, "folder": "."})), folder=folder)
    if (folder / files.EVALUATIONS).exists():
        _check_scores(result, evaluations_in(folder))
    return result


def check_complete(result: RunResult, spec: RunSpec) -> None:
    """Refuse the result of a run that has fewer steps than its config requires.

    Raises:
        ConfigError: naming both numbers.
    """
    if result.steps < spec.total_timesteps:
        raise ConfigError(
            f"{result.folder / files.RESULT}: has {result.steps:,} steps, but {files.CONFIG} requires "
            f"{spec.total_timesteps:,}"
        )


def _check_scores(result: RunResult, evaluations: Mapping[int, Evaluation]) -> None:
    """Refuse a result that contradicts the run's last evaluation."""
    last = max(evaluations, default=None)
    recorded: dict[str, Any] = {"steps": last}
    if last == result.steps:
        found = evaluations[last]
        recorded |= {
            "episodes": len(found.returns),
            "final_return_mean": found.return_mean,
            "final_return_std": found.return_std,
            "success_rate": found.success_rate,
        }
    for name, there in recorded.items():
        here = getattr(result, name)
        if here is not there and (here is None or there is None or not math.isclose(here, there, rel_tol=1e-9)):
            raise ConfigError(
                f"{result.folder / files.RESULT}: contradicts {files.EVALUATIONS}: {name}: expected {there}, got {here}"
            )


def peak_memory() -> float | None:
    if not sys.platform.startswith("linux"):  # other systems use other units
        return None
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
