"""Folding streams: the state at any event or time, and the snapshots that make it quick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Generic, TypeVar

from dataflow.domain.coordinator import evolution as coordination
from dataflow.domain.coordinator.packing import packed, unpacked
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.pipeline import fold
from dataflow.domain.record import EventRecord
from dataflow.domain.state import PipelineState, states
from dataflow.errors import NotFound
from dataflow.journal.base import MILESTONE, SNAPSHOTS_KEPT, Journal

FOLDED_AT_ONCE = 500
VERSION_KEY = "aggregate_version"
"""Beside the state's own keys in a snapshot; 1 where it is missing."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[S]):
    """How the events of a stream become a state, and the state plain JSON.

    `version` rises when the state's shape or the meaning of an event changes: snapshots of other versions are passed
    over, the events decide. `every` is the distance of snapshots in events. A state is written by `dump`, and `load`
    raises ValueError for what is none."""

    empty: Callable[[str], S]
    fold: Callable[[S, Iterable[EventRecord]], S]
    dump: Callable[[S], dict[str, Any]]
    load: Callable[[Mapping[str, Any]], S]
    version: int = 1
    every: int = 100


@cache
def pipelines() -> Aggregate[PipelineState]:
    """The aggregate of pipeline streams."""

    def dump(state: PipelineState) -> dict[str, Any]:
        dumped: dict[str, Any] = states().dump_python(state, mode="json")
        return dumped

    def load(plain: Mapping[str, Any]) -> PipelineState:
        return states().validate_python(plain)

    return Aggregate(PipelineState.empty, fold, dump, load)


@cache
def coordinators() -> Aggregate[CoordinatorState]:
    """The aggregate of the coordinators' streams."""
    return Aggregate(CoordinatorState.empty, coordination.fold, packed, unpacked, every=50)


def is_pipeline(stream: str) -> bool:
    """Whether a stream is a pipeline's: others have a slash in their name, which no pipeline's id has."""
    return "/" not in stream


async def state_at(journal: Journal, pipeline_id: str, at: int | datetime | str | None = None) -> PipelineState:
    """The pipeline's state after the event `at`: its sequence, its id, or the last event at or before a time (aware);
    None: after the newest event. Equal to folding all events up to there. `NotFound` where there was no such event."""
    return await folded(journal, pipeline_id, await sequence_at(journal, pipeline_id, at), pipelines())


async def coordinator_at(
    journal: Journal, coordinator_id: str, at: int | datetime | str | None = None
) -> CoordinatorState:
    """The coordinator's state after the event `at`, as `state_at` of a pipeline."""
    return await folded(journal, coordinator_id, await sequence_at(journal, coordinator_id, at), coordinators())


async def sequence_at(journal: Journal, stream: str, at: int | datetime | str | None = None) -> int:
    """The sequence of the event that `at` names, as in `state_at`."""
    head = await journal.head(stream)
    if head is None:
        raise NotFound(f"there is no stream {stream!r} in the journal", where=stream)
    if at is None:
        return head.sequence
    if isinstance(at, str):
        entry = await journal.find(at)
        if entry is None or entry.record.stream != stream:
            raise NotFound(f"there is no event {at!r} in this stream", where=stream)
        return entry.record.sequence
    if isinstance(at, datetime):
        page = await journal.query(stream=stream, until=at + timedelta(microseconds=1), limit=1, newest_first=True)
        if not page.entries:
            raise NotFound(f"nothing had happened yet at {at.isoformat()}", where=stream)
        return page.entries[0].record.sequence
    if not 1 <= at <= head.sequence:
        raise NotFound(f"there is no event {at}", where=stream, hint=f"the events are 1 to {head.sequence}")
    return at


async def folded(journal: Journal, stream: str, upto: int, aggregate: Aggregate[S]) -> S:
    """The state after event `upto`: the nearest snapshot before it, and the events behind that."""
    sequence, state = await _nearest(journal, stream, upto, aggregate)
    return await _onward(journal, stream, sequence, upto, state, aggregate)


async def append_and_snapshot(
    journal: Journal, stream: str, expected_sequence: int, records: Sequence[EventRecord], aggregate: Aggregate[Any]
) -> None:
    """`Journal.append`, and a snapshot where the records cross a multiple of `aggregate.every`. As repeatable as the
    append: what an earlier call did not get to is made up for."""
    await journal.append(stream, expected_sequence, records)
    if expected_sequence // aggregate.every != (expected_sequence + len(records)) // aggregate.every:
        await take_snapshots(journal, stream, aggregate)


async def take_snapshots(journal: Journal, stream: str, aggregate: Aggregate[Any]) -> int:
    """Take the snapshots that are due and would be kept; returns how many were taken."""
    head = await journal.head(stream)
    if head is None:
        return 0
    newest = head.sequence // aggregate.every * aggregate.every
    at, state = await _nearest(journal, stream, head.sequence, aggregate)
    taken = 0
    for due in range((at // aggregate.every + 1) * aggregate.every, newest + 1, aggregate.every):
        if due % MILESTONE and due <= newest - SNAPSHOTS_KEPT * aggregate.every:
            continue
        state = await _onward(journal, stream, at, due, state, aggregate)
        at = due
        await keep_snapshot(journal, stream, due, state, aggregate)
        taken += 1
    return taken


async def keep_snapshot(journal: Journal, stream: str, sequence: int, state: S, aggregate: Aggregate[S]) -> None:
    """Keep this state as the one after event `sequence`."""
    dumped = await asyncio.to_thread(aggregate.dump, state)  # a large one takes a tenth of a second
    await journal.snapshot(stream, sequence, {**dumped, VERSION_KEY: aggregate.version})


async def _nearest(journal: Journal, stream: str, upto: int, aggregate: Aggregate[S]) -> tuple[int, S]:
    """The newest usable state at or before `upto`, the empty one at 0 if need be."""
    snapshot = await journal.latest_snapshot(stream, upto)
    state = None if snapshot is None else _loaded(snapshot.state, aggregate)
    if snapshot is None or state is None:
        return 0, aggregate.empty(stream)
    return snapshot.sequence, state


def _loaded(stored: Mapping[str, Any], aggregate: Aggregate[S]) -> S | None:
    if stored.get(VERSION_KEY, 1) != aggregate.version:
        return None
    try:
        return aggregate.load({k: v for k, v in stored.items() if k != VERSION_KEY})
    except ValueError:
        return None  # a snapshot is only a short cut: the events decide


async def _onward(journal: Journal, stream: str, after: int, upto: int, state: S, aggregate: Aggregate[S]) -> S:
    page: list[EventRecord] = []
    if after == upto:
        return state
    async for event in journal.read(stream, after=after, upto=upto):
        page.append(event)
        if len(page) == FOLDED_AT_ONCE:
            state = aggregate.fold(state, page)
            page = []
    return aggregate.fold(state, page)
