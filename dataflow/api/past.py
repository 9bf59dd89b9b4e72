"""Routes over the journal: what has happened, and how it was then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from dataflow.domain.record import EventRecord
from dataflow.domain.state import states
from dataflow.errors import NotFound
from dataflow.journal import Journal
from dataflow.journal.history import state_at

_RECORDS = TypeAdapter(EventRecord)
Limit = Annotated[int, Query(ge=1, le=10_000)]


def past_routes(journal: Journal, prefix: str) -> APIRouter:
    """Events of one pipeline or of all, in pages; a pipeline's state after any event."""
    routes = APIRouter(prefix=prefix, tags=["events"])

    async def page(
        pipeline: str | None,
        tag: str | None,
        type: str | None,
        actor: str | None,
        since: datetime | None,
        until: datetime | None,
        after: str | None,
        limit: int,
        last: bool,
    ) -> dict[str, Any]:
        if pipeline is not None and await journal.head(pipeline) is None:
            raise NotFound(f"there is no pipeline {pipeline!r}")
        found = await journal.query(
            stream=pipeline,
            tag=tag,
            type=type,
            actor=actor,
            since=aware(since),
            until=aware(until),
            after=after,
            limit=limit,
            newest_first=last,
        )
        events = [
            {**_RECORDS.dump_python(entry.record, mode="json"), "position": entry.position} for entry in found.entries
        ]
        return {"events": events, "next": found.cursor}

    @routes.get("/events")
    async def events(
        tag: str | None = None,
        type: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: Limit = 100,
        last: bool = False,
    ) -> dict[str, Any]:
        """Events of all pipelines in the journal's order; `next` is the `after` of the next page."""
        return await page(None, tag, type, actor, since, until, after, limit, last)

    @routes.get("/pipelines/{pipeline}/events")
    async def events_of(
        pipeline: str,
        tag: str | None = None,
        type: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: Limit = 100,
        last: bool = False,
    ) -> dict[str, Any]:
        """Events of one pipeline in order; `next` is the `after` of the next page."""
        return await page(pipeline, tag, type, actor, since, until, after, limit, last)

    @routes.get("/pipelines/{pipeline}/state")
    async def state(pipeline: str, at: str | None = None) -> dict[str, Any]:
        """The state after an event: its sequence, its id, or the last one at a time (ISO 8601); default: the newest."""
        found: dict[str, Any] = states().dump_python(await state_at(journal, pipeline, place(at)), mode="json")
        return found

    return routes


def place(at: str | None) -> int | datetime | str | None:
    """What `at` names: a sequence, a time, else an event's id."""
    if not at:
        return None
    if at.isascii() and at.isdigit():
        return int(at)
    try:
        return aware(datetime.fromisoformat(at))
    except ValueError:
        return at


def aware(at: datetime | None) -> datetime | None:
    """Times without an offset are UTC."""
    return at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
