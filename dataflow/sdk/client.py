"""The asynchronous client: commands, queries and live progress of pipelines.

Every method raises the errors of `dataflow.errors`: `NotFound`, `IllegalCommand`, `InvalidSpec`, `Conflict`, and
`Retryable` where Temporal or a worker does not answer. A command returns when its events are in the journal, so a
caller reads what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from temporalio.client import Client as TemporalClient
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryRejectedError,
)
from temporalio.common import QueryRejectCondition, SearchAttributeKey, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import WorkflowAlreadyStartedError

from activities.together import Together
from dataflow.domain.commands import IngestBatch, Origin, UpdateConfig
from dataflow.domain.orders import Admission, Target
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import PipelineState
from dataflow.errors import DataFlowError, NotFound, Rejected, Retryable
from dataflow.inbox import Batch, Inbox
from dataflow.sdk.failures import translated
from dataflow.sdk.ingest import TOGETHER, Ingested, ingest
from dataflow.sdk.progress import Progress, combine
from dataflow.sdk.queries import query
from dataflow.sdk.system import System
from workflows.names import PIPELINE, Carried, Tuning, workflow_id

_ANSWER = 120.0  # seconds for a command: a segment may have to drain first. `rpc_timeout` bounds single polls only.


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list of pipelines, from Temporal's index (a moment behind)."""

    id: str
    name: str
    status: str
    source: str
    sink: str
    owner: str


async def connect(target: str, namespace: str) -> TemporalClient:
    """A Temporal client that speaks our values. Raises `Retryable` where nothing answers."""
    try:
        return await TemporalClient.connect(target, namespace=namespace, data_converter=pydantic_data_converter)
    except RuntimeError as refused:
        raise Retryable(
            f"no Temporal server answers at {target}: {refused}", code="CONNECTION_FAILED", hint="is it running?"
        ) from refused


