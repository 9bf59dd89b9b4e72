"""Checks of a definition as plain data: keys, types, values, references. Nothing is opened and nothing is built.

The frame (`dataflow.domain.spec`) and the options of every stage (the registry's models) are checked independently, so
that one mistake does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dataflow import references
from dataflow.components import Component, Config, Kind
from dataflow.domain.spec import PipelineSpec, SinkStage, SourceStage, Stage, TransformStage
from dataflow.errors import InvalidSpec, Problem
from dataflow.registry import component
from dataflow.specfile import codes
from dataflow.specfile.document import Path, children, dotted
from dataflow.specfile.phrases import keys_of, nearest, problems, shown

_FRAME: Mapping[Kind, type[Stage]] = {
    Kind.SOURCE: SourceStage,
    Kind.TRANSFORM: TransformStage,
    Kind.SINK: SinkStage,
}
_TOP = [key for key in PipelineSpec.model_fields if key not in ("sinks", "base")]


def examine(data: object) -> tuple[PipelineSpec | None, list[Problem]]:
    """The normalised definition, where there is nothing wrong with it, and every problem.

    Problem paths are those of `data` as written (`sink.path` or `sinks[0].path`); they carry no places yet."""
    if not isinstance(data, dict):
        message = f"a pipeline file is a mapping with the keys name, source, sink, not {shown(data)}"
        return None, [Problem("", message, codes.WRONG_TYPE)]
    found: list[Problem] = []
    # An optional part whose lines are all commented out is not there; nothing is not a value of it.
    data = {key: value for key, value in data.items() if value is not None or _required(key, data)}
    if "sink" in data and "sinks" in data:
        found.append(Problem("sinks", "sink and sinks exclude each other", codes.CONFLICT, "keep one of them"))
    spec, frame = _frame(data)
    found += frame
    for kind, path, stage in stages(data):
        found += _stage(kind, path, stage)
    found += _references(data)
    if spec is not None:
        found += _names(spec)
    # Whatever else a malformed reference is not: once is enough.
    broken = {problem.path for problem in found if problem.code == codes.BAD_REFERENCE}
    found = [problem for problem in found if problem.path not in broken or problem.code == codes.BAD_REFERENCE]
    return (None if found else spec), found


def stages(data: Mapping[str, Any]) -> Iterator[tuple[Kind, Path, dict[str, Any]]]:
    """Every source, transform and sink that is written as a mapping, with its path."""
    if isinstance(source := data.get("source"), dict):
        yield Kind.SOURCE, ("source",), source
    for n, transform in enumerate(_list(data.get("transforms"))):
        if isinstance(transform, dict):
            yield Kind.TRANSFORM, ("transforms", n), transform
    if isinstance(sink := data.get("sink"), dict):
        yield Kind.SINK, ("sink",), sink
    for n, one in enumerate(_list(data.get("sinks"))):
        if isinstance(one, dict):
            yield Kind.SINK, ("sinks", n), one


def options_of(found: Component, stage: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a stage: without what every stage of its kind has, unless the component asks for it too."""
    frame, own = _FRAME[found.kind].model_fields, found.config.model_fields
    return {key: value for key, value in stage.items() if key not in frame or (key in own and key != "type")}


def configure(found: Component, options: Mapping[str, Any], original: Mapping[str, Any] | None = None) -> Config:
    """Validate resolved options. Raises `InvalidSpec`, paths relative to the stage.

    `original` are the options as written: a value that came out of a reference is never shown."""
    try:
        return found.config.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidSpec(
            [_hidden(p, original) for p in problems(_details(error), dict(options), found.config)]
        ) from None


def _hidden(problem: Problem, original: Mapping[str, Any] | None) -> Problem:
    written = None if original is None else original.get(problem.path.partition(".")[0].partition("[")[0])
    names = ", ".join(references.references(written))
    if not names:
        return problem
    message = problem.message.rpartition(", not ")[0] if problem.message.startswith("must be") else "is not valid"
    return replace(problem, message=f"what {names} stands for {message}", hint="")


def _required(key: str, data: Mapping[str, Any]) -> bool:
    field = PipelineSpec.model_fields.get(key)
    if key == "sinks" and "sink" in data:
        return False
    return key == "sink" or (field is not None and field.is_required())


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False)


