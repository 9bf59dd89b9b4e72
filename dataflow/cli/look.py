"""Commands that only look: list, status, state.

Where no Temporal is up nothing can be going on, and the journal alone tells everything: nothing is started to answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from dataflow.cli.render import progress_json, progress_lines, state_json, state_lines
from dataflow.cli.result import DONE, JSON, emit, note, perform, say, table
from dataflow.cli.session import is_up, session, settings
from dataflow.cli.system import show_coordinator

if TYPE_CHECKING:
    from dataflow.journal import Journal
    from dataflow.sdk.client import Summary
    from dataflow.sdk.progress import Progress
    from dataflow.settings import Settings

_ID = typer.Argument(help="The pipeline's id.", show_default=False)
_STATUS = typer.Option(None, "--status", help="Only pipelines in this status.")
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
    async with opened(chosen) as journal:
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

    async with opened(chosen) as journal:
        return combine(await state_at(journal, pipeline), {})


def state(pipeline: str = _ID, at: str = _AT, as_json: bool = JSON) -> None:
    """Show a state as it was after any event.

    It is folded from the journal."""
    perform(_state(pipeline, at, as_json), as_json=as_json)


async def _state(pipeline: str, at: str, as_json: bool) -> int:
    from dataflow.journal.history import coordinator_at, is_pipeline, state_at

    async with opened(settings()) as journal:
        if not is_pipeline(pipeline):
            return show_coordinator(await coordinator_at(journal, pipeline, _place(at)), as_json)
        found = await state_at(journal, pipeline, _place(at))
    if as_json:
        emit(state_json(found))
    else:
        for line in state_lines(found):
            say(line)
    return DONE


def opened(chosen: Settings) -> Journal:
    """The journal that the settings name, to be entered."""
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
        return aware(datetime.fromisoformat(at))
    except ValueError:
        return at


def aware(at: datetime) -> datetime:
    """Times without an offset are UTC, as those that are shown."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


COMMANDS = (list_, status, state)
