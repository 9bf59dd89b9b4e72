"""Do Temporal's history of a workflow and its journal stream tell the same? And does today's code still replay it?

A workflow's appends are activities, so the records it meant to write are in its history, hash by hash. Temporal forgets
histories after its retention; what it still has is compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities.names import APPEND, KEEP
from dataflow.domain.orders import AppendOrder
from dataflow.domain.record import EventRecord
from dataflow.errors import NotFound
from dataflow.journal import Journal
from dataflow.worker import WORKFLOWS

_APPENDS = {APPEND.name, KEEP.name}


@dataclass(slots=True)
class Comparison:
    """What was found. `events` counts the records that both have; `runs` the workflow's runs that Temporal still has,
    `earlier` the events of before them. `differences` are sentences for people: none is good."""

    stream: str
    runs: int = 0
    events: int = 0
    earlier: int = 0
    differences: list[str] = field(default_factory=list)


async def compare(client: Client, journal: Journal, workflow: str, stream: str) -> Comparison:
    """Compare the workflow's histories with the stream, and replay them. `NotFound` where Temporal knows no such
    workflow any more."""
    head = await journal.head(stream)  # before the histories are read: what is in the journal now is in them then
    reached = head.sequence if head else 0
    result = Comparison(stream)
    meant: dict[int, EventRecord] = {}
    done: set[int] = set()
    async for run in client.list_workflows(f"WorkflowId = '{workflow}'"):
        history = await client.get_workflow_handle(workflow, run_id=run.run_id).fetch_history()
        result.runs += 1
        for order, completed in await _appends(client, history):
            for record in order.records:
                before = meant.setdefault(record.sequence, record)
                if before.hash != record.hash:
                    result.differences.append(f"event {record.sequence}: the history has it twice, differently")
                if completed:
                    done.add(record.sequence)
        replayed = await Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter).replay_workflow(
            history, raise_on_replay_failure=False
        )
        if replayed.replay_failure is not None:
            result.differences.append(f"run {run.run_id} does not replay: {replayed.replay_failure}")
    if not result.runs:
        raise NotFound(f"Temporal knows no workflow {workflow!r}", hint="its retention may be over: the journal stays")
    await _compared(journal, stream, result, meant, done, reached)
    return result


async def _appends(client: Client, history: WorkflowHistory) -> list[tuple[AppendOrder, bool]]:
    """The orders to append in this history, and whether each was carried out."""
    orders: dict[int, AppendOrder] = {}
    completed: set[int] = set()
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name in _APPENDS:
                [order] = await client.data_converter.decode(scheduled.input.payloads, [AppendOrder])
                orders[event.event_id] = order
        elif event.HasField("activity_task_completed_event_attributes"):
            completed.add(event.activity_task_completed_event_attributes.scheduled_event_id)
    return [(order, number in completed) for number, order in orders.items()]


async def _compared(
    journal: Journal, stream: str, result: Comparison, meant: dict[int, EventRecord], done: set[int], reached: int
) -> None:
    first = min(meant, default=reached + 1)
    result.earlier = first - 1
    stored: set[int] = set()
    async for record in journal.read(stream, after=first - 1):
        stored.add(record.sequence)
        known = meant.get(record.sequence)
        if known is not None and known.hash == record.hash:
            result.events += 1
        elif known is not None:
            result.differences.append(f"event {record.sequence}: journal and history tell different things")
        elif record.sequence <= reached:
            result.differences.append(f"event {record.sequence}: in the journal, but not in the history")
    for sequence in sorted(done - stored):
        result.differences.append(f"event {sequence}: in the history as written, but not in the journal")
