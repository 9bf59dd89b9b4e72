"""Every activity by name, with what goes in and what comes out. Workflows import only this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dataflow.domain.coordinator.orders import (
    AdmissionRequest,
    Decision,
    NotifyOrder,
    Recalled,
    RecallOrder,
    SurveyOrder,
)
from dataflow.domain.orders import (
    Admission,
    AppendOrder,
    CompleteOrder,
    IngestAnswer,
    IngestOrder,
    LocateOrder,
    PlanOrder,
    SegmentOrder,
    SegmentReport,
    SettleOrder,
    TakeOrder,
)
from dataflow.domain.state import Plan, Rewind
from dataflow.projections.orders import ProjectOrder, ProjectReport

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Activity(Generic[In, Out]):
    """A typed activity name: what the workflow calls and what the worker registers."""

    name: str
    takes: type[In]
    gives: type[Out]


PLAN = Activity("dataflow.plan", PlanOrder, Plan)
MOVE = Activity("dataflow.move", SegmentOrder, SegmentReport)
APPEND: Activity[AppendOrder, None] = Activity("dataflow.append", AppendOrder, type(None))
LOCATE = Activity("dataflow.locate", LocateOrder, Rewind)
TAKE: Activity[TakeOrder, list[Admission]] = Activity("dataflow.take", TakeOrder, list[Admission])
INGEST = Activity("dataflow.ingest", IngestOrder, IngestAnswer)  # of a batch that comes alone
SETTLE: Activity[SettleOrder, None] = Activity("dataflow.settle", SettleOrder, type(None))
COMPLETE: Activity[CompleteOrder, dict[str, Any]] = Activity("dataflow.complete", CompleteOrder, dict[str, Any])

ADMIT = Activity("dataflow.admit", AdmissionRequest, Decision)
KEEP: Activity[AppendOrder, None] = Activity("dataflow.coordinator.append", AppendOrder, type(None))
RECALL = Activity("dataflow.coordinator.recall", RecallOrder, Recalled)
NOTIFY: Activity[NotifyOrder, list[str]] = Activity("dataflow.coordinator.notify", NotifyOrder, list[str])
SURVEY: Activity[SurveyOrder, int] = Activity("dataflow.coordinator.survey", SurveyOrder, int)
PROJECT = Activity("dataflow.project", ProjectOrder, ProjectReport)
