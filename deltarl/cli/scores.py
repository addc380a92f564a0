"""The wording of scores."""

from __future__ import annotations


def score_text(mean: float, std: float, episodes: int, success_rate: float | None) -> str:
    """`89.1 +- 1.9 over 20 episodes, success rate 0.95`; the spread is over episodes."""
    success = "" if success_rate is None else f", success rate {success_rate:.2f}"
    return f"{mean:,.1f} +- {std:,.1f} over {episodes} episode{'s' if episodes > 1 else ''}{success}"
