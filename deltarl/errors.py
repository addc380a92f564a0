"""Frozen, closed models, and errors that name the key and the expected value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from unicodedata import category

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from deltarl.yaml_text import is_number

# Texts that pydantic accepts as booleans, but YAML does not.
_ALSO_BOOL = frozenset({"on", "off", "yes", "no", "y", "n", "t", "f", "1", "0"})

# Characters that change the direction of writing, so that text looks different from what it is.
_TURNS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class ConfigError(ValueError):
    """Bad input; the message is one line that names the thing, the place and the expected value.

    Control characters, which names and files from elsewhere may contain, are shown as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))


class NonFiniteError(FloatingPointError):
    """A number is NaN or infinite; the message names the step, environment and key."""


class SeedFailedError(RuntimeError):
    """Some seeds failed; the message contains the first failure."""


class Spec(BaseModel):
    """Base class of all specs: frozen, closed, and with a suggestion for a misspelt key."""

    # Infinities may occur in an environment's kwargs, and would be serialised as null otherwise.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, ser_json_inf_nan="constants"
    )

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise complaint(f"unknown key{suggestion(str(key), cls.model_fields)}", key=str(key))
                if wanted := _taken_for_another(data[key], cls.model_fields[key].annotation):
                    raise complaint(f"expected {wanted}; got {data[key]!r}", key=str(key))
        return data


def _taken_for_another(value: Any, annotation: Any) -> str | None:
    """What was expected instead of a value that pydantic would coerce: True to 1, "010" to 10, "on" to true.

    Text with control characters is refused because it could not be read back from a run's folder.
    """
    kinds = _kinds(annotation)
    if isinstance(value, list | tuple):
        return next((wanted for each in value if (wanted := _taken_for_another(each, _item(annotation)))), None)
    if kinds & {int, float} and bool not in kinds and isinstance(value, bool):
        return "a number"
    if isinstance(value, str) and not is_plain(value):
        return "text without control characters"
    if isinstance(value, str) and not kinds & {str, Literal, Any}:
        if kinds & {int, float} and not is_number(value) and _is_number_of_python(value):
            return "a number"
        if bool in kinds and value.lower() in _ALSO_BOOL:
            return "true or false"
    return None


def _is_number_of_python(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kinds(annotation: Any) -> set[Any]:
    """The types of a union, without their annotations."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return {kind for each in get_args(annotation) for kind in _kinds(each)}
    return {get_origin(annotation) or annotation}


def _item(annotation: Any) -> Any:
    """The type of a list's items; Any if there are several."""
    if get_origin(annotation) is Annotated:
        return _item(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        lists = [each for each in get_args(annotation) if tuple in _kinds(each)]
        return _item(lists[0]) if len(lists) == 1 else Any
    items = get_args(annotation)
    return items[0] if get_origin(annotation) is tuple and items[1:] == (Ellipsis,) else Any


def complaint(message: str, key: str | None = None) -> PydanticCustomError:
    """An error to raise in a validator; `key` names the field (dotted if nested) if the whole model is validated."""
    # pydantic fills {braces} in the template from the context, so the text is passed through the context.
    return PydanticCustomError("complaint", "{message}", {"message": message, "key": key or ""})


def is_plain(text: str) -> bool:
    """Whether text can be printed as it is: no control characters except tabs and newlines, no lone surrogates."""
    return text.isprintable() or not any(map(_is_odd, text))


def plain(text: str) -> str:
    """The text, with each character that `is_plain` refuses replaced by its escape."""
    if is_plain(text):
        return text
    return "".join(ascii(character)[1:-1] if _is_odd(character) else character for character in text)


def _is_odd(character: str) -> bool:
    return character not in "\n\t" and (category(character) in {"Cc", "Cs"} or character in _TURNS)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or an empty string if none is near."""
    by_lower = {str(candidate).lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[near[0]]}'?" if near else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The text of `nearest`, or the list of known names if none is near."""
    names = list(known)
    return nearest(name, names) or f"; known are {', '.join(names)}"


def first_complaint(error: ValidationError, data: Any) -> tuple[tuple[str, ...], str]:
    """The first error in `data`, as the path of its key and a one-line message."""
    for found in error.errors(include_url=False):
        # The error of a default that is computed from another invalid field adds nothing.
        if found["type"] == "default_factory_not_called":
            continue
        context: Mapping[str, Any] = found.get("ctx", {})
        path = _plain_path(found["loc"], data, keep_last=found["type"] == "missing")
        message = found["msg"]
        if found["type"] == "union_tag_invalid":
            path = (*path, str(context["discriminator"]).strip("'"))
            names = [name.strip(" '") for name in str(context["expected_tags"]).split(",")]
            message = f"unknown name '{context['tag']}'{suggestion(str(context['tag']), names)}"
        elif found["type"] == "union_tag_not_found":
            path = (*path, str(context["discriminator"]).strip("'"))
            message = "missing"
        elif found["type"] == "literal_error":
            names = [name.strip(" '") for name in str(context["expected"]).replace(" or ", ", ").split(",")]
            message = f"{found['input']!r} is not one of {', '.join(names)}"
        elif found["type"] == "complaint":
            path = (*path, *context["key"].split(".")) if context["key"] else path
        elif found["type"] == "missing":
            message = "missing"
        elif found["type"] in {"model_type", "model_attributes_type", "dict_type"}:
            message = f"expected a mapping; got {found['input']!r}"
        elif found["type"] == "tuple_type":
            message = f"expected a list such as [0, 1]; got {found['input']!r}"
        else:
            message = f"{message[0].lower()}{message[1:]}; got {found['input']!r}"
        return path, message
    raise AssertionError("a ValidationError without an error")


def _plain_path(loc: Sequence[str | int], data: Any, keep_last: bool) -> tuple[str, ...]:
    """pydantic's location without the tags of unions, which do not occur in files.

    An item that is not in the data is such a tag, unless it is the last one and the error is that it is missing.
    """
    path: list[str] = []
    for position, item in enumerate(loc):
        if isinstance(data, Mapping):
            if item not in data and not (keep_last and position == len(loc) - 1):
                continue
            data = data.get(item)
        elif isinstance(data, Sequence) and isinstance(item, int) and item < len(data):
            data = data[item]
        else:
            continue
        path.append(str(item))
    return tuple(path)
