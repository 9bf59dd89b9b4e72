"""Appending to the journal."""

from __future__ import annotations

from dataclasses import dataclass

from temporalio import activity

from activities.link import CoordinatorLink
from activities.names import APPEND
from activities.translate import failure, pipeline_error
from dataflow.domain.orders import AppendOrder
from dataflow.domain.state import ErrorType
from dataflow.errors import Conflict, Corrupt
from dataflow.journal import Journal


@dataclass(frozen=True, slots=True)
class JournalActivities:
    journal: Journal
    link: CoordinatorLink

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
        if order.report is not None:
            await self.link.report(order.report)
