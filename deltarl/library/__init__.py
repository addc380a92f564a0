"""The library of agents, environments, configs and comparisons: finds, reads and combines YAML files.

Errors name file and line.
"""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.library.composition import (
        ROLES,
        TORSO_KEYS,
        UNNAMED_OVERRIDES,
        Resolution,
        check,
        compose,
        load_config,
        name_with,
        resolve,
    )
    from deltarl.library.layers import COMMAND_LINE, Key, Layer, parse_override, read_yaml
    from deltarl.library.lookup import KINDS, find, names
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            **dict.fromkeys(
                (
                    "ROLES",
                    "TORSO_KEYS",
                    "UNNAMED_OVERRIDES",
                    "Resolution",
                    "check",
                    "compose",
                    "load_config",
                    "name_with",
                    "resolve",
                ),
                "deltarl.library.composition",
            ),
            **dict.fromkeys(("COMMAND_LINE", "Key", "Layer", "parse_override", "read_yaml"), "deltarl.library.layers"),
            **dict.fromkeys(("KINDS", "find", "names"), "deltarl.library.lookup"),
        },
    )

__all__ = [
    "COMMAND_LINE",
    "KINDS",
    "ROLES",
    "TORSO_KEYS",
    "UNNAMED_OVERRIDES",
    "Key",
    "Layer",
    "Resolution",
    "check",
    "compose",
    "find",
    "load_config",
    "name_with",
    "names",
    "parse_override",
    "read_yaml",
    "resolve",
]
