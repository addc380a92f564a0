"""What a run's folder remembers of a tracker's run, so that a resumed run goes on in it without repeating a row."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from deltarl import disk
from deltarl.errors import ConfigError
from deltarl.reading import number, read_json, readable

log = logging.getLogger(__name__)

MOST_CHARACTERS = 1_000
_ID = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]{0,127})?")


@dataclass(frozen=True)
class Mark:
    """The place that a tracker has reached.

    Attributes:
        target: the project or store; a run that is resumed with another one starts there from its beginning.
        id: the tracker's name for its run; empty if there is none yet.
        step: the newest step of which it has rows; -1 for none.
        rows: the number of rows of that step.
        where: an address or a folder, for people.
    """

    target: str
    id: str = ""
    step: int = -1
    rows: int = 0
    where: str = ""

    @classmethod
    def read(cls, path: Path, target: str) -> Self:
        """Read the mark of a target; a new one if there is none, or one of another target, or a damaged one."""
        if not path.exists():
            return cls(target)
        try:
            content = read_json(path)
            with readable(path):
                texts = {name: str(content[name]) for name in ("target", "id", "where")}
                if any(len(text) > MOST_CHARACTERS for text in texts.values()):
                    raise ValueError("a text is too long")
                if not _ID.fullmatch(texts["id"]):  # trackers make paths of it
                    raise ValueError(f"id: expected letters and digits, got {texts['id']!r}")
                mark = cls(**texts, step=int(number(content["step"], -1)), rows=int(number(content["rows"], 0)))
        except ConfigError as error:
            log.warning("%s; the tracker starts a new run", error)
            return cls(target)
        return mark if mark.target == target else cls(target)

    def write(self, path: Path) -> None:
        """Write the mark, completely or not at all."""
        disk.replace(path, json.dumps(asdict(self), indent=2).encode())
