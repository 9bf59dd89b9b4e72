"""The event-sourced aggregate inside its workflow: decide, append to the journal, move the state.

The workflow is the only writer of its journal stream (Invariant 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.names import APPEND, INGEST, TAKE
    from dataflow.domain import commands as do
    from dataflow.domain.commands import Origin
    from dataflow.domain.coordinator.report import report_of
    from dataflow.domain.events import Event, seal
    from dataflow.domain.orders import Admission, AppendOrder, IngestOrder, TakeOrder
    from dataflow.domain.pipeline import decide, evolve
    from dataflow.domain.progress import another_batch
    from dataflow.domain.state import PipelineState, Status, states
    from dataflow.errors import DataFlowError, Retryable
    from workflows.calls import start
    from workflows.failures import failure
    from workflows.names import Tuning

_LOST = 10.0
"""Seconds after which an append is taken for lost with its worker and done again, which changes nothing."""

_OWN = Origin(actor="pipeline")


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
            order, after = self._sealed(events, origin)
            try:
                # A regular activity: its input is in history before it runs, so a repetition appends the same records.
                await start(APPEND, order, within=_LOST)  # Invariant 3: the journal first
            except ActivityError as failed:
                raise failed.cause or failed from failed
            self._move(after)
            return events

    async def ingest(self, command: do.IngestBatch, origin: Origin) -> None:
        """Take a pushed batch that is staged in the inbox, once. While the lock is held nothing can change what was
        decided, so what the activity admits is recorded too, however often it has to be run for that."""
        try:
            async with self._lock:
                events = decide(self.state, command)
                if not events:
                    return
                append, after = self._sealed(events, origin)
                order = IngestOrder(
                    pipeline=self.state.pipeline_id, batch_id=command.batch_id, token=command.token, append=append
                )
                try:
                    answer = await start(INGEST, order, within=_LOST)
                except ActivityError as failed:
                    raise failed.cause or failed from failed
                if answer.admission is Admission.CONFLICT:
                    raise another_batch(self.state.pipeline_id, command.batch_id)
                if answer.admission is Admission.GONE:
                    raise Retryable(f"batch {command.batch_id!r} waited for too long", hint="send it again")
                if answer.admission is Admission.NEW:
                    self._move(after)
        except DataFlowError as refused:
            raise failure(refused) from refused

    async def ingest_all(self, commands: Sequence[do.IngestBatch], origin: Origin) -> list[Admission]:
        """Take pushed batches that are staged in the inbox, each once; what became of each. While the lock is held
        nothing can change what was decided, and a workflow ends no handler half-way: what is admitted is recorded."""
        try:
            async with self._lock:
                unknown = [command for command in commands if decide(self.state, command)]
                if not unknown:
                    return [Admission.REPEAT for _ in commands]
                wanted = tuple((command.batch_id, command.token) for command in unknown)
                try:
                    answers = await start(
                        TAKE, TakeOrder(pipeline=self.state.pipeline_id, batches=wanted), within=_LOST
                    )
                    found = {command.token: answer for command, answer in zip(unknown, answers, strict=True)}
                    new = [command for command in unknown if found[command.token] is Admission.NEW]
                    events = [event for command in new for event in decide(self.state, command)]
                    if events:
                        order, after = self._sealed(events, origin)
                        await start(APPEND, order, within=_LOST)  # Invariant 3: the journal first
                        self._move(after)
                except ActivityError as failed:
                    raise failed.cause or failed from failed
                return [found.get(command.token, Admission.REPEAT) for command in commands]
        except DataFlowError as refused:
            raise failure(refused) from refused

    def _sealed(self, events: Sequence[Event], origin: Origin) -> tuple[AppendOrder, PipelineState]:
        """The events as records that follow the state, to be appended, and the state after them."""
        before, after = self.state, self.state
        records = seal(
            events,
            stream=before.pipeline_id,
            after_sequence=before.version,
            previous_hash=before.last_hash,
            time=workflow.now(),
            actor=origin.actor,
            correlation_id=origin.correlation_id or workflow.info().run_id,
            causation_id=origin.causation_id,
        )
        for record in records:
            after = evolve(after, record)
        every = self._tuning.snapshot_every
        due = before.version // every != after.version // every
        snapshot = states().dump_python(after, mode="json") if due else None
        return AppendOrder(records=records, snapshot=snapshot, report=report_of(before, after)), after

    def _move(self, after: PipelineState) -> None:
        before, self.state = self.state, after
        if before.status is not after.status or before.name != after.name or before.error != after.error:
            self._show()

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
