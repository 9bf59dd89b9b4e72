"""Appending to the journal, and admitting what was pushed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from temporalio import activity

from activities.link import CoordinatorLink
from activities.names import APPEND, INGEST, TAKE
from activities.translate import failure, pipeline_error
from dataflow.domain.events import EventRecord, PipelineDeleted
from dataflow.domain.orders import Admission, AppendOrder, IngestAnswer, IngestOrder, TakeOrder
from dataflow.domain.state import ErrorType
from dataflow.errors import Conflict, Corrupt
from dataflow.inbox import Inbox
from dataflow.journal import Journal


@dataclass(frozen=True, slots=True)
class JournalActivities:
    """`recorded` is told of the last event of each append of this process."""

    journal: Journal
    link: CoordinatorLink
    inbox: Inbox
    recorded: Callable[[EventRecord], None] | None = None

    @activity.defn(name=APPEND.name)
    async def append(self, order: AppendOrder) -> None:
        """Append the records, then the snapshot, then tell the coordinator. Repeating it changes nothing. A journal
        that is down is waited for: Temporal retries whatever is not a conflict."""
        first, last = order.records[0], order.records[-1]
        try:
            await self.journal.append(first.stream, first.sequence - 1, order.records)
        except (Conflict, Corrupt) as final:
            raise failure(pipeline_error(final, ErrorType.SYSTEM)) from final
        if order.snapshot is not None:
            await self.journal.snapshot(last.stream, last.sequence, order.snapshot)
        if last.type == PipelineDeleted.__name__ and self.inbox.exists:
            await self.inbox.retire(last.stream)
        if order.report is not None:
            await self.link.report(order.report)
        if self.recorded is not None:
            self.recorded(last)

    @activity.defn(name=TAKE.name)
    async def take(self, order: TakeOrder) -> list[Admission]:
        """Admit the batches. Repeating it changes nothing: a token finds its own batch admitted."""
        return await self.inbox.admit(order.pipeline, order.batches)

    @activity.defn(name=INGEST.name)
    async def ingest(self, order: IngestOrder) -> IngestAnswer:
        """Admit the batch, then append its event. Repeating it changes nothing: the token finds its own batch admitted,
        the records their own places taken. A crash in between is made good by the repetition, which Temporal sees to;
        until then the caller has no answer, and its retry waits behind this one."""
        [admission] = await self.inbox.admit(order.pipeline, [(order.batch_id, order.token)])
        if admission is Admission.NEW:
            await self.append(order.append)
        return IngestAnswer(admission=admission)
