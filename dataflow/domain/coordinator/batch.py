"""Many commands at once: what came in while the journal was being written is carried out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dataflow.domain.commands import Origin
from dataflow.domain.coordinator import commands as c
from dataflow.domain.coordinator import events as e
from dataflow.domain.coordinator.decision import decide
from dataflow.domain.coordinator.evolution import evolve, frozen, thawed
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.record import EventRecord
from dataflow.errors import DataFlowError

ITSELF = Origin(actor="coordinator")


@dataclass(frozen=True, slots=True)
class Order:
    """A command, and who gave it."""

    command: c.Command
    origin: Origin = ITSELF


Answer = tuple[e.Event, ...] | DataFlowError


@dataclass(frozen=True, slots=True)
class Outcome:
    """The records to append and the state after them; for each order what happened, or why it was refused; and what
    was granted in the end to those that had been waiting, with the origin of their request."""

    state: CoordinatorState
    records: tuple[EventRecord, ...]
    answers: tuple[Answer, ...]
    granted: tuple[tuple[str, Origin], ...]


def carry_out(state: CoordinatorState, orders: Sequence[Order], time: datetime) -> Outcome:
    """Carry out one order after the other, each as it finds the state, then give out what slots are free. An order that
    is refused changes nothing and holds back none of the others."""
    records: list[EventRecord] = []
    answers: list[Answer] = []
    state = thawed(state)
    for order in orders:
        try:
            happened = decide(state, order.command)
        except DataFlowError as refused:
            answers.append(refused)
            continue
        state = _applied(state, happened, order.origin, time, records)
        answers.append(happened)
    waited = dict(state.waiting)
    released = decide(state, c.GrantWaiting())
    state = _applied(state, released, ITSELF, time, records)
    granted = []
    for event in released:
        if isinstance(event, e.AdmissionGranted):
            request = waited[event.pipeline_id]
            granted.append((event.pipeline_id, Origin(actor=request.actor, correlation_id=request.correlation_id)))
    return Outcome(frozen(state), tuple(records), tuple(answers), tuple(granted))


def _applied(
    state: CoordinatorState, happened: Sequence[e.Event], origin: Origin, time: datetime, records: list[EventRecord]
) -> CoordinatorState:
    sealed = e.CATALOGUE.seal(
        happened,
        stream=state.coordinator_id,
        after_sequence=state.version,
        previous_hash=state.last_hash,
        time=time,
        actor=origin.actor,
        correlation_id=origin.correlation_id,
        causation_id=origin.causation_id,
    )
    for record in sealed:
        state = evolve(state, record)
    records.extend(sealed)
    return state
