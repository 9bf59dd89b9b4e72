"""`dataflow audit`: has anything been changed, and all of it to take away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dataflow.cli.result import DONE, FAILED, JSON, count, emit, note, perform, say
from dataflow.cli.session import session, settings

if TYPE_CHECKING:
    from dataflow.journal import Journal
    from dataflow.journal.audit import Broken


class Task(StrEnum):
    """What to do."""

    VERIFY = "verify"
    EXPORT = "export"
    ARCHIVE = "archive"
    COMPARE = "compare"


class Format(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


_TASK = typer.Argument(
    help="verify: walk the chains of hashes; export: one file; archive: a folder of Parquet files that can be read as "
    "a journal (archive:FOLDER), added to each time; compare: with Temporal's history, which is replayed."
)
_STREAM = typer.Argument(
    "", help="The pipeline's id, or the coordinator's stream (compare needs one); without, all.", show_default=False
)
_OUTPUT = typer.Option("", "--output", "-o", help="Where to: a file, for archive a folder. export: `-` is here.")
_FORMAT = typer.Option(Format.JSONL, "--format", help="Of an export.")


def audit(
    task: Task = _TASK, pipeline: str = _STREAM, output: str = _OUTPUT, format: Format = _FORMAT, as_json: bool = JSON
) -> None:
    """Verify, export, archive the journal, or compare it with Temporal.

    Exit 1 if anything is not what was written: the first such event of each pipeline is named."""
    perform(_audit(task, pipeline, output, format, as_json), as_json=as_json)


async def _audit(task: Task, pipeline: str, output: str, form: Format, as_json: bool) -> int:
    from dataflow.errors import NotFound
    from dataflow.journal import open_journal

    chosen = settings()
    if task is Task.COMPARE:
        return await _compare(pipeline, as_json)
    chosen.home.mkdir(parents=True, exist_ok=True)
    async with open_journal(chosen.journal_url) as journal:
        if pipeline and await journal.head(pipeline) is None:
            raise NotFound(f"there is no pipeline {pipeline!r}", hint="dataflow list shows all")
        if task is Task.VERIFY:
            return await _verify(journal, pipeline, as_json)
        if task is Task.ARCHIVE:
            return await _archive(journal, output, as_json)
        return await _export(journal, pipeline, output, form, as_json)


async def _verify(journal: Journal, pipeline: str, as_json: bool) -> int:
    from dataflow.journal.audit import audit_verify, audit_verify_all

    found: list[Broken]
    if pipeline:
        broken = await audit_verify(journal, pipeline)
        found = [broken] if broken else []
        head = await journal.head(pipeline)
        what = count(head.sequence if head else 0, "event")
    else:
        found = await audit_verify_all(journal)
        what = f"{count(await journal.end(), 'event')} in {count(len(await journal.streams()), 'stream')}"
    if as_json:
        emit({"status": "broken" if found else "whole", "broken": [asdict(one) for one in found]})
    else:
        for one in found:
            say(f"{one.stream or 'the reading order'}/{one.sequence}: {one.reason}")
        say(f"{what}: " + (f"{count(len(found), 'place')} broken" if found else "whole"))
    return FAILED if found else DONE


async def _export(journal: Journal, pipeline: str, output: str, form: Format, as_json: bool) -> int:
    from dataflow.errors import InvalidSpec, Problem
    from dataflow.journal.audit import export_jsonl, export_parquet

    if not output or (output == "-" and (form is Format.PARQUET or as_json)):
        raise InvalidSpec([Problem("--output", "name the file to write", "required")])
    stream = pipeline or None
    if output == "-":
        import sys

        await export_jsonl(journal, sys.stdout.buffer.write, stream)
        return DONE
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")  # a file of that name is whole, or not there
    if form is Format.PARQUET:
        events = await export_parquet(journal, beside, stream)
    else:
        with beside.open("wb") as file:
            events = await export_jsonl(journal, file.write, stream)
    await asyncio.to_thread(beside.replace, path)
    return _told(events, path, as_json)


async def _archive(journal: Journal, output: str, as_json: bool) -> int:
    from dataflow.journal.archive import archive

    folder = Path(output) if output else settings().home / "archive"
    tell: Callable[[int, int], object] | None = None
    if not as_json:

        def tell(reached: int, end: int) -> None:
            note(f"{reached:,} of {end:,} events")

    return _told(await archive(journal, folder, tell), folder, as_json)


def _told(events: int, where: Path, as_json: bool) -> int:
    if as_json:
        emit({"status": "done", "events": events, "output": str(where)})
    else:
        say(f"{count(events, 'event')} in {where}")
    return DONE


async def _compare(pipeline: str, as_json: bool) -> int:
    from dataflow.errors import InvalidSpec, Problem

    if not pipeline:
        raise InvalidSpec([Problem("pipeline", "compare which? name its id", "required")])
    async with session(settings(), note) as up:
        from dataflow.comparison import compare
        from dataflow.journal.history import is_pipeline
        from workflows.names import workflow_id

        workflow = workflow_id(pipeline) if is_pipeline(pipeline) else pipeline  # the coordinator's own is its stream
        found = await compare(up.client.temporal, up.journal, workflow, pipeline)
    if as_json:
        emit({"status": "different" if found.differences else "equal", **asdict(found)})
    else:
        for one in found.differences:
            say(f"{pipeline}: {one}")
        past = f", {count(found.earlier, 'event')} of before that" if found.earlier else ""
        verdict = "equal, and replays" if not found.differences else count(len(found.differences), "difference")
        say(f"{pipeline}: {count(found.events, 'event')} in {count(found.runs, 'run')}{past}: {verdict}")
    return FAILED if found.differences else DONE


COMMANDS = (audit,)