class Client:
    """Commands and queries over one Temporal namespace. `actor` is kept on every event the commands cause. `inbox` is
    the deployment's, for clients that push records."""

    def __init__(
        self,
        temporal: TemporalClient,
        *,
        task_queue: str,
        actor: str = "",
        tuning: Tuning | None = None,
        inbox: Inbox | None = None,
    ) -> None:
        self.temporal = temporal
        self._queue = task_queue
        self._actor = actor or "sdk"
        self._tuning = tuning or Tuning()
        self.system = System(temporal, task_queue, self._actor)
        self._inbox = inbox
        self._pushing: dict[str, Together[Batch, Ingested | DataFlowError]] = {}

    async def create(self, spec: PipelineSpec) -> PipelineState:
        """Create the pipeline; `Conflict` where its id exists, or existed and was deleted."""
        pipeline = spec.pipeline_id
        begin = WithStartWorkflowOperation[Any, Any](
            PIPELINE,
            Carried(state=PipelineState.empty(pipeline), tuning=self._tuning),
            id=workflow_id(pipeline),
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
        with translated(pipeline):
            try:
                async with asyncio.timeout(_ANSWER):
                    return await self.temporal.execute_update_with_start_workflow(  # type: ignore[no-any-return]
                        "create",
                        args=[spec.stored(), self._origin()],
                        start_workflow_operation=begin,
                        result_type=PipelineState,
                    )
            except WorkflowAlreadyStartedError:
                # The operation keeps the same error in a future; taken out, or asyncio reports it as forgotten.
                with suppress(WorkflowAlreadyStartedError):
                    await begin.workflow_handle()
                raise

    async def restore(self, state: PipelineState) -> None:
        """Start the workflow of a pipeline that the journal knows and Temporal has forgotten, from its folded state."""
        with translated(state.pipeline_id):
            await self.temporal.start_workflow(
                PIPELINE,
                Carried(state=state, tuning=self._tuning),
                id=workflow_id(state.pipeline_id),
                task_queue=self._queue,
            )

    async def start(self, pipeline: str) -> PipelineState:
        """Start, or start again from where it was stopped."""
        return await self._update(pipeline, "start")

    async def stop(self, pipeline: str, reason: str = "") -> PipelineState:
        """End the run at an epoch boundary."""
        return await self._update(pipeline, "stop", reason)

    async def pause(self, pipeline: str, reason: str = "") -> PipelineState:
        """Hold at an epoch boundary."""
        return await self._update(pipeline, "pause", reason)

    async def resume(self, pipeline: str) -> PipelineState:
        """Go on after a pause."""
        return await self._update(pipeline, "resume")

    async def reset(self, pipeline: str, *, from_start: bool = False) -> PipelineState:
        """Back to configured, keeping definition and checkpoint; `from_start`: a new generation from the beginning."""
        return await self._update(pipeline, "reset", from_start)

    async def rewind(self, pipeline: str, to: int | datetime | Mapping[str, str | int]) -> PipelineState:
        """Back to configured, in a new generation that begins at an earlier checkpoint: the one recorded by the event
        `to` (its sequence), the one of that time, or the places given for every split (`*` for all others): a number
        or a time as its source counts (Kafka: offsets, times of messages), or a position as events have it.

        Of what sinks wrote behind a recorded checkpoint they take away what they can (files; Kafka cannot), and it is
        written again; behind places that were given, everything stays, and the range is written a second time."""
        if isinstance(to, Mapping):
            target = Target(splits={split: str(place) for split, place in to.items()})
        else:
            target = Target(time=to) if isinstance(to, datetime) else Target(event=to)
        return await self._update(pipeline, "rewind", target)

    async def update(
        self, pipeline: str, spec: PipelineSpec | Mapping[str, Any], *, partial: bool = False, from_start: bool = False
    ) -> PipelineState:
        """Change the definition of a configured or stopped pipeline; see `commands.UpdateConfig`."""
        stored = spec.stored() if isinstance(spec, PipelineSpec) else dict(spec)
        return await self._update(
            pipeline, "update_config", UpdateConfig(spec=stored, partial=partial, from_start=from_start)
        )

    async def ingest(
        self,
        pipeline: str,
        records: Sequence[Mapping[str, Any]],
        *,
        batch_id: str,
        source_offset: int = 0,
    ) -> Ingested:
        """Push 1 to 10,000 records (8 MiB of JSON at most) to a running pipeline with a source of type `push`. They are
        on disk and recorded when this returns. The same `batch_id` again changes nothing and has the same answer, for
        ever and in every state of the pipeline; with other records it is a `Conflict`.

        Raises `InvalidSpec` (paths such as `records[3]`), `Rejected` (TOO_LARGE), `IllegalCommand` where the pipeline
        takes none now; `Retryable` leaves open whether the batch was taken: send it again."""
        if self._inbox is None:
            raise Rejected("this client has no inbox", code="NO_INBOX", hint="push over HTTP, or give it one")
        batch = await asyncio.to_thread(Batch.of, batch_id, records, source_offset)
        if pipeline not in self._pushing:
            self._pushing[pipeline] = Together(partial(self._ingest, self._inbox, pipeline), TOGETHER)
        with translated(pipeline):
            found = await self._pushing[pipeline](batch)
        if isinstance(found, DataFlowError):
            raise found
        return found

    async def _ingest(
        self, inbox: Inbox, pipeline: str, batches: Sequence[Batch]
    ) -> Sequence[Ingested | DataFlowError]:
        async def command(orders: list[IngestBatch]) -> Sequence[Admission]:
            with translated(pipeline):
                if len(orders) == 1:  # a round less for the workflow; who was first, the inbox tells
                    await self._handle(pipeline).execute_update("ingest", args=[orders[0], self._origin()])
                    return [Admission.NEW]
                admissions: list[Admission] = await self._handle(pipeline).execute_update(
                    "ingest_all", args=[orders, self._origin()], result_type=list[Admission]
                )
                return admissions

        return await ingest(inbox, pipeline, batches, command, _ANSWER)

    async def delete(self, pipeline: str) -> PipelineState:
        """Retire for good; its events stay."""
        return await self._update(pipeline, "delete")

    async def state(self, pipeline: str) -> PipelineState:
        """The state as recorded: what folding the journal gives."""
        with translated(pipeline):
            state = await self._queried(pipeline)
        if not state.version:
            raise NotFound(f"there is no pipeline {pipeline!r}", hint="dataflow list shows all")
        return state

    async def _queried(self, pipeline: str) -> PipelineState:
        while True:
            try:
                state: PipelineState = await query(
                    self._handle(pipeline), "state", gives=PipelineState, reject=QueryRejectCondition.NOT_OPEN
                )
                return state
            except WorkflowQueryRejectedError as rejected:
                if rejected.status is not WorkflowExecutionStatus.CONTINUED_AS_NEW:
                    raise
                await asyncio.sleep(0.02)  # asked of a run that was just then followed by the next

    async def progress(self, pipeline: str) -> Progress:
        """The recorded state and, on top of it, what the running segments tell in their heartbeats."""
        state = await self.state(pipeline)
        with translated(pipeline):
            description = await self._handle(pipeline).describe()
        beats: dict[str, Mapping[str, Any]] = {}
        for pending in description.raw_description.pending_activities:
            if pending.activity_type.name == "dataflow.move" and pending.HasField("heartbeat_details"):
                details = await self.temporal.data_converter.decode(pending.heartbeat_details.payloads)
                beats[details[0]["lane"]] = details[0]
        return combine(state, beats)

    async def list(self, status: str | None = None) -> list[Summary]:
        """All pipelines that are not deleted, by name; only those with that status where one is given."""
        keys = [
            SearchAttributeKey.for_keyword(f"Dataflow{key}") for key in ("Name", "Status", "Source", "Sink", "Owner")
        ]
        query = f"WorkflowType = '{PIPELINE}' AND ExecutionStatus = 'Running'"
        if status:
            query += f" AND DataflowStatus = '{status}'"
        found = []
        with translated("*"):
            async for run in self.temporal.list_workflows(query):
                texts = [str(run.typed_search_attributes.get(key, "")) for key in keys]
                if texts[1]:
                    found.append(Summary(run.id.removeprefix("pipeline/"), *texts))
        return sorted(found, key=lambda summary: (summary.name, summary.id))

    async def _update(self, pipeline: str, name: str, *args: Any) -> PipelineState:
        with translated(pipeline):
            async with asyncio.timeout(_ANSWER):
                return await self._handle(pipeline).execute_update(  # type: ignore[no-any-return]
                    name, args=[*args, self._origin()], result_type=PipelineState
                )

    def _handle(self, pipeline: str) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(workflow_id(pipeline))

    def _origin(self) -> Origin:
        return Origin(actor=self._actor, correlation_id=str(uuid4()))
