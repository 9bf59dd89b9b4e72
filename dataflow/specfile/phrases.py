"""pydantic's errors in words for people: where in the document, what is wrong, and what was probably meant.

Every problem names a path of the document itself (union members and the like, which pydantic puts into its locations,
are left out); errors of the members of a union become one problem.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from dataflow.errors import Problem
from dataflow.specfile import codes
from dataflow.specfile.document import Path, children, dotted

_EXPECTED = {
    "int_": "a whole number",
    "float_": "a number",
    "decimal_": "a number",
    "bool_": "true or false",
    "string_type": "text",
    "string_sub": "text",
    "bytes_": "text",
    "list_": "a list",
    "tuple_": "a list",
    "set_": "a list",
    "frozen_set": "a list",
    "dict_": "a mapping (key: value)",
    "mapping_": "a mapping (key: value)",
    "model_": "a mapping (key: value)",
    "dataclass_": "a mapping (key: value)",
    "datetime_": "a time such as 2026-01-31T12:00:00Z",
    "date_": "a date such as 2026-01-31",
    "url_": "a URL",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("greater than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_LENGTHS = {
    "string_too_long": ("at most {} characters", "max_length"),
    "string_too_short": ("at least {} characters", "min_length"),
    "too_long": ("at most {} entries", "max_length"),
    "too_short": ("at least {} entries", "min_length"),
}


@dataclass(frozen=True, slots=True)
class _Found:
    """One error: its path in the document, whether it came from a member of a union, and the words for it."""

    path: Path
    through: Path | None  # where the union is, if there is one
    code: str
    expected: str = ""  # "must be <expected>, not <value>"
    message: str = ""
    hint: str = ""


def problems(
    errors: Sequence[ErrorDetails], data: object, model: type[BaseModel], *, keys: Sequence[str] = ()
) -> list[Problem]:
    """The problems behind `errors`, which `model` found in `data`. `keys` are allowed at the top beside the model's."""
    found = [_translate(error, data, model, keys) for error in errors if not _consequence(error, errors)]
    result: list[Problem] = []
    for group in _grouped(found):
        first = group[0]
        wanted = " or ".join(dict.fromkeys(f.expected for f in group if f.expected))
        message = f"must be {wanted}, not {shown(_at(data, first.path))}" if wanted else first.message
        hint = next((f.hint for f in group if f.hint), "")
        result.append(Problem(dotted(first.path), message, first.code, hint))
    return result


def unknown_key(name: str, known: Sequence[str]) -> tuple[str, str]:
    """Message and hint for a key that is not one of `known`."""
    return f"unknown key {name!r}", nearest(name, known, "known keys")


def nearest(name: str, known: Sequence[str], label: str) -> str:
    """`did you mean 'format'?`, or the list of what is known where nothing is near."""
    plain = {re.sub(r"[^a-z0-9]", "", candidate.lower()): candidate for candidate in known}
    near = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", name.lower()), plain, n=1)
    if near:
        return f"did you mean {plain[near[0]]!r}?"
    return f"{label}: {', '.join(known)}" if known else ""


def shown(value: object) -> str:
    """A value as people call it, cut short."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return repr(value if len(value) <= 40 else value[:37] + "...")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return str(value)


def keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the model allows at `path`; empty where it does not say."""
    return list(dict.fromkeys(key for candidate in _reached(model, path) for key in keys_of(candidate)))


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of one model as they are written in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _at(data: object, path: Path) -> object:
    for step in path:
        data = next(iter(children(data, step)), None)
    return data


def _consequence(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """pydantic does not count the invalid entries of a list, and then finds it too short."""
    depth = len(error["loc"])
    return error["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == error["loc"] for other in errors
    )


def _translate(error: ErrorDetails, data: object, model: type[BaseModel], keys: Sequence[str]) -> _Found:
    kind, context = error["type"], error.get("ctx", {})
    path, through = _located(error["loc"][:-1] if kind == "missing" else error["loc"], data)
    if kind == "missing":
        name = str(error["loc"][-1])
        return _Found((*path, name), through, codes.MISSING_KEY, message=f"missing key {name!r}")
    if kind == "extra_forbidden":
        known = [*keys_at(model, path[:-1]), *(keys if len(path) == 1 else ())]
        message, hint = unknown_key(str(path[-1]), known)
        return _Found(path, through, codes.UNKNOWN_KEY, message=message, hint=hint)
    value = _at(data, path)
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context.get("expected", ""))) or [str(context.get("expected", ""))]
        hint = nearest(value, choices, "") if isinstance(value, str) else ""
        wanted = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        return _Found(path, through, codes.BAD_VALUE, expected=wanted, hint=hint if hint.startswith("did") else "")
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return _Found(path, through, codes.OUT_OF_RANGE, expected=f"{words} {_number(context[name])}")
    if kind in _LENGTHS:
        words, name = _LENGTHS[kind]
        message = f"must have {words.format(context[name])}, and has {_length(value)}".replace(
            " 1 entries", " one entry"
        )
        return _Found(path, through, codes.OUT_OF_RANGE, message=message)
    if kind == "string_pattern_mismatch":
        message = f"{shown(value)} is not allowed here"
        return _Found(path, through, codes.BAD_VALUE, message=message, hint=_description(model, path, context))
    if kind in ("value_error", "assertion_error"):
        return _Found(path, through, codes.BAD_VALUE, message=str(context.get("error", error["msg"])))
    for start, expected in _EXPECTED.items():
        if kind.startswith(start):
            hint = f'quote it: "{value}"' if expected == "text" and isinstance(value, int | float) else ""
            return _Found(path, through, codes.WRONG_TYPE, expected=expected, hint=hint)
    return _Found(path, through, codes.BAD_VALUE, message=error["msg"][:1].lower() + error["msg"][1:])


def _located(loc: Sequence[int | str], data: Any) -> tuple[Path, Path | None]:
    """The part of pydantic's location that the document has, and where a step had to be left out (a union)."""
    path: Path = ()
    through: Path | None = None
    for step in loc:
        if found := children(data, step):
            [data] = found
            path = (*path, step)
        elif through is None:
            through = path
    return path, through


def _grouped(found: list[_Found]) -> Iterator[list[_Found]]:
    """Errors that belong together: those of one path, and of a union only the members that came farthest."""
    farthest: dict[Path, int] = {}
    for error in found:
        if error.through is not None:
            farthest[error.through] = max(farthest.get(error.through, 0), len(error.path))
    groups: dict[object, list[_Found]] = {}
    for n, error in enumerate(found):
        if error.through is None:
            groups[n] = [error]
        elif len(error.path) == farthest[error.through]:
            groups.setdefault(error.path, []).append(error)
    yield from groups.values()


def _number(limit: float) -> str:
    return str(int(limit)) if float(limit).is_integer() else str(limit)


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 0


def _description(model: type[BaseModel], path: Path, context: Any) -> str:
    """What the field's own description says of its values, else the pattern."""
    for candidate in _reached(model, path[:-1]):
        field = candidate.model_fields.get(str(path[-1]))
        if field is not None and field.description:
            return field.description
    return f"it must match {context.get('pattern')}"


def _reached(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    """The models that may describe what is at `path`; a step that is no field is an index or a free key."""
    models = [model]
    for step in path:
        fields = [f for m in models for name, f in m.model_fields.items() if step in (name, f.alias)]
        models = [inner for field in fields for inner in _models(field.annotation)] if fields else models
    return models
