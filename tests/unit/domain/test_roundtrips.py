"""Every value survives JSON: all commands, all events in their envelopes, the state. And every event has its tags."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dataflow.domain import commands as c
from dataflow.domain import events as e
from dataflow.domain.record import digest, verify
from dataflow.domain.state import PipelineState

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    Any: JSON,
    str: st.text(max_size=12),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
    datetime: st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type as it is annotated."""
    hint = getattr(hint, "__supertype__", hint)
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, arguments))
    if origin is Mapping:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    assert is_dataclass(hint), hint
    hints = get_type_hints(hint)
    return st.builds(hint, **{f.name: values(hints[f.name]) for f in fields(hint)})


def of(cls: type[Any]) -> st.SearchStrategy[Any]:
    if cls is e.PipelineCreated:  # its tags come from its definition
        kinds = st.sampled_from(["file", "kafka", "console"])
        stage = st.fixed_dictionaries({"type": kinds}, optional={"option": JSON})
        spec = st.fixed_dictionaries({"name": st.just("orders"), "source": stage, "sinks": st.lists(stage, min_size=1)})
        return st.builds(cls, name=st.text(), description=st.text(), spec=spec)
    return values(cls)


MODERATE = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("cls", e.EVENT_TYPES.values(), ids=lambda cls: cls.__name__)
@MODERATE
@given(data=st.data())
def test_an_event_in_its_envelope(cls: type[Any], data: st.DataObject) -> None:
    event = data.draw(of(cls))
    (record,) = e.seal(
        [event],
        stream=data.draw(st.text(max_size=9)),
        after_sequence=4,
        previous_hash="f" * 64,
        time=data.draw(SCALARS[datetime]),
        actor=data.draw(st.text(max_size=9)),
    )
    adapter = TypeAdapter(e.EventRecord)
    again = adapter.validate_json(adapter.dump_json(record))
    assert again == record
    assert digest(again) == record.hash
    assert verify([again], "f" * 64) is None
    assert e.unseal(again) == event


@pytest.mark.parametrize("cls", get_args(get_args(c.Command)[0]), ids=lambda cls: cls.__name__)
@MODERATE
@given(data=st.data())
def test_a_command_among_all_commands(cls: type[Any], data: st.DataObject) -> None:
    command = data.draw(values(cls))
    adapter: TypeAdapter[c.Command] = TypeAdapter(c.Command)
    assert adapter.validate_json(adapter.dump_json(command)) == command


@MODERATE
@given(state=values(PipelineState), origin=values(c.Origin))
def test_the_state(state: PipelineState, origin: c.Origin) -> None:
    adapter = TypeAdapter(PipelineState)
    assert adapter.validate_json(adapter.dump_json(state)) == state
    assert TypeAdapter(c.Origin).validate_json(TypeAdapter(c.Origin).dump_json(origin)) == origin


TAGS = {
    "PipelineCreated": "source-file sink-console sink-file",
    "PipelineStarted": "pipeline-lifecycle",
    "StartQueued": "pipeline-lifecycle",
    "StartWithdrawn": "pipeline-lifecycle",
    "PipelineStopped": "pipeline-lifecycle",
    "PipelinePaused": "pipeline-lifecycle",
    "PipelineResumed": "pipeline-lifecycle",
    "PipelinePlanned": "pipeline-lifecycle",
    "PipelineReset": "pipeline-lifecycle",
    "PipelineCompleted": "pipeline-lifecycle",
    "PipelineDeleted": "pipeline-lifecycle",
    "CheckpointUpdated": "pipeline-lifecycle",
    "ConfigUpdated": "pipeline-lifecycle",
    "BatchIngested": "batch-events",
    "BatchProcessed": "batch-events metrics",
    "MetricsReported": "metrics",
    "PipelineFailed": "failure-events",
    "RetryScheduled": "retry-events error-recovery",
    "BatchTimedOut": "timeout-events failure-events",
}
STAGES = {"source": {"type": "file"}, "sinks": [{"type": "file"}, {"type": "console"}, {"type": "file", "name": "b"}]}


@pytest.mark.parametrize("name", TAGS)
@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_tags(name: str, data: st.DataObject) -> None:
    created = e.PipelineCreated(name="orders", description="", spec={"name": "orders", **STAGES})
    event = created if name == "PipelineCreated" else data.draw(of(e.EVENT_TYPES[name]))
    assert e.tags(event) == ("pipeline-events", "all-events", *TAGS[name].split())


def test_the_tag_table_is_complete() -> None:
    assert set(TAGS) == set(e.EVENT_TYPES)
