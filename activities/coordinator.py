"""What the coordinator's workflow needs done: its journal, its pipelines told; and the question of a pipeline to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.link import CoordinatorLink
from activities.names import ADMIT, KEEP, NOTIFY, RECALL, SURVEY
from activities.translate import failure, heartbeating, pipeline_error
from dataflow.domain.coordinator.evolution import fold
from dataflow.domain.coordinator.orders import (
    AdmissionRequest,
    Decision,
    NotifyOrder,
    Recalled,
    RecallOrder,
    SurveyOrder,
)
from dataflow.domain.coordinator.packing import cut
from dataflow.domain.coordinator.report import report_of
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.orders import AppendOrder
from dataflow.domain.record import EventRecord
from dataflow.domain.state import ErrorType
from dataflow.errors import Conflict, Corrupt
from dataflow.journal import Journal
from dataflow.journal.history import coordinators, folded, is_pipeline, keep_snapshot, state_at
from workflows.names import workflow_id

_SURVEYED_AT_ONCE = 200

LARGE = 500
"""Pipelines from which on writing a snapshot takes a while."""

SHARE = 0.1
"""Of the time, that may go into snapshots of a large state: in a storm some are passed over."""


class AdmissionActivities:
    """Run beside the pipelines."""

    def __init__(self, link: CoordinatorLink) -> None:
        self._link = link

    @activity.defn(name=ADMIT.name)
    async def admit(self, request: AdmissionRequest) -> Decision:
        """Ask the coordinator whether a pipeline may start."""
        return await self._link.admit(request)


class CoordinatorActivities:
    """Run on the coordinator's own task queue."""

    def __init__(self, client: Client, journal: Journal, link: CoordinatorLink) -> None:
        self._client = client
        self._journal = journal
        self._link = link
        self._folded: CoordinatorState | None = None  # spares folding the same events again for each snapshot
        self._snapshot_from = 0.0

    @activity.defn(name=KEEP.name)
    async def keep(self, order: AppendOrder) -> None:
        """Append to the coordinator's stream, and take a snapshot where one is due. Repeating it changes nothing."""
        first = order.records[0]
        try:
            await self._journal.append(first.stream, first.sequence - 1, order.records)
        except (Conflict, Corrupt) as final:
            raise failure(pipeline_error(final, ErrorType.SYSTEM)) from final
        await self._snapshot(order.records)

    @activity.defn(name=RECALL.name)
    async def recall(self, order: RecallOrder) -> Recalled:
        """The state as the journal has it, in parts that fit into messages."""
        async with heartbeating(dict):
            return await self._recalled(order)

    @activity.defn(name=NOTIFY.name)
    async def notify(self, order: NotifyOrder) -> list[str]:
        """Tell pipelines that they may start now; the ids of those whose workflow is not there."""
        gone = []
        for pipeline, origin in order.granted:
            try:
                await self._client.get_workflow_handle(workflow_id(pipeline)).signal("admitted", origin)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                gone.append(pipeline)
        return gone

    @activity.defn(name=SURVEY.name)
    async def survey(self, order: SurveyOrder) -> int:
        """Report every pipeline that the journal knows; returns how many. Reports of what is known change nothing."""
        async with heartbeating(dict):
            names = [name for name in await self._journal.streams() if is_pipeline(name)]
            for start in range(0, len(names), _SURVEYED_AT_ONCE):
                await asyncio.gather(*(self._report(name) for name in names[start : start + _SURVEYED_AT_ONCE]))
        return len(names)

    async def _recalled(self, order: RecallOrder) -> Recalled:
        head = await self._journal.head(order.stream)
        pipelines = sum(map(is_pipeline, await self._journal.streams())) if order.survey else 0
        if head is None:
            return Recalled(sequence=0, parts=0, pipelines=pipelines)
        upto = head.sequence if order.upto is None else order.upto
        parts = cut(await folded(self._journal, order.stream, upto, coordinators()))
        return Recalled(sequence=upto, parts=len(parts), text=parts[order.part], pipelines=pipelines)

    async def _report(self, pipeline: str) -> None:
        await self._link.report(report_of(None, await state_at(self._journal, pipeline)))

    async def _snapshot(self, records: Sequence[EventRecord]) -> None:
        aggregate, stream, first = coordinators(), records[0].stream, records[0].sequence
        state = self._folded
        if state is None or (state.version, state.last_hash) != (first - 1, records[0].previous_hash):
            state = await folded(self._journal, stream, first - 1, aggregate)
        due = records[-1].sequence // aggregate.every * aggregate.every
        count = max(0, due - first + 1)
        if count and time.monotonic() >= self._snapshot_from:
            begun = time.monotonic()
            state = await asyncio.to_thread(fold, state, records[:count])
            await keep_snapshot(self._journal, stream, due, state, aggregate)
            records = records[count:]
            if len(state.pipelines) > LARGE:
                self._snapshot_from = begun + (time.monotonic() - begun) / SHARE
        self._folded = fold(state, records)
