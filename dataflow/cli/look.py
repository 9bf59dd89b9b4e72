"""Commands that only look: list, status, events, state.

Where no Temporal is up nothing can be going on, and the journal alone tells everything: nothing is started to answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from dataflow.cli.render import event_json, event_row, progress_json, progress_lines, state_json, state_lines
from dataflow.cli.result import DONE, JSON, emit, note, perform, say, table
from dataflow.cli.session import is_up, session, settings

if TYPE_CHECKING:
    from dataflow.journal import Journal
    from dataflow.sdk.client import Summary
    from dataflow.sdk.progress import Progress
    from dataflow.settings import Settings

_ID = typer.Argument(help="The pipeline's id.", show_default=False)
_STATUS = typer.Option(None, "--status", help="Only pipelines in this status.")
_AFTER = typer.Option("", "--after", help="Go on from this cursor (of the JSON output).")
_LIMIT = typer.Option(100, "--limit", min=1, max=10_000, help="How many events at most.")
_TYPE = typer.Option(None, "--type", help="Only events of this type.")
_TAG = typer.Option(None, "--tag", help="Only events with this tag.")
_SINCE = typer.Option(None, "--since", help="Only events from this time on (ISO 8601).")
_UNTIL = typer.Option(None, "--until", help="Only events before this time (ISO 8601).")
_LAST = typer.Option(False, "--last", help="The newest first.")
_AT = typer.Option("", "--at", help="After this event: its sequence, its id, or a time (ISO 8601).")


def list_(status: str = _STATUS, as_json: bool = JSON) -> None:
    """List the pipelines."""
    perform(_list(status, as_json), as_json=as_json)


list_.__name__ = "list"


async def _list(status: str | None, as_json: bool) -> int:
    chosen = settings()
    if is_up(chosen):
        async with session(chosen, note, worker=False) as up:
            found = await up.client.list(status)
    else:
        found = [one for one in await _recorded(chosen) if status in (None, one.status)]
    if as_json:
        keys = ("id", "name", "status", "source", "sink", "owner")
        emit({"pipelines": [{key: getattr(one, key) for key in keys} for one in found], "total": len(found)})
    elif found:
        headings = ("ID", "NAME", "STATUS", "SOURCE", "SINK", "OWNER")
        table(headings, [(one.id, one.name, one.status, one.source, one.sink, one.owner) for one in found])
    else:
        say("there are no pipelines" + (f" in status {status}" if status else ""))
    return DONE


async def _recorded(chosen: Settings) -> list[Summary]:
    """The pipelines as the journal knows them, by name."""
    from dataflow.journal.history import is_pipeline, state_at
    from dataflow.sdk.client import Summary

    found = []
    async with _journal(chosen) as journal:
        for stream in filter(is_pipeline, await journal.streams()):
            state = await state_at(journal, stream)
            if state.status == "deleted":
                continue
            spec = state.definition
            sinks = ",".join(dict.fromkeys(sink.type for sink in spec.sinks))
            found.append(Summary(stream, state.name, str(state.status), spec.source.type, sinks, spec.owner))
    return sorted(found, key=lambda one: (one.name, one.id))


def status(pipeline: str = _ID, as_json: bool = JSON) -> None:
    """Show where a pipeline stands, with live counters."""
    perform(_status(pipeline, as_json), as_json=as_json)


async def _status(pipeline: str, as_json: bool) -> int:
    chosen = settings()
    progress = await _progress(chosen, pipeline)
    if as_json:
        emit(progress_json(progress))
    else:
        for line in progress_lines(progress):
            say(line)
        if progress.state.status == "running" and not is_up(chosen):
            say("  nothing works on it now: dataflow up (or dataflow run with its file) does")
    return DONE


async def _progress(chosen: Settings, pipeline: str) -> Progress:
    from dataflow.errors import Retryable

    if is_up(chosen):
        try:
            async with session(chosen, note) as up:
                return await up.client.progress(pipeline)
        except Retryable as away:  # a cluster without a worker, or a server that is just going
            note(f"{away}; this is what the journal knows")
    from dataflow.journal.history import state_at
    from dataflow.sdk.progress import combine

    async with _journal(chosen) as journal:
        return combine(await state_at(journal, pipeline), {})


def events(
    pipeline: str = typer.Argument("", help="The pipeline's id; without one, the events of all.", show_default=False),
    type: str = _TYPE,
    tag: str = _TAG,
    since: str = _SINCE,
    until: str = _UNTIL,
    after: str = _AFTER,
    limit: int = _LIMIT,
    last: bool = _LAST,
    as_json: bool = JSON,
) -> None:
    """Show what has happened, from the journal."""
    perform(_events(pipeline, type, tag, since, until, after, limit, last, as_json), as_json=as_json)


async def _events(
    pipeline: str,
    type: str | None,
    tag: str | None,
    since: str | None,
    until: str | None,
    after: str,
    limit: int,
    last: bool,
    as_json: bool,
) -> int:
    from dataflow.errors import NotFound

    async with _journal(settings()) as journal:
        if pipeline and await journal.head(pipeline) is None:
            raise NotFound(f"there is no pipeline {pipeline!r}", hint="dataflow list shows all")
        page = await journal.query(
            stream=pipeline or None,
            type=type,
            tag=tag,
            since=_time(since),
            until=_time(until),
            after=after or None,
            limit=limit,
            newest_first=last,
        )
    records = [entry.record for entry in page.entries]
    if as_json:
        emit({"events": [event_json(record) for record in records], "next": page.cursor})
        return DONE
    rows = [event_row(record) for record in records]
    if pipeline:
        table(("#", "TIME", "EVENT", "ACTOR", "WHAT"), rows)
    else:
        named = [(record.stream, *row) for record, row in zip(records, rows, strict=True)]
        table(("PIPELINE", "#", "TIME", "EVENT", "ACTOR", "WHAT"), named)
    if page.cursor:
        note(f"there are more: --after {page.cursor}")
    return DONE


def state(pipeline: str = _ID, at: str = _AT, as_json: bool = JSON) -> None:
    """Show a state as it was after any event.

    It is folded from the journal."""
    perform(_state(pipeline, at, as_json), as_json=as_json)


async def _state(pipeline: str, at: str, as_json: bool) -> int:
    from dataflow.journal.history import state_at

    async with _journal(settings()) as journal:
        found = await state_at(journal, pipeline, _place(at))
    if as_json:
        emit(state_json(found))
    else:
        for line in state_lines(found):
            say(line)
    return DONE


def _journal(chosen: Settings) -> Journal:
    from dataflow.journal import open_journal

    chosen.home.mkdir(parents=True, exist_ok=True)
    return open_journal(chosen.journal_url)


def _place(at: str) -> int | datetime | str | None:
    """What `--at` names: a sequence, a time, else an event's id."""
    if not at:
        return None
    if at.isascii() and at.isdigit():
        return int(at)
    try:
        return _aware(datetime.fromisoformat(at))
    except ValueError:
        return at


def _time(text: str | None) -> datetime | None:
    from dataflow.errors import InvalidSpec, Problem

    if text is None:
        return None
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        problem = Problem("", f"{text!r} is not a time such as 2026-01-31T12:00:00Z", "bad_value")
        raise InvalidSpec([problem]) from None


def _aware(at: datetime) -> datetime:
    """Times without an offset are UTC, as those that are shown."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


COMMANDS = (list_, status, events, state)
