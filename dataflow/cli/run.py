"""`dataflow run`: one pipeline, from its file to its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.display import Display, display
from dataflow.cli.interrupt import Interrupt
from dataflow.cli.looks import Looks
from dataflow.cli.outcome import outcome, tell
from dataflow.cli.recall import recall
from dataflow.cli.result import DONE, FAILED, JSON, emit, perform, refuse_file
from dataflow.cli.serve import PROCESSES
from dataflow.cli.session import session, settings

if TYPE_CHECKING:
    from dataflow.domain.spec import PipelineSpec
    from dataflow.domain.state import PipelineState
    from dataflow.platform import Platform
    from dataflow.sdk.client import Client
    from dataflow.sdk.progress import Progress
    from dataflow.specfile import LoadedSpec

SILENCE = 60.0
"""Seconds without an answer after which `run` gives up waiting (the pipeline itself goes on where workers are)."""

LAST_WORDS = 3.0
"""Seconds that segments have for their last report after the run has ended."""

INTERRUPTED = "interrupted"
"""The reason of a stop by Ctrl-C or SIGTERM."""

NO_NEW_RESULT = {
    *("description", "owner", "group", "priority", "resources"),
    *("checkpoint", "retry", "timeouts", "parallelism", "delivery"),
}
"""Keys that do not change what comes out: for their sake a completed pipeline does not run again."""

_FILE = typer.Argument(help="The pipeline file, YAML or JSON.", show_default=False)
_AGAIN = typer.Option(False, "--again", help="Begin a new generation: read everything anew, replace the output.")


def run(file: str = _FILE, again: bool = _AGAIN, processes: int = PROCESSES, as_json: bool = JSON) -> None:
    """Run a pipeline to its end, with live progress.

    After a crash the same command goes on from the last commit. On a completed pipeline it does nothing, unless
    --again is given or the file has changed. Ctrl-C stops the pipeline at an epoch boundary (exit 130), and the same
    command goes on from there; a second Ctrl-C leaves at once."""
    perform(_run(file, again, processes, as_json), as_json=as_json, file=file)


async def _run(file: str, again: bool, processes: int, as_json: bool) -> int:
    begun = time.monotonic()
    from rich.console import Console

    from dataflow import specfile
    from dataflow.validation import check

    loaded = specfile.load(file)
    chosen = settings()
    report = await check(loaded, home=chosen.home, inbox=chosen.inbox_url)
    wrong = (*report.refused(), *report.unresolved)
    if wrong:
        return refuse_file(wrong, as_json=as_json, file=file)
    if as_json:
        _records_to_stderr()
    with (
        display(Console(stderr=True)) as shown,
        Interrupt(
            lambda: shown.note("stopping at the next epoch boundary; once more to leave at once"),
            lambda: shown.__exit__(None, None, None),
        ) as interrupt,
    ):
        pipeline = loaded.spec.pipeline_id
        looks = Looks(pipeline, interrupt)
        async with session(chosen, shown.note, worker=True, processes=processes, recorded=looks.recorded) as up:
            known = await recall(up.client, up.journal, pipeline, shown.note)
            if report.problems and known is None:
                return refuse_file(report.problems, as_json=as_json, file=file)
            if interrupt.number:
                return 128 + interrupt.number
            shown.note(where(up, pipeline))
            started = time.monotonic()
            await begin(up.client, loaded, known, again=again, note=shown.note)
            last = await watch(up.client, pipeline, shown, interrupt, looks)
            if known is not None and belated(known, last.state) and not interrupt.number:
                shown.note("a stop from before has taken effect only now")
                await begin(up.client, loaded, last.state, again=False, note=shown.note)
                last = await watch(up.client, pipeline, shown, interrupt, looks)
            ended = time.monotonic()
    result = outcome(last, seconds=ended - started, startup=started - begun)
    if as_json:
        emit(result)
    else:
        tell(last, result, file)
    if interrupt.number and last.state.status != "completed":
        return 128 + interrupt.number
    return DONE if last.state.status == "completed" else FAILED


def _records_to_stderr() -> None:
    from dataflow.connectors import console

    console.redirect(sys.stderr)


def where(up: Platform, pipeline: str) -> str:
    """Where the pipeline's workflow can be looked at."""
    workflow = f"pipeline%2F{pipeline}"
    if up.address.ui:
        return f"Temporal UI: {up.address.ui}/namespaces/{up.address.namespace}/workflows/{workflow}"
    return f"Temporal: {up.address.target}, namespace {up.address.namespace}, workflow pipeline/{pipeline}"


