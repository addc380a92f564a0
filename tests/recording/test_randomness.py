"""Trackers do not draw from Python's random generator."""

from __future__ import annotations

import random

import pytest

from deltarl.recording.randomness import own_module, separate


def test_packages_draw_from_a_generator_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib3.util import retry  # noqa: PLC0415

    monkeypatch.setattr(retry, "random", random)
    failed = retry.RequestHistory("GET", "/", None, None, None)
    attempt = retry.Retry(backoff_factor=0.1, backoff_jitter=1.0, history=(failed, failed))
    before = random.getstate()
    attempt.get_backoff_time()
    assert random.getstate() != before

    separate(["urllib3"], own_module())
    before = random.getstate()
    waits = {attempt.get_backoff_time() for _ in range(5)}
    assert len(waits) == 5
    assert random.getstate() == before
