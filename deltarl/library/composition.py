"""Merges a config with its agent, environment and overrides, and validates the result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from deltarl.agents import AnyAgentSpec
from deltarl.encoders import ENCODER_KINDS, merge_encoder
from deltarl.envs import KNOWN_SCORES, EnvSpec
from deltarl.errors import ConfigError, first_complaint, suggestion
from deltarl.library.layers import COMMAND_LINE, Key, Layer, parse_override, read_yaml
from deltarl.library.lookup import find
from deltarl.torsos import KINDS as TORSOS
from deltarl.torsos import merge_torso
from deltarl.training.spec import CheckpointSpec, EvaluationSpec, GatesSpec, Part, RunSpec, fields_of

ROLES = ("actor_torso", "critic_torso")
TORSO_KEYS: tuple[str, ...] = ("torso", *ROLES)
# Keys whose values are a kind and its options.
KIND_KEYS = (*TORSO_KEYS, "encoder")
# Keys of an environment's file that belong to its id and would be wrong for another id.
OF_ONE_TASK = (*KNOWN_SCORES, "success")
# Keys of a config's environment that are kept when another environment replaces it.
KEPT_OF_ENV = ("n_envs", "normalize", "seeding", "vectorization")
# Keys left out of a run's name: they change where it is written, how it is stored and on what it runs, not what it is.
# If the user gives a name, it is used as it is.
UNNAMED_OVERRIDES = tuple(name for name in fields_of(Part.PLACE, Part.CADENCE, Part.MACHINE) if name != "name")
# Maximum lengths in the name of a run with overrides: the config's part, each override's, and the number of overrides.
LONGEST_NAME, LONGEST_TOLD, MOST_TOLD = 80, 24, 3
# Keys whose values are clear without the key.
NAMED_BY_VALUE = ("env", "agent", *KIND_KEYS, "kind", "id")
# The full path of keys that users may give without their parent, for suggestions.
_FIELDS = (
    ("torso", {name for spec in TORSOS.values() for name in spec.model_fields}),
    ("encoder", {name for spec in ENCODER_KINDS.values() for name in spec.model_fields}),
    ("agent", {name for spec in get_args(AnyAgentSpec) for name in spec.model_fields}),
    ("env", EnvSpec.model_fields),
    ("eval", EvaluationSpec.model_fields),
    ("checkpoint", CheckpointSpec.model_fields),
    ("gates", GatesSpec.model_fields),
)


@dataclass(frozen=True)
class Resolution:
    """A validated config with its overrides; `notes` are messages for the user."""

    spec: RunSpec
    notes: tuple[str, ...]


@dataclass
class _Tree:
    """The layers merged so far, with the location and original spelling of every key."""

    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, tuple[str, Key]] = field(default_factory=dict)

    def add(self, layer: Layer) -> None:
        agent, env = layer.data.get("agent"), layer.data.get("env")
        if isinstance(agent, dict):
            for key in [name for name in KIND_KEYS if name in agent]:
                self._add_kind(layer, ("agent", key), agent.pop(key))
        # `torso` before the roles, whatever the order in the file.
        for key in [name for name in KIND_KEYS if name in layer.data]:
            self._add_kind(layer, (key,), layer.data[key])
        if isinstance(env, dict) and "id" in env and isinstance(self.data.get("env"), dict):
            for key in OF_ONE_TASK:
                self.data["env"].pop(key, None)
        for key in [name for name in layer.data if name not in KIND_KEYS]:
            self._merge(self.data, layer, (key,), layer.data[key])

    def _add_kind(self, layer: Layer, key: Key, value: Any) -> None:
        name, merge = ("an encoder", merge_encoder) if key[-1] == "encoder" else ("a torso", merge_torso)
        if not isinstance(value, str | dict):
            raise ConfigError(f"{layer.asker(key)}: expected {name}'s kind or a mapping; got {value!r}")
        for role in ROLES if key[-1] == "torso" else (key[-1],):
            self.data[role] = merge(self.data.get(role, {}), value)
            self.places[(role,)] = layer.spelled(key)
            for option in value if isinstance(value, dict) else ("kind",):
                place_key = (*key, option) if isinstance(value, dict) else key
                self.places[role, option] = layer.spelled(place_key)

    def _merge(self, into: dict[str, Any], layer: Layer, key: Key, value: Any) -> None:
        name = key[-1]
        # A schedule replaces the old value. Any other mapping is merged into it.
        if isinstance(value, dict) and "schedule" not in value:
            self.places.setdefault(key, layer.spelled(key))
            if not isinstance(into.get(name), dict):
                into[name] = {}
            for child, item in value.items():
                self._merge(into[name], layer, (*key, child), item)
        else:
            self.places[key] = layer.spelled(key)
            into[name] = value

    def complain(self, key: Key, message: str, fallback: str) -> ConfigError:
        for length in range(len(key), 0, -1):
            if key[:length] in self.places:
                place, spelling = self.places[key[:length]]
                return ConfigError(f"{place}: {'.'.join((*spelling, *key[length:]))}: {message}")
        return ConfigError(f"{fallback}: {'.'.join(key)}: {message}")


def resolve(config: str, overrides: Sequence[str] = ()) -> Resolution:
    """Read a config, apply overrides and validate the result.

    Args:
        config: a name, or the path of a YAML file; a run's config.yaml reproduces the run.
        overrides: `key.path=value`; later ones win. Values are YAML.

    Raises:
        ConfigError: naming the file or command line, the key, and the expected value.
    """
    path = find("configs", config, f"{COMMAND_LINE}: config")
    base = read_yaml(path)
    resolution = compose([base, *map(parse_override, overrides)], path.stem)
    if any(text.startswith("name=") for text in overrides):
        return resolution
    spec = resolution.spec
    return replace(resolution, spec=spec.model_copy(update={"name": name_with(spec.name, overrides, spec.digest())}))


def name_with(name: str, overrides: Sequence[str], digest: str) -> str:
    """The name of a config with overrides: its own name, up to three of their values, and six digits of the digest.

    The digest distinguishes what the values do not show: `quickstart+walker2d+width=128-e97f88`.
    """
    chosen = dict(text.split("=", 1) for text in overrides if re.split("[.=]", text)[0] not in UNNAMED_OVERRIDES)
    if not chosen:
        return name
    told = [text for text in map(_told, chosen, chosen.values()) if text is not None][:MOST_TOLD]
    return f"{'+'.join([name[:LONGEST_NAME], *told])}-{digest[:6]}"


def _told(key: str, value: str) -> str | None:
    """An override in a few characters; None for a value that is too long or has to be quoted."""
    leaf = key.rpartition(".")[2]
    if re.fullmatch("[1-9][0-9]*000", value.replace("_", "")):
        number = int(value.replace("_", ""))
        value = f"{number // 1_000_000}M" if number % 1_000_000 == 0 else f"{number // 1000}k"
    text = value if leaf in NAMED_BY_VALUE else f"{leaf}={value}"
    return text if len(text) <= LONGEST_TOLD and re.fullmatch("[A-Za-z0-9=._-]+", text) else None


def compose(layers: Sequence[Layer], name: str) -> Resolution:
    """Merge layers, later ones over earlier ones, and validate the result.

    Args:
        layers: the first may name an agent and an environment, which later ones may replace.
        name: the run's name if no layer gives one.

    Raises:
        ConfigError: naming the file or command line, the key, and the expected value.
    """
    base, *changes = deepcopy(list(layers))
    notes = list(_replace_base(base, changes))
    tree = _Tree()
    for kind in ("agent", "env"):
        _add_base(tree, base, changes, kind)
    for layer in (base, *changes):
        tree.add(layer)
    known = {*RunSpec.model_fields, "torso"}
    for key in tree.data:
        if key not in known:
            deeper = [f"'{holder}.{key}'" for holder, fields in _FIELDS if key in fields]
            hint = f"; did you mean {' or '.join(deeper)}?" if deeper else suggestion(key, sorted(known))
            if key == "base":
                hint = "; configs have no base, but `deltarl copy` copies a shipped config for you to edit"
            raise tree.complain((key,), f"unknown key{hint}", base.source)
    tree.data.setdefault("name", name)
    try:
        spec = RunSpec.model_validate(tree.data)
    except ValidationError as error:
        where, message = first_complaint(error, tree.data)
        raise tree.complain(where, message, base.source) from None
    try:
        spec.check_seeds()
    except ConfigError as error:
        raise ConfigError(f"{base.source}: {error}") from None
    idle = getattr(spec.agent, "learning_starts", 0)
    if idle >= spec.total_timesteps:
        notes.append(
            f"agent.learning_starts is {idle:,} and total_timesteps {spec.total_timesteps:,}: nothing will be learned"
        )
    return Resolution(spec, tuple(notes))


def load_config(config: str, *overrides: str) -> RunSpec:
    """Load a config by name or path, with `key.path=value` overrides as on the command line.

    Raises:
        ConfigError: naming the file or command line, the key, and the expected value.
    """
    return resolve(config, overrides).spec


def check(path: Path) -> None:
    """Validate the file of an agent, environment, config or comparison; the kind follows from its keys.

    Raises:
        ConfigError: naming the file, line, key, and the expected value.
    """
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{path}: expected a file that ends in .yaml or .yml")
    data = read_yaml(path).data
    if "algorithm" in data:
        # Whether it fits the number of environments depends on the configs that use it.
        alone = ["env.n_envs=1"] if isinstance(data.get("train_freq"), list) else []
        resolve("quickstart", [f"agent={json.dumps(str(path))}", *alone])
    elif "id" in data:
        resolve("quickstart", [f"env={json.dumps(str(path))}"])
    else:
        resolve(str(path))


def _replace_base(config: Layer, changes: list[Layer]) -> Iterator[str]:
    """Replace the config's agent or environment with one named on the command line; yield notes on settings that stay.

    Another agent has other hyperparameters, so the config's are dropped. Another environment keeps the settings in
    `KEPT_OF_ENV`, which say how agents train in it.
    """
    replaced = [
        kind
        for kind in ("agent", "env")
        if any(
            _names_base(layer.data.get(kind)) and _base_of(layer.data[kind]) != _base_of(config.data.get(kind))
            for layer in changes
        )
    ]
    for kind in replaced:
        own = config.data.pop(kind, None)
        if kind == "env" and isinstance(own, dict):
            config.data[kind] = {name: value for name, value in own.items() if name in KEPT_OF_ENV}
    stays = [
        f"{kind}.{name}"
        for kind in ("agent", "env")
        if isinstance(config.data.get(kind), dict)
        for name in config.data[kind]
        if name != "base"
    ]
    if replaced and stays:
        yield f"{config.source} was tuned for another {' and '.join(replaced)}; these settings stay: {', '.join(stays)}"


def _base_of(value: Any) -> Any:
    return value.get("base") if isinstance(value, dict) else value


def _names_base(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "base" in value)


def _add_base(tree: _Tree, config: Layer, changes: list[Layer], kind: str) -> None:
    """Add the named agent or environment under its key, and remove the name from the layers that gave it."""
    named: tuple[str, str] | None = None
    for layer in (config, *changes):
        value = layer.data.get(kind)
        if isinstance(value, str):
            named = (value, layer.asker((kind,)))
            del layer.data[kind]
        elif isinstance(value, dict) and "base" in value:
            base = value.pop("base")
            if not isinstance(base, str):
                raise ConfigError(f"{layer.asker((kind, 'base'))}: expected a name; got {base!r}")
            named = (base, layer.asker((kind, "base")))
    if named is None:
        return
    found = read_yaml(find(f"{kind}s", *named))
    places = {(kind, *key): place for key, place in found.places.items()}
    tree.add(Layer({kind: found.data}, places, found.source))
