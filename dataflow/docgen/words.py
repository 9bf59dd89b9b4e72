"""Types, bounds and defaults in words: how a model's field or a dataclass's reads to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dataflow.domain.spec import seconds, size

_WORDS: Mapping[object, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    datetime: "time",
    Any: "any value",
    object: "any value",
}
_BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
_LENGTHS = {"min_length": "not empty", "max_length": "at most {} characters"}


def type_text(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in words: what may be written, and its bounds."""
    named = next((word for word in map(_unit, metadata) if word), None)
    bounds = [text for constraint in metadata for text in _bounds(constraint, named)]
    return ", ".join([named or word(annotation), *bounds])


def _unit(constraint: Any) -> str | None:
    parse = getattr(constraint, "func", None)
    if parse is seconds or getattr(parse, "__name__", "") == "_seconds":
        return "duration"
    return "size" if parse is size else None


def _bounds(constraint: Any, unit: str | None) -> Iterable[str]:
    for name, text in _BOUNDS.items():
        value = getattr(constraint, name, None)
        if value is not None:
            yield text.format(amount(value, unit))
    for name, text in _LENGTHS.items():
        value = getattr(constraint, name, None)
        if value is not None:
            yield text.format(value)
    if (pattern := getattr(constraint, "pattern", None)) is not None:
        yield f"`{pattern}`"


def word(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], arguments[1:])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{choice.value}`" for choice in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {word(arguments[1])}"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"list of {word(arguments[0])}"
    if arguments:  # a union
        return " or ".join(dict.fromkeys(word(one) for one in arguments if one is not NoneType))
    if supertype := getattr(annotation, "__supertype__", None):
        return word(supertype)
    return str(getattr(annotation, "__name__", annotation))


def default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=False)
    unit = next((word for word in map(_unit, field.metadata) if word), None)
    if value is None or value is PydanticUndefined or value in ("", (), {}, []):
        return ""
    if isinstance(value, BaseModel):
        return ""
    return f"`{amount(value, unit)}`"


def amount(value: Any, unit: str | None) -> str:
    if unit == "duration":
        exact = [
            f"{value / length:g}{name}"
            for name, length in (("d", 86400), ("h", 3600), ("m", 60))
            if value and value % length == 0
        ]
        return exact[0] if exact else f"{value:g}s" if value >= 1 or not value else f"{value * 1000:g}ms"
    if unit == "size":
        for name, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value and value % length == 0:
                return f"{value // length}{name}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str):
        return value.encode("unicode_escape").decode()
    return str(value)
