"""Commands that change one pipeline: submit, start, stop, pause, resume, reset, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from dataflow.cli.recall import recall
from dataflow.cli.render import state_json, state_lines
from dataflow.cli.result import DONE, JSON, emit, note, perform, refuse_file, say
from dataflow.cli.session import is_up, session, settings

if TYPE_CHECKING:
    from dataflow.domain.state import PipelineState
    from dataflow.sdk.client import Client

_ID = typer.Argument(help="The pipeline's id.", show_default=False)
_FILE = typer.Argument(help="The pipeline file, YAML or JSON.", show_default=False)
_REASON = typer.Option("", "--reason", help="Kept in the event.")
_START = typer.Option(False, "--start", help="Start it, too.")
_UPDATE = typer.Option(False, "--update", help="Where it exists, replace its definition.")
_TO = typer.Option(
    [],
    "--to",
    help="Go back to the checkpoint after this event (its sequence) or at this time, or to split=place (a number or a "
    "time as the source counts, or a position) for every split; *=place is all the others. Repeatable.",
    show_default=False,
)
_FROM_START = typer.Option(False, "--from-start", help="Forget the checkpoint: a new generation reads everything anew.")


def submit(file: str = _FILE, start: bool = _START, update: bool = _UPDATE, as_json: bool = JSON) -> None:
    """Create a pipeline from its file."""
    perform(_submit(file, start, update, as_json), as_json=as_json, file=file)


async def _submit(file: str, start: bool, update: bool, as_json: bool) -> int:
    from dataflow import specfile
    from dataflow.errors import Conflict
    from dataflow.validation import check

    loaded = specfile.load(file)
    chosen = settings()
    report = await check(loaded, home=chosen.home, inbox=chosen.inbox_url)
    if report.problems:
        return refuse_file(report.problems, as_json=as_json, file=file)
    spec = loaded.spec

    async def act(client: Client) -> PipelineState:
        try:
            state = await client.create(spec)
        except Conflict as there:
            if not update:
                raise Conflict(there.message, code=there.code, hint="--update replaces its definition") from there
            state = await client.update(spec.pipeline_id, spec)
        return await client.start(spec.pipeline_id) if start else state

    return await _act(spec.pipeline_id, act, as_json, runs=start)


async def _act(
    pipeline: str, act: Callable[[Client], Awaitable[PipelineState]], as_json: bool, *, runs: bool = False
) -> int:
    chosen = settings()
    alone = not is_up(chosen)
    async with session(chosen, note) as up:
        await recall(up.client, up.journal, pipeline, note)
        state = await act(up.client)
    if as_json:
        emit(state_json(state))
    else:
        for line in state_lines(state):
            say(line)
    if runs and alone:
        note("nothing works on it now: dataflow up (or dataflow run with its file) does")
    return DONE


def start(pipeline: str = _ID, as_json: bool = JSON) -> None:
    """Start a pipeline, or start it again where it was stopped."""
    perform(_act(pipeline, lambda client: client.start(pipeline), as_json, runs=True), as_json=as_json)


def stop(pipeline: str = _ID, reason: str = _REASON, as_json: bool = JSON) -> None:
    """End a run at an epoch boundary.

    Start goes on from there."""
    perform(_act(pipeline, lambda client: client.stop(pipeline, reason), as_json), as_json=as_json)


def pause(pipeline: str = _ID, reason: str = _REASON, as_json: bool = JSON) -> None:
    """Hold a running pipeline at an epoch boundary."""
    perform(_act(pipeline, lambda client: client.pause(pipeline, reason), as_json), as_json=as_json)


def resume(pipeline: str = _ID, as_json: bool = JSON) -> None:
    """Go on after a pause."""
    perform(_act(pipeline, lambda client: client.resume(pipeline), as_json, runs=True), as_json=as_json)


def reset(pipeline: str = _ID, from_start: bool = _FROM_START, to: list[str] = _TO, as_json: bool = JSON) -> None:
    """Bring a pipeline back to configured.

    A failed or completed one keeps definition and checkpoint, unless --from-start or --to is given. With --to what was
    read from there on is read again, in a new generation, when it is started."""
    perform(_reset(pipeline, from_start, to, as_json), as_json=as_json)


async def _reset(pipeline: str, from_start: bool, to: list[str], as_json: bool) -> int:
    if not to:
        return await _act(pipeline, lambda client: client.reset(pipeline, from_start=from_start), as_json)
    target = _target(to, from_start)
    return await _act(pipeline, lambda client: client.rewind(pipeline, target), as_json)


def _target(to: list[str], from_start: bool) -> int | datetime | dict[str, str | int]:
    """What `--to` names. `InvalidSpec` where it names nothing, or two things."""
    from dataflow.errors import InvalidSpec, Problem

    if from_start:
        raise InvalidSpec([Problem("--to", "and --from-start exclude each other")])
    pairs = [one.partition("=") for one in to]
    if all(equals for _, equals, _ in pairs):
        return {split: place for split, _, place in pairs}
    if len(to) > 1:
        raise InvalidSpec([Problem("--to", "is an event, a time, or split=place for every split")])
    if to[0].isascii() and to[0].isdigit():
        return int(to[0])
    try:
        moment = datetime.fromisoformat(to[0])
    except ValueError:
        hint = "an event's sequence, a time such as 2026-11-25T10:00, or split=place"
        raise InvalidSpec([Problem("--to", f"{to[0]!r} names nothing to go back to", hint=hint)]) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def delete(pipeline: str = _ID, as_json: bool = JSON) -> None:
    """Retire a pipeline for good. Its events and its output stay; its id is not given out again."""
    perform(_act(pipeline, lambda client: client.delete(pipeline), as_json), as_json=as_json)


COMMANDS = (submit, start, stop, pause, resume, reset, delete)
