"""Comparing the search indices with the journal, and building them anew, beside live traffic.

What there should be is worked out from the events. Documents of events and errors never change; that of a pipeline is
compared as of the event whose position is its version, which may be later than where the comparison began. What is
different is put right by building the indices anew: a document that was written over by hand has a version that is too
high, and nothing that is written into its index can be trusted to replace it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from dataflow.errors import Corrupt, Rejected
from dataflow.journal.base import Entry, Journal
from dataflow.projections.base import of_a_pipeline
from dataflow.projections.projector import Projector
from dataflow.projections.recompute import TOLD, Difference, Outcome
from dataflow.projections.search import SearchProjection, until_served
from dataflow.projections.search_documents import error_document, event_document, pipeline_document
from dataflow.projections.search_errors import translated
from dataflow.projections.status import Row, row_after

AT_ONCE = 500
PAGE = 10_000
"""Ids of one answer."""

Versioned = tuple[int, Mapping[str, Any]]
"""The version of a document, and what is in it."""


async def check_search(
    journal: Journal, projection: SearchProjection, on_progress: Callable[[int, int], object] | None = None
) -> Outcome:
    """Compare what is searched with the journal, up to where it stands; `on_progress` as of `recompute`.

    `projection` is to be entered. `Rejected` while the indices are being rebuilt: what is searched then goes soon."""
    builds = await projection.builds()
    if builds.writing != builds.serving:
        raise Rejected(
            "the search indices are being rebuilt", hint="check them when that has ended: dataflow projector status"
        )
    position = await projection.position()
    check = _Check(journal, projection, builds.serving)
    rows: dict[str, tuple[int, Row]] = {}
    errors: set[str] = set()
    reached = 0
    while reached < position:
        entries = await journal.tail(reached, min(AT_ONCE, position - reached))
        if not entries:
            raise Corrupt(f"the journal ends at {reached}, the search indices are at {position}")
        await check.documents("events", {one.record.id: (one.position, event_document(one)) for one in entries})
        failures = {one.record.id: (one.position, told) for one in entries if (told := error_document(one)) is not None}
        await check.documents("errors", failures)
        errors.update(failures)
        for entry in entries:
            _note(rows, entry)
        reached = entries[-1].position
        if on_progress:
            on_progress(reached, position)
    names = sorted(rows)
    for start in range(0, len(names), AT_ONCE):
        await check.pipelines({name: rows[name] for name in names[start : start + AT_ONCE]})
    for kind, known in (("events", ()), ("errors", errors), ("pipelines", rows)):
        await check.strays(kind, known)
    return check.told(position)


async def rebuild_search(journal: Journal, projection: SearchProjection) -> int:
    """Build the indices anew, beside live traffic; the position they stand at when they are searched. `projection` is
    not to be entered for it."""
    async with projection:
        await projection.begin_build()
    await Projector(journal, [projection]).catch_up()
    async with projection:
        await until_served(projection)
        return await projection.position()


def _note(rows: dict[str, tuple[int, Row]], entry: Entry) -> None:
    record = entry.record
    if of_a_pipeline(record):
        before = rows.get(record.stream)
        rows[record.stream] = (entry.position, row_after(before[1] if before else None, record))


class _Check:
    """Compares, counts what is different, and takes the checksums of both sides."""

    def __init__(self, journal: Journal, projection: SearchProjection, build: int) -> None:
        self._journal, self._projection, self._build = journal, projection, build
        self._outcome = Outcome(projection.name)
        self._found, self._wanted = hashlib.sha256(), hashlib.sha256()

    async def documents(self, kind: str, wanted: Mapping[str, Versioned]) -> None:
        """These documents, by their ids, are to be there as they are here."""
        there = await self._projection.stored(kind, list(wanted), self._build)
        for key, document in wanted.items():
            self._compare(kind, key, there.get(key), document)

    async def pipelines(self, rows: Mapping[str, tuple[int, Row]]) -> None:
        """These pipelines are to be there, no older than here."""
        there = await self._projection.stored("pipelines", list(rows), self._build)
        for name, (position, row) in rows.items():
            found = there.get(name)
            if found is not None and found[0] > position:
                position, row = await self._onward(name, position, row, found[0])
            self._compare("pipelines", name, found, (position, pipeline_document(row)))

    async def strays(self, kind: str, known: Collection[str]) -> None:
        """No other documents are to be there, but for those of events that have come since."""
        async for page in self._ids(kind):
            for key in page:
                if key not in known and not await self._has_cause(kind, key):
                    found = await self._projection.stored(kind, [key], self._build)
                    self._compare(kind, key, found.get(key), None)

    def told(self, position: int) -> Outcome:
        """What was found."""
        outcome = self._outcome
        outcome.position = position
        outcome.found_checksum, outcome.checksum = self._found.hexdigest(), self._wanted.hexdigest()
        return outcome

    async def _has_cause(self, kind: str, key: str) -> bool:
        if kind == "pipelines":
            record = await self._journal.last(key)
            return record is not None and of_a_pipeline(record)
        entry = await self._journal.find(key)
        return entry is not None and (kind == "events" or error_document(entry) is not None)

    async def _onward(self, name: str, position: int, row: Row, upto: int) -> tuple[int, Row]:
        """The row after the pipeline's last event at or before the position `upto`, and where that event is."""
        async for record in self._journal.read(name, after=row["version"]):
            entry = await self._journal.find(record.id)
            if entry is None or entry.position > upto:
                break
            position, row = entry.position, row_after(row, record)
        return position, row

    async def _ids(self, kind: str) -> AsyncIterator[Sequence[str]]:
        """Of all documents that are there now."""
        client, index = self._projection.client, self._projection.index(kind, self._build)
        with translated(self._projection.where):
            await client.indices.refresh(index=index)
            point = (await client.open_point_in_time(index=index, keep_alive="5m"))["id"]
            after: Sequence[Any] | None = None
            while True:
                answer = await client.search(
                    pit={"id": point, "keep_alive": "5m"},
                    size=PAGE,
                    sort=[{"_shard_doc": "asc"}],
                    search_after=after,
                    source=False,
                    track_total_hits=False,
                )
                hits = answer["hits"]["hits"]
                if not hits:
                    break
                point, after = answer["pit_id"], hits[-1]["sort"]
                yield [hit["_id"] for hit in hits]
            await client.close_point_in_time(id=point)

    def _compare(self, kind: str, key: str, found: Versioned | None, wanted: Versioned | None) -> None:
        outcome = self._outcome
        for digest, side in ((self._found, found), (self._wanted, wanted)):
            if side is not None:
                digest.update(f"{kind} {key} {json.dumps(side, sort_keys=True)}\n".encode())
        outcome.rows += wanted is not None
        if found != wanted:
            outcome.different += 1
            if len(outcome.differences) < TOLD:
                one, two = _told(found), _told(wanted)
                if one and two:
                    keys = [name for name in {**one, **two} if one.get(name) != two.get(name)]
                    one, two = ({name: side.get(name) for name in keys} for side in (one, two))
                outcome.differences.append(Difference(self._projection.index(kind, self._build), key, one, two))


def _told(side: Versioned | None) -> dict[str, Any]:
    return {} if side is None else {"version": side[0], **side[1]}
