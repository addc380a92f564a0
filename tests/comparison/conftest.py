"""What the tests share that train whole comparisons."""

from __future__ import annotations

from collections.abc import Iterator

import forked
import pytest


@pytest.fixture(scope="module")
def imported_once() -> Iterator[None]:
    """Launchers of this process fork theirs; a command of its own starts new ones."""
    with pytest.MonkeyPatch.context() as patch:
        forked.launched(patch)
        yield
