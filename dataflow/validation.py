"""Deep validation: a definition is tried out as far as that goes without moving a record.

What the definition alone tells is checked by `dataflow.specfile`. Here the components are built, the source is asked
what it has, every expression is compiled against the columns that really reach it, and the guarantee of each
source -> sink pair is worked out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from dataflow.assembly import build_sink, build_source, build_stages, context_of
from dataflow.domain.flow import Delivery
from dataflow.domain.spec import PipelineSpec
from dataflow.errors import InvalidSpec, Problem, Rejected, Retryable
from dataflow.references import References
from dataflow.schemas import format_schema
from dataflow.seams import Context, Discovery, Sink
from dataflow.specfile import LoadedSpec, codes

_STRENGTH = {Delivery.AT_LEAST_ONCE: 0, Delivery.EFFECTIVELY_ONCE: 1, Delivery.EXACTLY_ONCE: 2}


@dataclass(frozen=True, slots=True)
class Pair:
    """What one way from the source to a sink really gives. `schema` holds the columns that arrive, where known."""

    source: str
    sink: str
    type: str
    delivery: Delivery
    schema: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. `problems` make the definition invalid; `unresolved` are references that are not set in this
    process (a worker elsewhere may have them); `unreachable` tells why the source did not answer, "" where it did or
    was not asked."""

    problems: tuple[Problem, ...] = ()
    unresolved: tuple[Problem, ...] = ()
    pairs: tuple[Pair, ...] = ()
    discovery: Discovery | None = None
    unreachable: str = ""

    def refused(self) -> tuple[Problem, ...]:
        """The problems that are the definition's own, without what the source says of the world outside."""
        return tuple(problem for problem in self.problems if problem.code != codes.SOURCE)


async def check(
    loaded: LoadedSpec,
    *,
    home: Path,
    inbox: str = "",
    discover: bool = True,
    references: References | None = None,
) -> Report:
    """Try the definition out. Raises nothing for what is wrong with it: the report tells, located in its file.

    Without `discover` nothing outside is touched, and expressions are not checked: their columns are not known."""
    spec = loaded.spec
    references = references or References.of_process()
    unresolved = list(_unresolved(spec, references))
    if unresolved:
        # What depends on them cannot be built here; the rest of the definition has been checked already.
        return Report(unresolved=_located(loaded, unresolved))
    context = context_of(spec, home=home, inbox=inbox)
    problems: list[Problem] = []
    discovery, unreachable = None, ""
    if discover:
        try:
            discovery = await _discover(spec, context, references)
        except Retryable as away:
            unreachable = str(away)
        except (InvalidSpec, Rejected) as refused:
            problems += _of(refused, "source", spec.source.options, codes.SOURCE)
    else:
        problems += _built(lambda: build_source(spec, context, references), "source", spec.source.options)
    pairs = []
    for index, name in enumerate(spec.sink_names()):
        schema, found = _bound(spec, index, context, references, discovery)
        problems += found
        path, written = f"sinks[{index}]", spec.sinks[index]
        try:
            sink = build_sink(spec, index, context, references)
        except (InvalidSpec, Rejected) as refused:
            problems += _of(refused, path, written.options, codes.SINK)
            continue
        problems += _demands(spec, sink, name, written.type)
        columns = format_schema(schema) if schema is not None else {}
        pairs.append(Pair(spec.source.type, name, written.type, sink.delivery, columns))
    return Report(_located(loaded, problems), (), tuple(pairs), discovery, unreachable)


def _located(loaded: LoadedSpec, problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """In the file's order, and each once: stages are tried on the way to every sink."""
    found = dict.fromkeys(loaded.locate(problem) for problem in problems)
    return tuple(sorted(found, key=lambda problem: (problem.line, problem.column)))


async def _discover(spec: PipelineSpec, context: Context, references: References) -> Discovery:
    async with build_source(spec, context, references) as source:
        return await source.discover()


def _bound(
    spec: PipelineSpec, index: int, context: Context, references: References, discovery: Discovery | None
) -> tuple[pl.Schema | None, list[Problem]]:
    """The columns that reach the sink, and what is wrong on the way. A filter that is wrong changes no columns, so the
    stages behind it are still looked at; behind any other nobody knows what there is."""
    try:
        stages = build_stages(spec, index, context, references)
    except (InvalidSpec, Rejected) as refused:
        return None, _of(refused, "transforms", {}, codes.TRANSFORM)
    problems: list[Problem] = []
    schema = discovery.schema if discovery else None
    for number, stage in enumerate(stages):
        if schema is None:
            break
        filters = number >= len(spec.transforms) or spec.transforms[number].type == "filter"
        try:
            schema = stage.transform.bind(schema)
        except InvalidSpec as refused:
            problems += [replace(p, path=f"{stage.name}.{p.path}" if p.path else stage.name) for p in refused.problems]
            schema = schema if filters else None
    return schema, problems


def _built(build: Any, path: str, options: Mapping[str, Any]) -> list[Problem]:
    try:
        build()
    except (InvalidSpec, Rejected) as refused:
        return _of(refused, path, options, codes.SOURCE)
    return []


def _demands(spec: PipelineSpec, sink: Sink, name: str, kind: str) -> Iterator[Problem]:
    """What the definition asks of this sink, and the sink does not give."""
    wanted = spec.delivery
    if wanted is not None and _STRENGTH[sink.delivery] < _STRENGTH[wanted]:
        message = f"{wanted} cannot be had: the sink {name!r} ({kind}) gives {sink.delivery}"
        yield Problem("delivery", message, codes.DELIVERY, f"leave delivery out, or ask for {sink.delivery}")
    if sink.max_lanes is not None and spec.parallelism > sink.max_lanes:
        lanes = "one lane" if sink.max_lanes == 1 else f"{sink.max_lanes} lanes"
        message = f"the sink {name!r} ({kind}) takes at most {lanes}, not {spec.parallelism}"
        hint = "a path without a suffix is a folder of parts, which takes any number" if kind == "file" else ""
        yield Problem("parallelism", message, codes.PARALLELISM, hint)


def _of(refused: Rejected, path: str, options: Mapping[str, Any], code: str) -> list[Problem]:
    """A refusal as problems of the definition: at the option whose value it speaks of, where it speaks of one."""
    if isinstance(refused, InvalidSpec):
        return list(refused.problems)
    said = f"{refused.where} {refused.message}"
    named = [key for key, value in options.items() if isinstance(value, str) and len(value) > 1 and value in said]
    where = f"{refused.where}: " if refused.where else ""
    return [Problem(f"{path}.{named[0]}" if named else path, f"{where}{refused.message}", code, refused.hint)]


def _unresolved(spec: PipelineSpec, references: References) -> Iterator[Problem]:
    """References that are not set in this process, each at the value it stands in."""
    parts: list[tuple[str, Any]] = [("source", spec.source.options)]
    parts += [(f"transforms[{n}]", stage.options) for n, stage in enumerate(spec.transforms)]
    parts += [(f"sinks[{n}]", {**stage.options, "where": stage.where}) for n, stage in enumerate(spec.sinks)]
    parts += [("errors", {"dead_letters": spec.errors.dead_letters})]
    for path, options in parts:
        for key, value in options.items():
            try:
                references.resolve(value)
            except Rejected as missing:
                yield Problem(f"{path}.{key}", missing.message, codes.UNRESOLVED, missing.hint)
