"""Every activity by name, with what goes in and what comes out. Workflows import only this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dataflow.domain.orders import AppendOrder, CompleteOrder, PlanOrder, SegmentOrder, SegmentReport
from dataflow.domain.state import Plan

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
COMPLETE: Activity[CompleteOrder, dict[str, Any]] = Activity("dataflow.complete", CompleteOrder, dict[str, Any])
