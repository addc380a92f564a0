"""Kinds of files that have a JSON Schema."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Kinds of files."""

    config = "config"
    agent = "agent"
    env = "env"
    comparison = "comparison"
    space = "space"
