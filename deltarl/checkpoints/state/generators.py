"""Restores random generators: fills existing ones, or creates new ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltarl.checkpoints.state import kinds
from deltarl.checkpoints.state.snapshot import Walk


def put_bits(walk: Walk, old: Any, content: Any, node: dict[str, Any], path: str) -> Any:
    state = walk.fill({}, content, f"{path}/state")
    kind = kinds.BITS[node["class"]]
    fits = type(old) is kind
    seed = walk.fill(old.seed_seq if fits else None, node["seed"], f"{path}/seed")
    if fits and old.seed_seq is seed:
        bits = old
    elif seed is not None:
        bits = kind(seed)
    else:  # seeded as NumPy did before it had seed sequences
        bits = np.random.RandomState(0)._bit_generator
        if type(bits) is not kind:
            return walk.miss(path)
    bits.state = state
    return bits


def put_random_state(walk: Walk, old: Any, content: Any, node: dict[str, Any], path: str) -> np.random.RandomState:
    fits = type(old) is np.random.RandomState
    state = walk.fill({}, content, f"{path}/state")
    if "bits" not in node:
        generator = old if fits else np.random.RandomState()
    else:
        bits = walk.fill(old._bit_generator if fits else None, node["bits"], f"{path}/bits")
        generator = old if fits and old._bit_generator is bits else np.random.RandomState(bits)
    generator.set_state(state)
    return generator
