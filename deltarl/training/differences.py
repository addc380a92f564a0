"""The differences between two configs, and which of them a resumed run may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deltarl import yaml_text
from deltarl.envs import KNOWN_SCORES
from deltarl.errors import ConfigError
from deltarl.training.spec import Part, RunSpec, fields_of

# What may change when a run is resumed.
_FREE = (
    *fields_of(Part.PLACE, Part.CADENCE, Part.SCORING, Part.MACHINE, Part.ROUNDING, Part.LENGTH),
    *(f"env.{name}" for name in KNOWN_SCORES),
)


def differing(folder: Path, keys: list[str]) -> ConfigError:
    """The error for resuming a run with another config."""
    return ConfigError(
        f"{folder}: cannot resume with another config; these keys differ: {', '.join(keys)}; "
        "only eval, checkpoint, gates, logging, threads, device and a larger total_timesteps may"
    )


def fixed_differences(stored: RunSpec, spec: RunSpec) -> list[str]:
    """The keys in which `spec` differs from the stored config but must not, with both values."""
    found = [
        f"{key} ({old} in the run, {new} given)"
        for key, (old, new) in differences(stored, spec).items()
        if not key.startswith(_FREE)
    ]
    if spec.total_timesteps < stored.total_timesteps:
        found.append(
            f"total_timesteps ({stored.total_timesteps} in the run, {spec.total_timesteps} given; it can only grow)"
        )
    return found


def differences(one: RunSpec, other: RunSpec) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with both values; a missing key is not the same as null.

    Values of different types differ, such as 1 and true. NaN equals NaN.
    """
    ours, theirs = (leaves(_content(spec)) for spec in (one, other))
    keys = sorted(ours.keys() | theirs.keys())
    return {
        key: (ours.get(key, "nothing"), theirs.get(key, "nothing"))
        for key, following in zip(keys, [*keys[1:], ""], strict=True)
        if not (key in ours and key in theirs and yaml_text.is_same(ours[key], theirs[key]))
        and not following.startswith(f"{key}.")  # an empty mapping, which the other one fills
    }


def _content(spec: RunSpec) -> dict[str, Any]:
    """A config as JSON, except the environment's kwargs, whose keys may be integers."""
    content = spec.model_dump(mode="json")
    content["env"]["kwargs"] = spec.env.kwargs
    return content


def leaves(content: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested mappings, with keys joined by dots; an empty mapping is a value."""
    if not isinstance(content, dict) or (path and not content):
        return {path: content}
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"[{key}]" if not isinstance(key, str) else repr(key) if "." in key else key
        found |= leaves(value, f"{path}.{name}" if path else name)
    return found
