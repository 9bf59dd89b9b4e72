"""The event-sourced aggregate inside its workflow: decide, append to the journal, move the state.

The workflow is the only writer of its journal stream (Invariant 4).
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from pydantic import TypeAdapter

    from activities.names import APPEND
    from dataflow.domain import commands as do
    from dataflow.domain.commands import Origin
    from dataflow.domain.coordinator.report import report_of
    from dataflow.domain.events import Event, EventRecord, seal
    from dataflow.domain.orders import AppendOrder
    from dataflow.domain.pipeline import decide, evolve
    from dataflow.domain.state import PipelineState, Status
    from dataflow.errors import DataFlowError
    from workflows.calls import start
    from workflows.failures import failure
    from workflows.names import Tuning

_OWN = Origin(actor="pipeline")
_STATE: TypeAdapter[PipelineState] = TypeAdapter(PipelineState)


class Aggregate:
    """One pipeline's state and the only way to change it. One command at a time."""

    def __init__(self, state: PipelineState, tuning: Tuning) -> None:
        self.state = state
        self._tuning = tuning
        self._lock = asyncio.Lock()

    def stands(self, status: Status) -> bool:
        """Whether the pipeline is in that state."""
        return self.state.status is status

    def check(self, command: do.Command) -> None:
        """For validators: raises where `decide` refuses the command now."""
        try:
            decide(self.state, command)
        except DataFlowError as refused:
            raise failure(refused) from refused

    async def command(self, command: do.Command, origin: Origin) -> PipelineState:
        """Carry out a caller's command; the state after it. A refusal ends the update, not the workflow."""
        try:
            await self.apply(command, origin)
            return self.state
        except DataFlowError as refused:  # the state has moved since the validator looked
            raise failure(refused) from refused

    async def apply(self, command: do.Command, origin: Origin = _OWN) -> tuple[Event, ...]:
        """Decide, append to the journal, then move the state: one command at a time."""
        async with self._lock:
            events = decide(self.state, command)
            if not events:
                return events
            before, state = self.state, self.state
            records = seal(
                events,
                stream=state.pipeline_id,
                after_sequence=state.version,
                previous_hash=state.last_hash,
                time=workflow.now(),
                actor=origin.actor,
                correlation_id=origin.correlation_id or workflow.info().run_id,
                causation_id=origin.causation_id,
            )
            for record in records:
                state = evolve(state, record)
            await self._append(records, before, state)  # Invariant 3: the journal first
            self.state = state
            if before.status is not state.status or before.name != state.name or before.error != state.error:
                self._show()
            return events

    async def _append(self, records: tuple[EventRecord, ...], before: PipelineState, after: PipelineState) -> None:
        every = self._tuning.snapshot_every
        due = before.version // every != after.version // every
        snapshot = _STATE.dump_python(after, mode="json") if due else None
        order = AppendOrder(records=records, snapshot=snapshot, report=report_of(before, after))
        try:
            # A regular activity: its input is in history before it runs, so a repetition appends the very same records.
            await start(APPEND, order, within=30)
        except ActivityError as failed:
            raise failed.cause or failed from failed

    def _show(self) -> None:
        state = self.state
        spec = state.spec
        sinks = ",".join(str(sink.get("type", "")) for sink in spec.get("sinks", ()))
        workflow.upsert_search_attributes(
            [
                SearchAttributeKey.for_keyword("DataflowName").value_set(state.name),
                SearchAttributeKey.for_keyword("DataflowStatus").value_set(state.status.value),
                SearchAttributeKey.for_keyword("DataflowSource").value_set(str(spec.get("source", {}).get("type", ""))),
                SearchAttributeKey.for_keyword("DataflowSink").value_set(sinks),
                SearchAttributeKey.for_keyword("DataflowOwner").value_set(str(spec.get("owner", ""))),
                SearchAttributeKey.for_int("DataflowFailed").value_set(state.lifetime.records_failed),
            ]
        )
