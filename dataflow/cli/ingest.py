"""`dataflow ingest`: push records from a file, or from what is piped in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from dataflow.cli.recall import recall
from dataflow.cli.result import DONE, JSON, emit, note, perform, say
from dataflow.cli.session import session, settings

if TYPE_CHECKING:
    from dataflow.sdk.ingest import Ingested

_ID = typer.Argument(help="The pipeline's id.", show_default=False)
_FILE = typer.Argument(help="A file of JSON objects, one on each line; - is standard input.", show_default=False)
_BATCH = typer.Option(
    "",
    "--batch-id",
    help="The same for the same records, so that a repeat changes nothing. Default: a fingerprint of each batch.",
    show_default=False,
)
_SIZE = typer.Option(10_000, "--batch-size", min=1, max=10_000, help="Records of one batch at most.")


def ingest(
    pipeline: str = _ID, file: str = _FILE, batch_id: str = _BATCH, batch_size: int = _SIZE, as_json: bool = JSON
) -> None:
    """Push records to a running pipeline whose source is of type push.

    Records of more than one batch are pushed as batch-id/1, batch-id/2 and so on. After a failure the same command
    goes on: what was taken before is not taken twice."""
    perform(_ingest(pipeline, file, batch_id, batch_size, as_json), as_json=as_json, file="" if file == "-" else file)


async def _ingest(pipeline: str, file: str, batch_id: str, batch_size: int, as_json: bool) -> int:
    from dataflow.inbox import Batch

    taken: list[Ingested] = []
    async with session(settings(), note) as up:
        await recall(up.client, up.journal, pipeline, note)
        for number, records in _numbered(_batches(file, batch_size)):
            name = batch_id + (f"/{number}" if number else "") if batch_id else ""
            name = name or f"sha256:{Batch.of('-', records).digest}"
            taken.append(await up.client.ingest(pipeline, records, batch_id=name))
            if not as_json:
                again = ", taken before" if taken[-1].repeated else ""
                say(f"{name}: {taken[-1]}, from offset {taken[-1].first_offset}{again}")
    if as_json:
        emit(
            {
                "pipeline_id": pipeline,
                "success_count": sum(one.success_count for one in taken),
                "failure_count": sum(one.failure_count for one in taken),
                "batches": [one.batch_id for one in taken],
            }
        )
    elif not taken:
        note(f"there are no records in {file}")
    return DONE


def _batches(file: str, size: int) -> Iterator[list[dict[str, Any]]]:
    """The records of the file; blank lines are none. `InvalidSpec` with the line that is no JSON object."""
    from dataflow.errors import NotFound

    if file == "-":
        yield from _cut(_records(sys.stdin.buffer), size)
        return
    try:
        with Path(file).open("rb") as lines:
            yield from _cut(_records(lines), size)
    except OSError as error:
        raise NotFound(f"cannot be read: {error.strerror}", where=file) from None


def _numbered(batches: Iterator[list[dict[str, Any]]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """With their numbers from 1; one that is alone has none: 0."""
    before = next(batches, None)
    alone = 0
    for number, batch in enumerate(batches, 1):
        assert before is not None
        yield number, before
        before, alone = batch, number + 1
    if before is not None:
        yield alone, before


def _cut(records: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(records, size)):
        yield batch


def _records(lines: IO[bytes]) -> Iterator[dict[str, Any]]:
    from dataflow.errors import InvalidSpec, Problem

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidSpec([Problem("", f"not JSON: {error}", code="syntax", line=number, column=1)]) from None
        if not isinstance(record, dict):
            raise InvalidSpec([Problem("", "not a JSON object", code="bad_record", line=number, column=1)])
        yield record


COMMANDS = (ingest,)