async def begin(
    client: Client, loaded: LoadedSpec, state: PipelineState | None, *, again: bool, note: Callable[[str], None]
) -> PipelineState:
    """Bring the pipeline to run, from whatever `state` it is in (None: from nothing). Returns its new state, completed
    where there is nothing to do.

    Raises `IllegalCommand` where it cannot run like this, with a hint."""
    from dataflow.errors import IllegalCommand

    spec = loaded.spec
    pipeline = spec.pipeline_id
    if state is None:
        await client.create(spec)
        return await client.start(pipeline)
    changes = differing(state.spec, spec.stored())
    changed = bool(changes)
    if state.status == "running":
        if again:
            raise IllegalCommand(f"{pipeline} is running", hint=f"dataflow stop {pipeline} first")
        stale = "; its file has changed, stop it first to use that" if changed else ""
        note(f"{pipeline} is running, going on{stale}")
        return state
    if state.status == "paused":
        if not again and not changed:
            note(f"{pipeline} was paused, going on")
            return await client.resume(pipeline)
        state = await client.stop(pipeline, "to be changed")
    if state.status == "completed" and not again:
        if changes <= NO_NEW_RESULT:
            note(f"{pipeline} is completed already: nothing to do (--again starts a new generation)")
            return state
        note(f"{pipeline} is completed, but its file has changed since: starting a new generation")
        again = True
    if again:
        state = await client.reset(pipeline, from_start=True)
    elif state.status == "failed":
        error = state.error
        note(f"{pipeline} had failed{f' with {error.code}' if error else ''}: going on from its last commit")
        state = await client.reset(pipeline)
    elif state.status == "stopped":
        note(f"{pipeline} was stopped, going on from its last commit")
    if changed:
        await change(client, spec)
        note(f"the definition of {pipeline} has changed, using the new one")
    return await client.start(pipeline)


def belated(known: PipelineState, last: PipelineState) -> bool:
    """Whether the run was stopped by the Ctrl-C of an earlier command, which was killed before that took effect: a
    stop waits for the segments, and those of a lost worker are missed only after a while. Nothing has moved since."""
    interrupted = last.status == "stopped" and last.stop_reason == INTERRUPTED
    return known.status == "running" and interrupted and known.checkpoint == last.checkpoint


def differing(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> set[str]:
    """The top-level keys in which two stored definitions differ."""
    return {key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key)}


async def change(client: Client, spec: PipelineSpec) -> None:
    """Take over the new definition; where that needs a new generation, say how to get one."""
    from dataflow.errors import IllegalCommand

    try:
        await client.update(spec.pipeline_id, spec)
    except IllegalCommand as refused:
        raise IllegalCommand(refused.message, code=refused.code, hint="--again begins a new generation") from refused


async def watch(client: Client, pipeline: str, shown: Display, interrupt: Interrupt, looks: Looks) -> Progress:
    """Follow the pipeline until its run has ended, and stop it where the user asks to."""
    from dataflow.errors import Retryable

    answered, stopping, furthest = time.monotonic(), False, 0
    over: float | None = None
    noted = ""
    while True:
        try:
            if interrupt.number and not stopping:
                await client.stop(pipeline, INTERRUPTED)
                stopping = True
            progress = await client.progress(pipeline)
            answered = time.monotonic()
        except Retryable as away:
            if time.monotonic() - answered > SILENCE:
                raise
            shown.note(f"waiting: {away}")
            await interrupt.pause(1.0)
            continue
        # Segments that are still on their way to their epoch boundary count; those of a lost worker never get there.
        if waits := progress.state.queue_reason:
            if waits != noted:
                shown.note(f"waiting for a slot: {waits}")
                noted = waits
        elif progress.state.status not in ("running", "paused"):
            over = over or time.monotonic()
            if not progress.stages or time.monotonic() - over > LAST_WORDS:
                return progress
        # Between a segment's last heartbeat and its record in the state the figures fall back for a moment.
        if progress.epochs >= furthest:
            furthest = progress.epochs
            shown.update(progress)
        near = (progress.fraction or 0) > 0.9
        await looks.pause(progress.state.version, near=near, over=stopping or over is not None)


COMMANDS = (run,)
