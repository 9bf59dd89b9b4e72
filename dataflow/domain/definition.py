"""How a definition may change under a pipeline that exists."""

from __future__ import annotations

from typing import Any

from dataflow.domain.commands import UpdateConfig
from dataflow.domain.events import ConfigUpdated
from dataflow.domain.spec import PipelineSpec, SinkStage
from dataflow.domain.state import PipelineState
from dataflow.domain.validation import definition
from dataflow.errors import Conflict


def update(state: PipelineState, command: UpdateConfig) -> tuple[ConfigUpdated, ...]:
    """The change of definition the command asks for; none where nothing would change."""
    old, new = state.definition, definition(_merged(state, command), state.pipeline_id)
    anew = command.from_start and _begun(state)
    if new == old and not anew:
        return ()
    moved = _moved(old, new)
    if moved and _begun(state) and not command.from_start:
        raise Conflict(
            f"pipeline {state.pipeline_id} has moved data already and would have another {moved}",
            hint="what was read is known only of the old one: change it with from_start to read from the first record",
        )
    return (
        ConfigUpdated(
            spec=new.stored(),
            generation=state.generation + anew,
            plan_kept=not (anew or moved or old.sink_names() != new.sink_names()),
        ),
    )


def _merged(state: PipelineState, command: UpdateConfig) -> dict[str, Any]:
    if not command.partial:
        # relative paths start from the folder the definition came from, unless it says that it moved
        return {"base": state.spec.get("base", ""), **command.spec}
    merged = {**state.spec, **command.spec}
    if "sink" in command.spec:
        del merged["sinks"]
    return {key: value for key, value in merged.items() if value is not None}


def _begun(state: PipelineState) -> bool:
    return (
        state.plan is not None
        or state.rewind is not None
        or bool(state.checkpoint.lanes)
        or state.checkpoint.offset > 0
    )


def _moved(old: PipelineSpec, new: PipelineSpec) -> str:
    """What is no longer the same place: `folder`, `source`, `sink x`; empty if all are.

    Sinks may be added and removed. One that only changed its name would write everything a second time, so a name that
    goes while another comes counts as moved."""
    if old.base != new.base:
        return "folder"
    if (old.source.type, old.source.options) != (new.source.type, new.source.options):
        return "source"
    before = dict(zip(old.sink_names(), map(_place, old.sinks), strict=True))
    after = dict(zip(new.sink_names(), map(_place, new.sinks), strict=True))
    if changed := [name for name, place in before.items() if after.get(name, place) != place]:
        return f"sink {changed[0]}"
    if (gone := sorted(before.keys() - after.keys())) and after.keys() - before.keys():
        return f"sink {gone[0]}"
    return ""


def _place(sink: SinkStage) -> tuple[str, dict[str, Any]]:
    return sink.type, sink.options
