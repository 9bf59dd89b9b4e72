"""`dataflow events`: what has happened, from the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.look import aware, opened
from dataflow.cli.render import event_json, event_row
from dataflow.cli.result import DONE, JSON, emit, note, perform, say, table
from dataflow.cli.session import settings

if TYPE_CHECKING:
    from dataflow.domain.record import EventRecord
    from dataflow.journal import Entry, Journal

LOOK = 0.25
"""Seconds between two looks for new events."""

_AFTER = typer.Option("", "--after", help="Go on from this cursor (of the JSON output).")
_LIMIT = typer.Option(100, "--limit", min=1, max=10_000, help="How many events at most; with --follow: to begin with.")
_TYPE = typer.Option(None, "--type", help="Only events of this type.")
_TAG = typer.Option(None, "--tag", help="Only events with this tag.")
_ACTOR = typer.Option(None, "--actor", help="Only events that this actor caused.")
_SINCE = typer.Option(None, "--since", help="Only events from this time on (ISO 8601).")
_UNTIL = typer.Option(None, "--until", help="Only events before this time (ISO 8601).")
_LAST = typer.Option(False, "--last", help="The newest first.")
_FOLLOW = typer.Option(False, "--follow", "-f", help="Go on with new events until Ctrl-C; --json: one object a line.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events."""

    pipeline: str
    type: str | None
    tag: str | None
    actor: str | None
    since: datetime | None
    until: datetime | None

    def conditions(self) -> dict[str, Any]:
        """As `Journal.query` takes them."""
        return {
            "stream": self.pipeline or None,
            "type": self.type,
            "tag": self.tag,
            "actor": self.actor,
            "since": self.since,
            "until": self.until,
        }


def events(
    pipeline: str = typer.Argument("", help="The pipeline's id; without one, the events of all.", show_default=False),
    type: str = _TYPE,
    tag: str = _TAG,
    actor: str = _ACTOR,
    since: str = _SINCE,
    until: str = _UNTIL,
    after: str = _AFTER,
    limit: int = _LIMIT,
    last: bool = _LAST,
    follow: bool = _FOLLOW,
    as_json: bool = JSON,
) -> None:
    """Show what has happened, from the journal."""

    async def run() -> int:
        wanted = Wanted(pipeline, type, tag, actor, _time(since), _time(until))
        return await _events(wanted, after, limit, last, follow, as_json)

    perform(run(), as_json=as_json)


async def _events(wanted: Wanted, after: str, limit: int, last: bool, follow: bool, as_json: bool) -> int:
    from dataflow.errors import InvalidSpec, NotFound, Problem

    if follow and last:
        raise InvalidSpec([Problem("--follow", "goes forward: leave --last out", "conflict")])
    async with opened(settings()) as journal:
        if wanted.pipeline and await journal.head(wanted.pipeline) is None:
            raise NotFound(f"there is no pipeline {wanted.pipeline!r}", hint="dataflow list shows all")
        if follow:
            return await _follow(journal, wanted, after, limit, as_json)
        page = await journal.query(**wanted.conditions(), after=after or None, limit=limit, newest_first=last)
    records = [entry.record for entry in page.entries]
    if as_json:
        emit({"events": [event_json(record) for record in records], "next": page.cursor})
        return DONE
    rows = [event_row(record) for record in records]
    if wanted.pipeline:
        table(("#", "TIME", "EVENT", "ACTOR", "WHAT"), rows)
    else:
        named = [(record.stream, *row) for record, row in zip(records, rows, strict=True)]
        table(("PIPELINE", "#", "TIME", "EVENT", "ACTOR", "WHAT"), named)
    if page.cursor:
        note(f"there are more: --after {page.cursor}")
    return DONE


async def _follow(journal: Journal, wanted: Wanted, after: str, limit: int, as_json: bool) -> int:
    """The newest events, or those behind the cursor; then each one as it comes."""
    from dataflow.journal.base import decode_cursor, encode_cursor

    if after:
        position = decode_cursor(after) or 0
    else:
        page = await journal.query(**wanted.conditions(), limit=limit, newest_first=True)
        position = page.entries[0].position if page.entries else await journal.end()
        _print(list(reversed(page.entries)), wanted, as_json)
    while True:
        page = await journal.query(**wanted.conditions(), after=encode_cursor(position), limit=500)
        _print(page.entries, wanted, as_json)
        if page.entries:
            position = page.entries[-1].position
        else:
            await asyncio.sleep(LOOK)


def _print(entries: Sequence[Entry], wanted: Wanted, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            emit({**event_json(entry.record), "position": entry.position})
        else:
            say(_line(entry.record, named=not wanted.pipeline))


def _line(record: EventRecord, *, named: bool) -> str:
    sequence, time, kind, actor, what = event_row(record)
    pipeline = f"{record.stream:<20}  " if named else ""
    return f"{pipeline}{sequence:>6}  {time}  {kind:<18}  {actor:<12}  {what}".rstrip()


def _time(text: str | None) -> datetime | None:
    from dataflow.errors import InvalidSpec, Problem

    if text is None:
        return None
    try:
        return aware(datetime.fromisoformat(text))
    except ValueError:
        problem = Problem("", f"{text!r} is not a time such as 2026-01-31T12:00:00Z", "bad_value")
        raise InvalidSpec([problem]) from None


COMMANDS = (events,)
