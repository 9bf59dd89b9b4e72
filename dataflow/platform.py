"""The platform in this process: Temporal found or started, the journal open, a worker polling, a client ready.

The same code embedded and in production: what differs is what the settings name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client as TemporalClient
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from dataflow.domain.record import EventRecord
from dataflow.embedded.temporal import Address, temporal_server
from dataflow.errors import Rejected
from dataflow.inbox import Inbox
from dataflow.journal import Journal, open_journal
from dataflow.patience import Patience
from dataflow.sdk.client import Client, connect
from dataflow.settings import Settings
from dataflow.worker import working
from workflows.names import ATTRIBUTES, PROJECTOR, ProjectorTuning, Tuning, projector_id, projector_queue

AT_ONCE = Patience()
"""For who would rather hear at once that something is away."""


class Work(StrEnum):
    """What this process does beside giving commands."""

    ALL = "all"
    CONTROL = "control"  # answers for pipelines, moves no data
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Platform:
    """What a command needs. `client` gives commands, `journal` remembers, `address` tells where Temporal is."""

    settings: Settings
    address: Address
    client: Client
    journal: Journal


@asynccontextmanager
async def platform(
    settings: Settings,
    *,
    on_progress: Callable[[str], None] | None = None,
    work: Work = Work.ALL,
    project: bool = False,
    actor: str = "",
    patience: Patience = AT_ONCE,
    recorded: Callable[[EventRecord], None] | None = None,
) -> AsyncIterator[Platform]:
    """Everything up, and down again in the opposite order: the worker drains first, the server goes last.

    `on_progress` takes lines for people about what takes long. With `project` the projector runs, here or
    elsewhere. A journal or a configured Temporal that is not there yet is waited for with `patience`. `recorded` is
    told of the last event of each append of this process."""
    async with AsyncExitStack() as stack:
        settings.home.mkdir(parents=True, exist_ok=True)
        address = await stack.enter_async_context(
            temporal_server(settings, on_progress=on_progress) if on_progress else temporal_server(settings)
        )
        journal = await patience.until(
            "the journal", lambda: stack.enter_async_context(open_journal(settings.journal_url))
        )
        inbox = Inbox(settings.inbox_url)
        stack.callback(inbox.close)
        temporal = await patience.until("Temporal", lambda: connect(address.target, address.namespace))
        if not address.owned:
            await register_attributes(temporal, address.namespace)
        if work is not Work.NONE:
            data = work is Work.ALL
            await stack.enter_async_context(
                working(temporal, journal, inbox, settings, data=data, project=project, recorded=recorded)
            )
        if project:
            await start_projector(temporal, settings)
        tuning = Tuning(
            heartbeat_timeout=settings.heartbeat_timeout,
            segment_first=settings.segment_min,
            segment_longest=settings.segment_max,
        )
        client = Client(temporal, task_queue=settings.task_queue, actor=actor, tuning=tuning, inbox=inbox)
        yield Platform(settings, address, client, journal)


async def start_projector(temporal: TemporalClient, settings: Settings) -> None:
    """Make sure that the projector's workflow is there. Repeatable."""
    await temporal.start_workflow(
        PROJECTOR,
        ProjectorTuning(heartbeat_timeout=settings.heartbeat_timeout),
        id=projector_id(settings.task_queue),
        task_queue=projector_queue(settings.task_queue),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )


async def register_attributes(temporal: TemporalClient, namespace: str) -> None:
    """Make sure the cluster indexes our search attributes. Repeatable; `Rejected` where we may not add them."""
    operator = temporal.operator_service
    try:
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
        missing = {name: kind for name, kind in ATTRIBUTES.items() if name not in known.custom_attributes}
        if missing:
            types = {
                name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}") for name, kind in missing.items()
            }
            await operator.add_search_attributes(
                AddSearchAttributesRequest(namespace=namespace, search_attributes=types)
            )
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return
        raise Rejected(
            f"the search attributes {', '.join(ATTRIBUTES)} are not there and cannot be added: {error.message}",
            code="SEARCH_ATTRIBUTES",
            hint="let an operator add them: temporal operator search-attribute create",
        ) from error
