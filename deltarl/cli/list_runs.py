"""The rows of `deltarl list runs`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from deltarl.errors import ConfigError
from deltarl.reading import check_plain


class Order(StrEnum):
    """The columns that runs can be sorted by."""

    run = "run"
    score = "return"
    task = "task"
    agent = "agent"
    steps = "steps"


@dataclass(frozen=True)
class Row:
    """One run; missing or unreadable values are None.

    Attributes:
        status: finished, training, unfinished, unregistered (its environment is not registered), damaged, or best (a
            packed agent with the policy of the best evaluation).
        steps: training steps in its result, or in its newest checkpoint.
        reason: why the run cannot be read.
    """

    run: str
    status: str
    task: str | None = None
    agent: str | None = None
    steps: int | None = None
    return_mean: float | None = None
    return_std: float | None = None
    success_rate: float | None = None
    reason: str | None = None

    def told(self) -> dict[str, Any]:
        """All fields, with all digits."""
        return asdict(self)

    def shown(self) -> dict[str, str]:
        """The cells of a row, which fits into 80 columns if the name has ordinary length."""
        score = self.status
        if self.return_mean is not None:
            success = "" if self.success_rate is None else f", {self.success_rate:.0%}"
            score = f"{_rounded(self.return_mean)} +- {_rounded(self.return_std or 0.0)}{success}"
        return {
            "return": score,
            "task": self.task or "",
            "agent": self.agent or "",
            "steps": "" if self.steps is None else _short(self.steps),
            "run": self.run,
        }


def found_in(out: Path) -> Iterator[Row]:
    """Find the runs and the packed agents below a folder, in the order of their paths.

    Raises:
        ConfigError: if there is no such folder.
    """
    if not out.is_dir():
        raise ConfigError(f"list: no folder '{out}'; give --out")

    from deltarl.training.folder import SB3_MODEL, UnregisteredError
    from deltarl.training.packed import SUFFIX, is_pack, opened

    packs = [path for path in out.glob(f"**/*{SUFFIX}") if path.name != SB3_MODEL and is_pack(path)]
    for run in sorted([*(config.parent for config in out.glob("**/seed-*/config.yaml")), *packs]):
        try:
            with opened(run) as folder:
                yield replace(_read(folder, is_packed=folder != run), run=str(run))
        except ConfigError as error:
            status = "unregistered" if isinstance(error, UnregisteredError) else "damaged"
            yield Row(str(run), status, reason=str(error))


def ordered(rows: Iterator[Row], by: Order) -> Sequence[Row]:
    """Sort rows: numbers from the highest, text from A, rows without a value last."""
    key = {Order.score: "return_mean", Order.run: "run"}.get(by, by.value)
    having: list[Row] = []
    lacking: list[Row] = []
    for row in rows:
        (lacking if getattr(row, key) is None else having).append(row)
    return sorted(having, key=lambda row: getattr(row, key), reverse=by in {Order.score, Order.steps}) + lacking


def _read(run: Path, *, is_packed: bool) -> Row:
    from deltarl.checkpoints import checkpoint
    from deltarl.training import folder as files
    from deltarl.training.locks import is_locked
    from deltarl.training.records import evaluations_in
    from deltarl.training.result import check_complete, result_in

    check_plain(run)
    spec = files.load_spec(run)
    about = partial(Row, str(run), task=spec.env.id, agent=spec.agent.algorithm)
    if is_packed and (kept := checkpoint.best(run)) is not None:
        evaluation = evaluations_in(run)[kept.steps]
        return about(
            status="best",
            steps=kept.steps,
            return_mean=evaluation.return_mean,
            return_std=evaluation.return_std,
            success_rate=evaluation.success_rate,
        )
    if not (run / files.RESULT).exists():
        stored = checkpoint.steps_of(run)
        status = "training" if is_locked(run / files.PROVENANCE) else "unfinished"
        return about(status=status, steps=stored[0] if stored else None)
    result = result_in(run)
    check_complete(result, spec)
    return about(
        status=result.status,
        steps=result.steps,
        return_mean=result.final_return_mean,
        return_std=result.final_return_std,
        success_rate=result.success_rate,
    )


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _short(steps: int) -> str:
    """`301k`, `1.5M`."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if steps >= size:
            return f"{steps / size:.3g}{unit}"
    return str(steps)
