"""Hints for options that other programs spell differently."""

from __future__ import annotations

import pytest

from deltarl import load_config
from deltarl.cli.usage import KEYS, as_key
from deltarl.library.layers import parse_override
from deltarl.search.load import OWN, load_search


@pytest.mark.parametrize(
    ("option", "line", "key"),
    [
        ("--seed", "train quickstart --seed 3", "seeds=[3]"),
        ("--seed", "train quickstart --seed=3", "seeds=[3]"),
        ("--seed", "train quickstart --seed", "seeds=[...]"),
        ("--seed", "train quickstart --seed --jobs 1", "seeds=[...]"),
        ("--n_timesteps", "train quickstart --n_timesteps 1000", "total_timesteps=1000"),
        ("--lr", "compare quick --lr 1e-3", "agent.learning_rate=1e-3"),
        ("--seed", "gates runs --seed 3", None),
        ("--verbose", "train quickstart --verbose 1", None),
    ],
)
def test_a_setting_that_was_given_as_an_option_is_written_as_a_key(option: str, line: str, key: str | None) -> None:
    assert as_key(option, line.split()) == key


@pytest.mark.parametrize("key", sorted(set(KEYS.values())))
def test_the_keys_are_those_of_a_config(key: str) -> None:
    value = {
        "agent={}": "sac",
        "env={}": "walker2d",
        "torso={}": "residual",
        "device={}": "cpu",
        "agent.gamma={}": "0.9",
        "name={}": "a",
        "out={}": "a",
        "agent.batch_size={}": "64",
        "sampler={}": "random",
        "pruner={}": "median",
    }
    parse_override(text := key.format(value.get(key, "1")))
    if key.partition("=")[0] in OWN:
        load_search("quickstart", "ppo", text)
    else:
        load_config("quickstart", text)