def _frame(data: dict[str, Any]) -> tuple[PipelineSpec | None, list[Problem]]:
    normal = {key: value for key, value in data.items() if key != "sink"}
    short = "sink" in data
    if short and "sinks" not in data:
        normal["sinks"] = [data["sink"]]
    try:
        return PipelineSpec.model_validate(normal), []
    except ValidationError as error:
        details = [_written(detail) if short else detail for detail in _details(error)]
        found = problems(details, data, PipelineSpec, keys=["sink"])
        untyped = {dotted((*path, "type")) for _, path, stage in stages(data) if stage.get("type") is None}
        return None, [_short(problem) for problem in found if problem.path not in untyped]  # `_stage` says it better


def _written(detail: ErrorDetails) -> ErrorDetails:
    """`sinks[0]`, and `sinks`, is `sink` in the short form."""
    if detail["loc"][:1] == ("sinks",):
        detail["loc"] = ("sink", *detail["loc"][2:])
    return detail


def _short(problem: Problem) -> Problem:
    if problem.path == "sinks" and problem.code == codes.MISSING_KEY:
        return replace(problem, path="sink", message="missing key 'sink'", hint="or sinks, a list of them")
    if problem.code == codes.UNKNOWN_KEY and problem.hint.startswith("known keys"):
        return replace(problem, hint="known keys: " + ", ".join([*_TOP[:5], "sink", *_TOP[5:]]))
    return problem


def _stage(kind: Kind, path: Path, stage: dict[str, Any]) -> list[Problem]:
    name = stage.get("type")
    if name is None:
        return [Problem(dotted((*path, "type")), "missing key 'type'", codes.MISSING_KEY, _mistyped(stage))]
    if not isinstance(name, str) or not name:
        return []  # the frame says so
    if references.contains(name):
        message = "the type cannot be a reference"
        return [Problem(dotted((*path, "type")), message, codes.BAD_REFERENCE, "write the name itself")]
    try:
        found = component(kind, name)
    except InvalidSpec as refused:
        return [replace(problem, path=dotted((*path, problem.path))) for problem in refused.problems]
    options = options_of(found, stage)
    try:
        found.config.model_validate(options)
        return []
    except ValidationError as error:
        own = [key for key in keys_of(_FRAME[kind]) if key != "type"]
        details = [detail for detail in _details(error) if not _open(detail, options)]
        complaints = problems(details, options, found.config, keys=own)
    except InvalidSpec as refused:
        complaints = [] if references.contains(options) else list(refused.problems)
    prefix = dotted(path)
    return [replace(problem, path=f"{prefix}.{problem.path}" if problem.path else prefix) for problem in complaints]


def _mistyped(stage: Mapping[str, Any]) -> str:
    """A key of the stage that may have been meant to be `type`."""
    near = [key for key in stage if nearest(key, ["type"], "").startswith("did you")]
    return f"is {near[0]!r} meant to be it?" if near else ""


def _open(detail: ErrorDetails, options: Mapping[str, Any]) -> bool:
    """Whether the error is about a value that only the worker will know."""
    if detail["type"] in ("missing", "extra_forbidden"):
        return False
    value: Any = options
    for step in detail["loc"]:
        [value] = children(value, step) or [value]
    return references.contains(value)


def _references(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Malformed references anywhere; well-formed ones where no worker would resolve them."""
    for path, text in _texts(data, ()):
        for written, _, hint in references.malformed(text):
            yield Problem(dotted(path), f"{written} is not a reference", codes.BAD_REFERENCE, hint)
        if references.contains(text) and not _resolved(path):
            message = "a reference cannot be used here"
            yield Problem(
                dotted(path), message, codes.BAD_REFERENCE, "only in options of sources, transforms and sinks"
            )


def _resolved(path: Path) -> bool:
    if path == ("description",) or path == ("errors", "dead_letters"):
        return True
    kind = {"source": Kind.SOURCE, "transforms": Kind.TRANSFORM, "sink": Kind.SINK, "sinks": Kind.SINK}.get(
        str(path[0])
    )
    if kind is None:
        return False
    key = next((step for step in path[1:] if isinstance(step, str)), "")
    return key == "type" or key == "where" or key not in _FRAME[kind].model_fields


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _texts(inner, (*path, n))


def _names(spec: PipelineSpec) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for n, name in enumerate(spec.sink_names()):
        if name in seen:
            message = f"two sinks have the name {name!r}"
            yield Problem(f"sinks[{n}].name", message, codes.CONFLICT, f"the other is sinks[{seen[name]}]")
        seen[name] = n


__all__ = ["configure", "examine", "nearest", "options_of", "stages"]
