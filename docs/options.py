"""Tables of options, from the specs."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from deltarl.agents import (
    AnyAgentSpec,
    KLAdaptiveScheduleSpec,
    LinearScheduleSpec,
)
from deltarl.agents.base import AlgorithmSpec, GSDESpec, WindowSpec
from deltarl.encoders import ENCODERS, EncoderSpec
from deltarl.errors import Spec
from deltarl.recording.spec import LOGGERS, LoggerSpec
from deltarl.torsos import KINDS, TORSO_KINDS, TorsoSpec

ROOT = Path(__file__).resolve().parent.parent


def options_table() -> str:
    """Every torso option: range, default and the kinds that have it."""
    kinds = [KINDS[kind] for kind in TORSO_KINDS]
    options = list(dict.fromkeys((name, str(spec.model_fields[name])) for spec in kinds for name in spec.model_fields))
    rows = []
    for name, form in options:
        holders = [
            spec
            for spec in kinds
            if str(spec.model_fields.get(name)) == form and name not in getattr(spec, "unread", ())
        ]
        field = holders[0].model_fields[name]
        if name == "kind":
            continue
        of = ", ".join(f"`{spec.model_fields['kind'].default}`" for spec in holders)
        values = values_of(field.annotation, field.metadata) + (", null" if name == "hidden" else "")
        rows.append(f"| `{name}` | {of} | {values} | {_default(name, field)} | {field.description} |")
    return "\n".join(["| option | of | values | default | |", "|---|---|---|---|---|", *rows])


def encoders_table() -> str:
    """Every encoder with its options."""
    rows = []
    for spec in ENCODERS:
        cells = [
            f"`{name}`: {values_of(field.annotation, field.metadata)}; {_default(name, field)}. {field.description}"
            for name, field in spec.model_fields.items()
            if name != "kind"
        ]
        rows.append(f"| `{spec.model_fields['kind'].default}` | {spec.__doc__} | {' '.join(cells) or '—'} |")
    return "\n".join(["| kind | | options: values; default |", "|---|---|---|", *rows])


def loggers_table() -> str:
    """Every logger with its options."""
    rows = []
    for name, spec in LOGGERS.items():
        cells = [
            f"`{option}`: {values_of(field.annotation, field.metadata)}; {_default(option, field)}. {field.description}"
            for option, field in spec.model_fields.items()
            if option != "sink"
        ]
        extra = f"`{spec.package}`" if spec.package else "—"
        rows.append(f"| `{name}` | {extra} | {spec.__doc__} | {' '.join(cells) or '—'} |")
    return "\n".join(["| logger | extra | | options: values; default |", "|---|---|---|---|", *rows])


def values_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(parts[0], _flat(parts[1:]))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in {types.UnionType, Union}:
        forms = dict.fromkeys(values_of(part, metadata) for part in parts if part is not type(None))
        return " or ".join(forms) + (", null" if type(None) in parts else "")
    if origin is tuple:
        return _values_of_tuple(*parts)
    return _values_of_class(origin or annotation, metadata)


def _values_of_tuple(first: Any, second: Any) -> str:
    if second is not Ellipsis:
        return f"[{values_of(first)}; {values_of(second)}]"
    kind, _, limits = values_of(first).partition(", ")
    return f"list of {kind}s" + (f", each {limits}" if limits else "")


def _values_of_class(cls: type, metadata: Sequence[Any]) -> str:
    if cls in {LinearScheduleSpec, KLAdaptiveScheduleSpec}:
        return "[schedule](#schedules)"
    if cls not in {int, float}:
        return {bool: "`true`, `false`", str: "text"}.get(cls, "mapping")
    limits = {symbol: getattr(item, name) for item in metadata for name, symbol in _LIMITS if hasattr(item, name)}
    kind = "integer" if cls is int else "number"
    return ", ".join([kind, *(f"{symbol} {limit:.10g}" for symbol, limit in limits.items())])


def _flat(metadata: Iterable[Any]) -> list[Any]:
    """The contents of `Annotated`, including those of a `Field` in it."""
    return [item for found in metadata for item in (found.metadata if isinstance(found, FieldInfo) else (found,))]


_LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        return {
            "hidden": "`null`",
            "head_width": "16, or less",
            "heads": "width / head_width",
            "beta_init": "0.5, or less",
            "expand": "`linear`",
        }.get(name, "its own")
    if isinstance(value, Spec):
        return f"`{value.kind}`" if isinstance(value, TorsoSpec | EncoderSpec) else "as below"
    if isinstance(value, int) and value >= 10_000:
        return f"`{value:_}`"
    if isinstance(value, tuple):
        value = f"[{', '.join(each.sink if isinstance(each, LoggerSpec) else str(each) for each in value)}]"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


ALGORITHMS: dict[str, type[AlgorithmSpec]] = {
    get_args(spec.model_fields["algorithm"].annotation)[0]: spec for spec in get_args(AnyAgentSpec)
}
ON_POLICY = ("ppo", "recurrent_ppo", "a2c", "trpo")
ACTOR_CRITIC = ("sac", "tqc", "crossq", "td3", "ddpg")
Q_LEARNING = ("dqn", "qrdqn")
# The fields that on-policy and off-policy algorithms share.
SHARED = tuple(dict.fromkeys(name for spec in (AlgorithmSpec, WindowSpec, GSDESpec) for name in spec.model_fields))


def fields_table(spec: type[Spec], **stated: str) -> str:
    """Every field of a model; `stated` are defaults that are not set by the model."""
    rows = [
        f"| `{name}` | {_FORMS.get(name) or values_of(field.annotation, field.metadata)} "
        f"| {stated.get(name) or _default(name, field)} "
        f"| {description(spec, name)} |"
        for name, field in spec.model_fields.items()
    ]
    return "\n".join(["| key | values | default | |", "|---|---|---|---|", *rows])


def description(spec: type[Spec], name: str, others: Sequence[type[Spec]] = ()) -> str:
    """The description of a field in a model, the nearest of its bases, or else one of the other models."""
    bases = [base for model in (spec, *others) for base in model.__mro__ if issubclass(base, Spec)]
    said = (base.model_fields[name].description for base in bases if name in base.model_fields)
    found = next(filter(None, said), None)
    assert found, f"{spec.__name__}.{name} has no description"
    return found


# What a file contains for these models.
_FORMS = {
    "agent": "name or mapping",
    "env": "name or mapping",
    "actor_torso": "kind or mapping",
    "critic_torso": "kind or mapping",
    "encoder": "kind or mapping",
}


def shared_table() -> str:
    """Hyperparameters shared by on-policy and off-policy algorithms."""
    names = [name for name in SHARED if name != "algorithm"]
    head, line, *rows = _several(ALGORITHMS, names).splitlines()
    choice = f"| `algorithm` | all | {', '.join(f'`{name}`' for name in ALGORITHMS)} | required | Which one. |"
    return "\n".join([head, line, choice, *rows])


def family_table(algorithms: Sequence[str]) -> str:
    """The other hyperparameters of some algorithms."""
    models = {name: ALGORITHMS[name] for name in algorithms}
    return _several(models, [name for name in _all_fields(models) if name not in SHARED])


def policy_table() -> str:
    """Options of the policies of all algorithms."""
    models = {name: spec.model_fields["policy"].annotation for name, spec in ALGORITHMS.items()}
    return _several(models, _all_fields(models))


def _all_fields(models: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(field for model in models.values() for field in model.model_fields))


def _several(models: dict[str, Any], names: Iterable[str]) -> str:
    rows = []
    for name in names:
        fields = {owner: model.model_fields[name] for owner, model in models.items() if name in model.model_fields}
        missing = [owner for owner in models if owner not in fields]
        owners = "all" if not missing else f"all but {missing[0]}" if len(missing) == 1 else ", ".join(fields)
        values = _told_apart({owner: values_of(field.annotation, field.metadata) for owner, field in fields.items()})
        defaults = _told_apart({owner: _default(name, field) for owner, field in fields.items()})
        said = _told_apart({owner: description(models[owner], name, list(models.values())) for owner in fields})
        rows.append(f"| `{name}` | {owners} | {values} | {defaults} | {said} |")
    return "\n".join(["| key | of | values | default | |", "|---|---|---|---|---|", *rows])


def _told_apart(texts: dict[str, str]) -> str:
    """The most common text, followed by the algorithms with another one."""
    found = list(texts.values())
    common = max(dict.fromkeys(found), key=found.count)
    others = {text: [owner for owner in texts if texts[owner] == text] for text in dict.fromkeys(found)}
    del others[common]
    separator = " " if common.endswith(".") else "; "
    return separator.join([common, *(f"{', '.join(owners)}: {text}" for text, owners in others.items())])
