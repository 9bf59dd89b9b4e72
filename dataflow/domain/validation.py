"""Checks of what commands carry. All that is wrong with one command is found at once, each with its path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from dataflow.domain import commands as c
from dataflow.domain.policy import JITTER
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState, Plan, Rewind
from dataflow.errors import Conflict, InvalidSpec, Problem

MAX_BATCH = 10_000
MAX_BATCH_ID = 200
MAX_FIGURES = 100
MAX_PIN = 100_000


def definition(spec: Mapping[str, Any], pipeline_id: str) -> PipelineSpec:
    """The definition of that pipeline, parsed. `InvalidSpec` with every problem.

    A definition that names no id gets the pipeline's; it stands in the stored form where it differs from the name.
    Options of connectors and transforms are JSON here and checked against their models elsewhere."""
    document = dict(spec)
    if document.get("id") is None and document.get("name") != pipeline_id:
        document["id"] = pipeline_id
    try:
        parsed = PipelineSpec.model_validate(document)
    except ValidationError as error:
        raise InvalidSpec([*_problems(error, document)]) from error
    problems = [*_not_json(document, "")]
    if parsed.pipeline_id != pipeline_id:
        problems.append(Problem("id", f"is {parsed.pipeline_id}, but the pipeline's id is {pipeline_id}"))
    names = parsed.sink_names()
    problems += [
        Problem(f"sinks[{n}].name", f"another sink is called {name} too", code="duplicate")
        for n, name in enumerate(names)
        if name in names[:n]
    ]
    if problems:
        raise InvalidSpec(problems)
    return parsed


def _problems(error: ValidationError, document: Mapping[str, Any]) -> Iterator[Problem]:
    known = [*PipelineSpec.model_fields, "sink"]
    for found in error.errors(include_url=False):
        if found["type"] == "too_short" and found["input"]:
            continue  # it is too short only because of items that are wrong, which are named
        path = _dotted(found["loc"])
        if "sink" in document and path.startswith("sinks[0]"):
            path = "sink" + path.removeprefix("sinks[0]")
        if found["type"] == "missing" and path == "sinks":
            path = "sink"
        hint = ""
        if found["type"] == "extra_forbidden":
            near = get_close_matches(path, known, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
        message = found["msg"].removeprefix("Value error, ")
        yield Problem(path or "spec", message, code=found["type"], hint=hint)


def _dotted(location: Sequence[int | str]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _not_json(value: object, path: str) -> Iterator[Problem]:
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, "is not a finite number", code="finite_number")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield Problem(f"{path}.{key}", "a key is text", code="string_type")
                continue
            yield from _not_json(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list | tuple):
        for n, inner in enumerate(value):
            yield from _not_json(inner, f"{path}[{n}]")
    elif not (value is None or isinstance(value, str | int | float)):
        yield Problem(path, f"{type(value).__name__} is not a JSON value", code="json_type")


def check(command: c.Command) -> None:
    """Check what needs no state to be checked: `InvalidSpec` with every problem."""
    problems = [*_broken(command)]
    if problems:
        raise InvalidSpec(problems)


def _broken(command: c.Command) -> Iterator[Problem]:
    match command:
        case c.IngestBatch():
            yield from _text("batch_id", command.batch_id)
            if len(command.batch_id) > MAX_BATCH_ID:
                yield Problem("batch_id", f"is {len(command.batch_id)} characters long, more than {MAX_BATCH_ID}")
            if not 1 <= command.record_count <= MAX_BATCH:
                yield Problem("record_count", f"is {command.record_count}, not 1 to {MAX_BATCH}")
            yield from _natural("source_offset", command.source_offset)
        case c.RecordSegment():
            yield from _text("batch_id", command.batch_id)
            yield from _text("lane", command.lane)
            if not 1 <= command.first_epoch <= command.last_epoch + 1:
                yield Problem("first_epoch", f"is {command.first_epoch}, not 1 to {command.last_epoch + 1}")
            yield from _natural("milliseconds", command.milliseconds)
            yield from _natural("cpu_ms", command.cpu_ms)
            yield from _not_json(command.epochs, "epochs")
        case c.UpdateCheckpoint(checkpoint=checkpoint):
            yield from _natural("checkpoint.offset", checkpoint.offset)
            yield from _natural("checkpoint.records_processed", checkpoint.records_processed)
        case c.ReportMetrics(metrics=metrics):
            if not 1 <= len(metrics) <= MAX_FIGURES:
                yield Problem("metrics", f"has {len(metrics)} figures, not 1 to {MAX_FIGURES}")
            yield from _not_json(metrics, "metrics")
        case c.ReportFailure(error=error):
            yield from _text("error.code", error.code)
            yield from _text("error.message", error.message)
            yield from _jitter(command.jitter)
        case c.BatchTimeout():
            yield from _text("batch_id", command.batch_id)
            yield from _natural("timeout_ms", command.timeout_ms)
            yield from _jitter(command.jitter)
        case c.CompletePipeline(outputs=outputs):
            yield from _not_json(outputs, "outputs")
        case _:
            return


def check_plan(state: PipelineState, plan: Plan) -> None:
    """Check a plan against the pipeline it is for: `InvalidSpec` with every problem.

    A lane that has committed keeps its splits within a generation (new ones may join): its receipt in the sink knows
    no others, so a split that moved would be read again from its first record."""
    problems: list[Problem] = []
    hint = f"read all of it again: dataflow reset --from-start {state.pipeline_id}"
    sinks = set(state.definition.sink_names())
    seen: set[str] = set()
    taken: set[tuple[str, str]] = set()
    if len(plan.pin) > MAX_PIN:
        problems.append(Problem("plan.pin", f"is {len(plan.pin)} characters long, more than {MAX_PIN}"))
    for n, lane in enumerate(plan.lanes):
        path = f"plan.lanes[{n}]"
        if lane.sink not in sinks:
            problems.append(Problem(f"{path}.sink", f"there is no sink {lane.sink}"))
        if lane.name in seen:
            problems.append(Problem(path, f"there are two lanes {lane.name}", code="duplicate"))
        seen.add(lane.name)
        for split in lane.splits:
            if (lane.sink, split) in taken:
                problems.append(Problem(f"{path}.splits", f"{split} is in this lane twice or in another", "duplicate"))
            taken.add((lane.sink, split))
        begun = state.checkpoint.lanes.get(lane.name)
        if begun and (lost := sorted(set(begun.positions) - set(lane.splits))):
            problems.append(Problem(f"{path}.splits", f"{', '.join(lost)} began here and may not move", "moved", hint))
    for name, known in state.checkpoint.lanes.items():
        if name.rpartition("-")[0] in sinks and known.positions and name not in seen:
            problems.append(Problem("plan.lanes", f"lane {name} has begun and is missing", "moved", hint))
    if problems:
        raise InvalidSpec(problems)


def check_rewind(state: PipelineState, rewind: Rewind) -> None:
    """Check a rewind against what the pipeline has read: `Conflict` where it is of another generation or nothing was
    read in this one, `InvalidSpec` with every lane, split and epoch that does not fit."""
    plan = state.plan
    if rewind.generation != state.generation:
        raise Conflict(
            f"that is of generation {rewind.generation}, pipeline {state.pipeline_id} is in generation "
            f"{state.generation}",
            hint="only what this generation has read can be read again; reset from the start reads everything",
        )
    if plan is None:
        raise Conflict(f"pipeline {state.pipeline_id} has read nothing in generation {state.generation} yet")
    planned = {lane.name: set(lane.splits) for lane in plan.lanes}
    problems = []
    for name, positions in rewind.lanes.items():
        strange = sorted(set(positions) - planned.get(name, set()))
        if name not in planned:
            problems.append(Problem(f"rewind.lanes.{name}", "there is no such lane"))
        elif strange:
            problems.append(Problem(f"rewind.lanes.{name}", f"does not read {', '.join(strange)}"))
    for name, epoch in (rewind.kept or {}).items():
        known = state.checkpoint.lanes.get(name)
        if not 0 <= epoch <= (known.epoch if known else 0):
            problems.append(Problem(f"rewind.kept.{name}", f"is {epoch}, which was not committed"))
    if problems:
        raise InvalidSpec(problems)


def _text(path: str, value: str) -> Iterator[Problem]:
    if not value.strip():
        yield Problem(path, "must not be empty")


def _natural(path: str, value: int) -> Iterator[Problem]:
    if value < 0:
        yield Problem(path, f"is {value}, not 0 or more")


def _jitter(value: float) -> Iterator[Problem]:
    if not -JITTER <= value <= JITTER:
        yield Problem("jitter", f"is {value}, not -{JITTER} to {JITTER}")
