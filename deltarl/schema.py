"""JSON Schemas of the YAML files, from the same models that validate them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from deltarl.agents import AnyAgentSpec
from deltarl.comparison.spec import ARM_KEYS, ComparisonSpec, TuneSpec
from deltarl.encoders import ENCODER_KINDS
from deltarl.envs import EnvSpec
from deltarl.errors import Spec
from deltarl.recording.spec import LOGGERS
from deltarl.schema_kinds import Kind
from deltarl.search.spec import SearchSpec, SpaceSpec
from deltarl.torsos import KINDS
from deltarl.training.spec import RunSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROLES = ("actor_torso", "critic_torso")


def schema_of(kind: Kind) -> dict[str, Any]:
    """The schema of a kind of file.

    A file contains less than the validated model: a config names its agent and environment, or gives a `base` and the
    changes to it, and a torso or an encoder may be a bare kind.
    """
    definitions: dict[str, Any] = {}
    if kind is Kind.space:
        return {"$schema": DIALECT, "title": f"deltarl {kind}", **_space(SearchSpec, definitions), "$defs": definitions}
    kinds = _kinds(definitions)
    if kind is Kind.env:
        schema = _object([EnvSpec], definitions, required=["id", "kind"])
    elif kind is Kind.agent:
        schema = _object(list(get_args(AnyAgentSpec)), definitions, required=["algorithm"])
        schema["properties"] |= kinds
    else:
        schema = _config(definitions, kinds)
    if kind is Kind.comparison:
        schema = _comparison(schema, definitions)
    return {"$schema": DIALECT, "title": f"deltarl {kind}", **schema, "$defs": definitions}


def _config(definitions: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    schema = _object([RunSpec], definitions, required=["agent", "env", "total_timesteps"])
    files: dict[str, list[type[Spec]]] = {"agent": list(get_args(AnyAgentSpec)), "env": [EnvSpec]}
    for name, models in files.items():
        partial = _object(models, definitions)
        partial["properties"]["base"] = {"type": "string", "description": "Name or file that this one is based on."}
        if name == "agent":
            partial["properties"] |= kinds
        schema["properties"][name] = {"anyOf": [{"type": "string", "description": "Name or file."}, partial]}
    schema["properties"] |= kinds
    return schema


def _comparison(config: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The keys of a comparison, in addition to those of a config, which all of its runs share."""
    own = _object([ComparisonSpec], definitions, required=["arms", "reference", "tasks"])
    shared = config["properties"]
    task = {**config, "required": [], "properties": {**shared, "config": {"type": "string"}}}
    arm = {**config, "required": [], "properties": {key: shared[key] for key in ARM_KEYS}}
    for group, form in (("tasks", task), ("arms", arm), ("variants", arm)):
        own["properties"][group]["additionalProperties"] = {"anyOf": [{"type": "string"}, form]}
    tune = _space(TuneSpec, definitions)
    tune["properties"]["space"] = {"anyOf": [{"type": "string"}, tune["properties"]["space"]]}
    own["properties"]["tune"] = {"anyOf": [{"type": "null"}, tune], **_told(own["properties"]["tune"])}
    return {**own, "properties": {**shared, **own["properties"]}}


def _space(model: type[SpaceSpec], definitions: dict[str, Any]) -> dict[str, Any]:
    """The keys of a space; a list is a choice, and a bare name is a sampler or pruner with its defaults."""
    own = _object([model], definitions, required=["space"])
    parameters = own["properties"]["space"]
    parameters["additionalProperties"] = {"anyOf": [{"type": "array"}, parameters["additionalProperties"]]}
    for name in ("sampler", "pruner"):
        form = own["properties"][name]
        names = list(form["discriminator"]["mapping"])
        own["properties"][name] = {"anyOf": [{"enum": names}, {**form, "default": None}], **_told(form)}
    return own


def _kinds(definitions: dict[str, Any]) -> dict[str, Any]:
    """The properties whose values are a kind, bare or with its options."""
    torso, encoder = (_kind(families, definitions) for families in (KINDS, ENCODER_KINDS))
    return {**dict.fromkeys(("torso", *ROLES), torso), "encoder": encoder}


def _kind(families: Mapping[str, type[Spec]], definitions: dict[str, Any]) -> dict[str, Any]:
    options = _object(list(families.values()), definitions)
    options["properties"]["kind"] = {"enum": list(families)}
    return {"anyOf": [{"enum": list(families)}, options]}


def _object(models: list[type[Spec]], definitions: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """An object with every field of the models; a field whose form differs between models accepts each form."""
    forms: dict[str, list[Any]] = {}
    for model in models:
        schema = TypeAdapter(model).json_schema(ref_template="#/$defs/{model}")
        definitions |= schema.pop("$defs", {})
        for name, form in schema["properties"].items():
            kept = _as_written(name, {key: value for key, value in form.items() if key != "title"})
            if kept not in forms.setdefault(name, []):
                forms[name].append(kept)
    return {
        "type": "object",
        "properties": {name: found[0] if len(found) == 1 else {"anyOf": found} for name, found in forms.items()},
        "required": required or [],
        "additionalProperties": False,
    }


def _as_written(name: str, form: dict[str, Any]) -> dict[str, Any]:
    """A field's schema, extended by the forms that only YAML files may use."""
    if form.get("type") == "integer":
        # 1_000_000 is text in YAML 1.2, and so it is for editors.
        return {"anyOf": [form, {"type": "string", "pattern": "^[0-9][0-9_]*$"}], **_told(form)}
    if name == "seeds":
        return {"anyOf": [form, {"type": "integer", "minimum": 0}], **_told(form)}
    if name == "logging":
        one = {"anyOf": [{"enum": list(LOGGERS)}, form["items"]]}
        return {"anyOf": [{**form, "items": one}, one, {"type": "null"}], **_told(form)}
    return form


def _told(form: dict[str, Any]) -> dict[str, Any]:
    return {"description": form["description"]} if "description" in form else {}
