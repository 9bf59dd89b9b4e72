"""The coordinator: the registry of pipelines and workers, and who may start, as a durable workflow.

As a pipeline, it is the only writer of its journal stream (Invariant 4), and what it answers is in the journal already.
What comes in while the journal is being written is carried out together in the next step; of several reports of one
pipeline only the newest counts. Nothing here happens for each epoch or second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.names import KEEP, NOTIFY, RECALL, SURVEY, Activity
    from dataflow.domain.commands import Origin
    from dataflow.domain.coordinator import commands as c
    from dataflow.domain.coordinator.batch import ITSELF, Answer, Order, carry_out
    from dataflow.domain.coordinator.commands import PipelineReport
    from dataflow.domain.coordinator.decision import AT_ONCE
    from dataflow.domain.coordinator.events import AdmissionRefused
    from dataflow.domain.coordinator.orders import (
        Admission,
        AdmissionRequest,
        Decision,
        Heard,
        NotifyOrder,
        Presence,
        RecallOrder,
        SurveyOrder,
    )
    from dataflow.domain.coordinator.overview import Beat, Overview, PipelineInfo, info, overview, page, still
    from dataflow.domain.coordinator.packing import MOST, joined, pack, unpack
    from dataflow.domain.coordinator.state import CoordinatorState, Limits
    from dataflow.domain.orders import AppendOrder
    from dataflow.domain.state import Status
    from dataflow.errors import DataFlowError
    from workflows.calls import start
    from workflows.failures import check_type, failure
    from workflows.names import COORDINATOR, CoordinatorCarried

BUSY = "BUSY"
"""Type of the error for those who ask while the coordinator is about to continue as new: ask again."""

PAGE = 1000
"""Pipelines in one answer at most."""


In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(slots=True, eq=False)
class _Asked:
    """An order that somebody waits for."""

    order: Order
    answer: Answer | None = None


@workflow.defn(name=COORDINATOR)
class CoordinatorWorkflow:
    """Lives for ever; continues as new before its history grows long."""

    @workflow.init
    def __init__(self, carried: CoordinatorCarried, packed: bytes = b"") -> None:
        self._carried = carried
        self._state = CoordinatorState.empty(carried.coordinator_id)
        self._beats: dict[str, Beat] = {}
        self._reports: dict[str, PipelineReport] = {}
        self._workers: dict[str, Order] = {}
        self._cpu: dict[str, Mapping[str, float]] = {}
        self._limits: Limits | None = None
        self._asked: list[_Asked] = []
        self._more = False
        self._background: set[asyncio.Task[None]] = set()
        self._ready = bool(packed) and carried.recall is None
        if packed:
            self._state, self._beats, reports = unpack(packed)
            self._reports = {report.pipeline_id: report for report in reports}

    @workflow.run
    async def run(self, carried: CoordinatorCarried, packed: bytes = b"") -> None:
        if not self._ready:
            await self._recall(carried.recall, survey=carried.runs == 1)
        while True:
            await workflow.wait_condition(lambda: self._due() or self._heavy())
            if self._due():
                await self._step()
            if self._heavy() and not self._asked and not self._workers:
                await workflow.wait_condition(lambda: workflow.all_handlers_finished() and not self._background)
                if not self._asked and not self._workers:
                    self._continue()

    # What pipelines and workers say

    @workflow.signal
    def report(self, reports: Sequence[PipelineReport]) -> None:
        """Pipelines that changed."""
        for one in reports:
            if isinstance(one, PipelineReport):  # sent by hand it may be anything
                self._take(one)

    @workflow.signal
    def heard(self, heard: Heard) -> None:
        """Pipelines that live, with what they count by now."""
        now = workflow.now()
        for pipeline, counts in heard.items():
            if counts is not None:
                self._beats[pipeline] = Beat(at=now, records=counts[0], failed=counts[1])
            elif (entry := self._state.pipelines.get(pipeline)) is not None:
                self._beats[pipeline] = still(entry, self._beats.get(pipeline), now)

    @workflow.signal
    def present(self, presence: Presence) -> None:
        """A worker tells of itself."""
        usage = presence.usage
        self._workers[usage.worker] = Order(usage, Origin(actor=f"worker:{usage.worker}"))
        self._limits = presence.limits
        self._cpu = {name: cpu for name, cpu in self._cpu.items() if name in self._state.workers}
        self._cpu[usage.worker] = presence.cpu

    # What is asked of it

    @workflow.update
    async def admit(self, requests: Sequence[AdmissionRequest], limits: Limits | None = None) -> list[Decision]:
        """May these pipelines start? Many at once: a run of Temporal's takes a limited number of updates. `limits` are
        those of the settings of whoever asks."""
        if limits is not None:
            self._limits = limits
        orders = [Order(c.RequestAdmission(report=one.report), one.origin) for one in requests]
        answers = await self._ask(orders)
        return [self._decision(one.report.pipeline_id, answer) for one, answer in zip(requests, answers, strict=True)]

    @admit.validator
    def _check_admit(self, requests: Sequence[AdmissionRequest], limits: Limits | None = None) -> None:
        for request in requests:
            check_type(request, AdmissionRequest)
        self._check_busy()

    @workflow.update
    async def leave(self, worker: str = "") -> None:
        """A process ends, and with it this worker if it is named. Answered when what the process has said is recorded:
        left undone, it would wait for a worker that is gone, and the next process with it."""
        gone = c.RemoveWorker(worker=worker, reason="it left") if worker else c.Tidy(at=workflow.now())
        await self._ask([Order(gone, Origin(actor=f"worker:{worker}" if worker else ITSELF.actor))])

    @leave.validator
    def _check_leave(self, worker: str = "") -> None:
        self._check_busy()

    @workflow.update
    async def register(self, report: PipelineReport, origin: Origin = ITSELF) -> None:
        """Add a pipeline by hand; one that is there already is an error."""
        await self._command(Order(c.RegisterPipeline(report=report), origin))

    @register.validator
    def _check_register(self, report: PipelineReport, origin: Origin = ITSELF) -> None:
        self._check_busy()
        check_type(report, PipelineReport)

    @workflow.update
    async def unregister(self, pipeline: str, origin: Origin = ITSELF) -> None:
        """Take a pipeline out by hand, such as one whose workflow an operator ended; an unknown one is an error."""
        await self._command(Order(c.UnregisterPipeline(pipeline_id=pipeline), origin))

    @unregister.validator
    def _check_unregister(self, pipeline: str, origin: Origin = ITSELF) -> None:
        self._check_busy()

    @workflow.update
    async def survey(self) -> None:
        """Look through the journal for every pipeline, and note what was missed."""
        self._run(self._surveyed())

    @survey.validator
    def _check_survey(self) -> None:
        self._check_busy()

    @workflow.query
    def overview(self, now: datetime) -> Overview:
        """The whole system as of `now`, which is the asker's: a workflow's own clock stands still between its tasks."""
        return overview(self._known(), self._beats, now, self._cpu)

    @workflow.query
    def info(self, pipeline: str, now: datetime) -> PipelineInfo | None:
        """One pipeline, None where it is not registered."""
        return info(self._known(), self._beats, pipeline, now, self._cpu)

    @workflow.query
    def page(
        self, now: datetime, status: Status | None = None, after: str = "", limit: int = 100
    ) -> list[PipelineInfo]:
        """The next pipelines behind the id `after`, by id; at most `limit`, and never more than `PAGE`."""
        most = max(1, min(limit, PAGE))
        return list(
            page(self._known(), self._beats, now, status=status, after=after, limit=most, cpu_by_worker=self._cpu)
        )

    # One step after the other

    def _known(self) -> CoordinatorState:
        if not self._ready:
            raise ApplicationError("the coordinator is reading its journal", type=BUSY)
        return self._state

    def _take(self, report: PipelineReport) -> None:
        waiting = self._reports.get(report.pipeline_id)
        if waiting is None or waiting.version <= report.version:
            self._reports[report.pipeline_id] = report

    def _due(self) -> bool:
        return bool(self._reports or self._workers or self._asked or self._more) or (
            self._limits is not None and self._limits != self._state.limits
        )

    def _heavy(self) -> bool:
        history = workflow.info()
        return (
            history.is_continue_as_new_suggested()
            or history.get_current_history_length() > self._carried.history_events
        )

    def _check_busy(self) -> None:
        if self._heavy():
            raise ApplicationError("the coordinator continues as new", type=BUSY, non_retryable=True)

    async def _ask(self, orders: Sequence[Order]) -> list[Answer]:
        asked = [_Asked(order) for order in orders]
        self._asked += asked
        await workflow.wait_condition(lambda: all(one.answer is not None for one in asked))
        return [one.answer for one in asked if one.answer is not None]

    async def _command(self, order: Order) -> None:
        (answer,) = await self._ask([order])
        if isinstance(answer, DataFlowError):
            raise failure(answer) from answer

    def _decision(self, pipeline: str, answer: Answer) -> Decision:
        if isinstance(answer, DataFlowError):
            return Decision(admission=Admission.REFUSED, reason=str(answer))
        for event in answer:
            if isinstance(event, AdmissionRefused):
                return Decision(admission=Admission.REFUSED, reason=event.reason)
        waiting = self._state.waiting.get(pipeline)
        if waiting is not None:
            return Decision(admission=Admission.QUEUED, reason=waiting.reason)
        return Decision(admission=Admission.GRANTED)

    async def _step(self) -> None:
        """Carry out what has come in, up to one batch of it: reports first, they may free what is asked for."""
        most = self._carried.batch
        workers, self._workers = self._workers, {}
        asked, self._asked = self._asked[: most // 2], self._asked[most // 2 :]
        taken = list(self._reports)[: most - len(asked)]
        reports = [self._reports.pop(pipeline) for pipeline in taken]
        orders = [Order(c.Tidy(at=workflow.now()))]
        if self._limits is not None:
            orders.append(Order(c.ChangeLimits(limits=self._limits)))
        orders += workers.values()
        orders += [Order(c.NoteReport(report=one), Origin(actor="pipeline")) for one in reports]
        first = len(orders)
        outcome = carry_out(self._state, [*orders, *(one.order for one in asked)], workflow.now())
        if outcome.records:
            try:
                # Invariant 3: in the journal before anybody is answered, and before the state moves.
                await start(KEEP, AppendOrder(records=outcome.records), within=20)
            except ActivityError as failed:
                workflow.logger.warning("the journal goes on elsewhere, reading it again: %s", failed.cause or failed)
                await workflow.sleep(1)
                self._workers = {**workers, **self._workers}
                self._asked = [*asked, *self._asked]
                for one in reports:
                    self._take(one)
                await self._recall(None)
                return
        self._state = outcome.state
        for item, answer in zip(asked, outcome.answers[first:], strict=True):
            item.answer = answer
        for one in reports:
            if one.pipeline_id not in self._state.pipelines:
                self._beats.pop(one.pipeline_id, None)
        if outcome.granted:
            self._run(self._tell(outcome.granted))
        self._more = len(outcome.granted) >= AT_ONCE

    async def _recall(self, upto: int | None, *, survey: bool = False) -> None:
        """Take the state from the journal: at the first start, when Temporal has lost it, or when it is too large to
        be carried."""
        stream = self._carried.coordinator_id
        found = await self._long(RECALL, RecallOrder(stream=stream, upto=upto, survey=survey))
        texts = [found.text]
        for part in range(1, found.parts):
            order = RecallOrder(stream=stream, upto=found.sequence, part=part)
            texts.append((await self._long(RECALL, order)).text)
        self._state = joined(texts) if found.parts else CoordinatorState.empty(stream)
        self._ready = True
        if self._state.granted:  # perhaps they were never told
            self._run(self._tell(tuple((pipeline, ITSELF) for pipeline in self._state.granted)))
        if survey and found.pipelines:
            self._run(self._surveyed())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _tell(self, granted: Sequence[tuple[str, Origin]]) -> None:
        gone = await start(NOTIFY, NotifyOrder(granted=tuple(granted)), within=30)
        for pipeline in gone:
            command = c.WithdrawAdmission(pipeline_id=pipeline, reason="its workflow is gone")
            self._asked.append(_Asked(Order(command)))

    async def _surveyed(self) -> None:
        await self._long(SURVEY, SurveyOrder(coordinator_id=self._carried.coordinator_id))

    async def _long(self, activity: Activity[In, Out], order: In) -> Out:
        """An activity that takes as long as there are events; a lost worker is noticed by its heartbeat."""
        return await start(activity, order, within=3600, heartbeat=10, queue=workflow.info().task_queue)

    def _continue(self) -> None:
        carried = replace(self._carried, runs=self._carried.runs + 1, recall=None)
        packed = pack(self._state, self._beats, tuple(self._reports.values()))
        if len(packed) > MOST:
            workflow.logger.warning("the state of %d bytes is left to the journal", len(packed))
            carried = replace(carried, recall=self._state.version)
            nothing = CoordinatorState.empty(self._state.coordinator_id)
            packed = pack(nothing, {}, tuple(self._reports.values()))
        workflow.continue_as_new(args=[carried, packed])
