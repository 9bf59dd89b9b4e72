"""Projection: pipelines, events and errors in Elasticsearch, to be found by words.

Every document carries the journal's position as its external version, so a replay cannot go backwards: what is there
already, or newer, stays (409 is success). The position is written after the documents it covers; what a dead projector
did not get to note is written again, to no effect.

Indices are numbered by build. A new build (asked for, of another mapping, or because an index is gone) is filled from
the first event while the aliases still show the old one, and takes their place when it has caught up with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from elasticsearch import AsyncElasticsearch

from dataflow.errors import Corrupt, Retryable
from dataflow.journal.base import Entry
from dataflow.projections.base import following, of_a_pipeline
from dataflow.projections.search_documents import (
    KINDS,
    MAPPING,
    MAPPINGS,
    error_document,
    event_document,
    pipeline_document,
)
from dataflow.projections.search_errors import translated
from dataflow.projections.status import Row, row_after

REFRESH = "500ms"
"""How soon what was written can be found; set explicitly, so that indices which nobody searches are refreshed too."""

TOLD_AT_ONCE = frozenset(("PipelineCreated", "ConfigUpdated"))
"""After these somebody looks for the pipeline: its index is refreshed right away, however busy the others are."""

_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Builds:
    """`writing` is the build that is filled, `serving` the one that is searched."""

    writing: int
    serving: int
    mapping: int


class SearchProjection:
    """`Projection` in the Elasticsearch at `url`; its indices and aliases begin with `prefix`."""

    name: Final = "search"

    def __init__(self, url: str, prefix: str = "dataflow") -> None:
        self._url, self.prefix = url, prefix
        self.where = url.rpartition("@")[2]
        self._client: AsyncElasticsearch | None = None

    async def __aenter__(self) -> Self:
        self._client = self._connected()
        try:
            with translated(self._url):
                await self._prepare()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.close()

    async def stored(self, kind: str, ids: Sequence[str], build: int) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """Of these documents those that are there, each with its version. A get sees what a search does not yet."""
        if not ids:
            return {}
        with translated(self._url):
            answer = await self.client.mget(index=self.index(kind, build), ids=ids)
        return {one["_id"]: (one["_version"], one["_source"]) for one in answer["docs"] if one.get("found")}

    async def there(self) -> bool:
        """Whether the indices are made and whole, under this version's mapping. Not to be entered for it."""
        async with self._connected() as self._client:
            with translated(self._url):
                if not await self.client.indices.exists(index=f"{self.prefix}-state"):
                    return False
                found = await self._get("builds")
                return found is not None and found["mapping"] >= MAPPING and await self._whole(found["serving"])

    async def remove(self) -> None:
        """Take the indices away, if they are there; the projector fills new ones from the first event."""
        async with self._connected() as self._client:
            with translated(self._url):
                names = await self.client.indices.get(index=[f"{self.prefix}-{kind}-*" for kind in KINDS])
                doomed = [*names.body, f"{self.prefix}-state"]
                await self.client.indices.delete(index=",".join(doomed), ignore_unavailable=True)

    def _connected(self) -> AsyncElasticsearch:
        return AsyncElasticsearch(self._url, request_timeout=30, max_retries=0)

    @property
    def client(self) -> AsyncElasticsearch:
        """Of the Elasticsearch it is entered for."""
        if self._client is None:
            raise RuntimeError("search is not open: use it inside `async with`")
        return self._client

    async def position(self) -> int:
        with translated(self._url):
            return await self._position((await self.builds()).writing)

    async def apply(self, entries: Sequence[Entry]) -> None:
        with translated(self._url):
            builds = await self.builds()
            position = await self._position(builds.writing)
            new = following(entries, position)
            if not new:
                return
            await self._write(await self._documents(new, builds.writing))
            if any(entry.record.type in TOLD_AT_ONCE for entry in new):
                await self.client.indices.refresh(index=self.index("pipelines", builds.writing))
            position = new[-1].position
            await self._note(f"position-{builds.writing}", {"position": position}, position)
            if builds.writing != builds.serving and position >= await self._position(builds.serving):
                await self._serve(builds)

    async def begin_build(self) -> None:
        """Fill new indices from the first event; they are searched once they have caught up."""
        with translated(self._url):
            builds = await self.builds()
            if builds.writing == builds.serving:
                await self._begin(Builds(builds.writing + 1, builds.serving, MAPPING))

    async def builds(self) -> Builds:
        """Which indices are written and searched. `Retryable` where that is gone: entering again begins anew."""
        found = await self._get("builds")
        if found is None:
            raise Retryable("the search indices are gone", code="NOT_FOUND", where=self._url)
        return Builds(**found)

    def index(self, kind: str, build: int) -> str:
        """The name of an index."""
        return f"{self.prefix}-{kind}-{build}"

    async def _prepare(self) -> None:
        """Make the first build, or a new one where an index is gone or its mapping is an old one."""
        found = await self._get("builds")
        if found is None:
            await self._create(1)
            # Only one of several who are first: a version that is there already is a conflict, and that is fine.
            await self._note("builds", {"writing": 1, "serving": 1, "mapping": MAPPING}, 1)
            await self._point(1)
            return
        builds = Builds(**found)
        if builds.mapping < MAPPING or not await self._whole(builds.writing):
            await self._begin(Builds(builds.writing + 1, builds.serving, MAPPING))

    async def _whole(self, build: int) -> bool:
        names = ",".join(self.index(kind, build) for kind in KINDS)
        return bool(await self.client.indices.exists(index=names))

    async def _begin(self, builds: Builds) -> None:
        await self._create(builds.writing)
        told = {"writing": builds.writing, "serving": builds.serving, "mapping": builds.mapping}
        await self._note("builds", told, 2 * builds.writing)

    async def _serve(self, builds: Builds) -> None:
        await self._point(builds.writing)
        told = {"writing": builds.writing, "serving": builds.writing, "mapping": builds.mapping}
        await self._note("builds", told, 2 * builds.writing + 1)
        old = [self.index(kind, build) for kind in KINDS for build in range(1, builds.writing)]
        await self.client.indices.delete(index=",".join(old), ignore_unavailable=True)

    async def _point(self, build: int) -> None:
        actions: list[Mapping[str, Any]] = []
        for kind in KINDS:
            remove = {"index": f"{self.prefix}-{kind}-*", "alias": f"{self.prefix}-{kind}", "must_exist": False}
            actions.append({"remove": remove})
            actions.append({"add": {"index": self.index(kind, build), "alias": f"{self.prefix}-{kind}"}})
        await self.client.indices.update_aliases(actions=actions)

    async def _create(self, build: int) -> None:
        settings = {"refresh_interval": REFRESH, "number_of_shards": 1, "auto_expand_replicas": "0-1"}
        for kind in KINDS:
            await self._index(self.index(kind, build), settings, MAPPINGS[kind])
        await self._index(f"{self.prefix}-state", settings, {"dynamic": False})

    async def _index(self, name: str, settings: Mapping[str, Any], mapping: Mapping[str, Any]) -> None:
        if not await self.client.indices.exists(index=name):
            answer = await self.client.options(ignore_status=400).indices.create(
                index=name, settings=settings, mappings=mapping
            )
            error = answer.get("error", {})
            if error and error.get("type") != "resource_already_exists_exception":
                raise Corrupt(f"the index cannot be made: {error.get('reason')}", where=name)

    async def _documents(self, entries: Sequence[Entry], build: int) -> list[Mapping[str, Any]]:
        """Actions and documents of a bulk request."""
        rows = await self._rows(entries, build)
        changed: dict[str, tuple[int, Row]] = {}
        operations: list[Mapping[str, Any]] = []

        def put(kind: str, key: str, version: int, document: Mapping[str, Any]) -> None:
            to = {"_index": self.index(kind, build), "_id": key, "version": version, "version_type": "external"}
            operations.extend(({"index": to}, document))

        for entry in entries:
            record = entry.record
            put("events", record.id, entry.position, event_document(entry))
            error = error_document(entry)
            if error:
                put("errors", record.id, entry.position, error)
            if of_a_pipeline(record):
                row = rows.get(record.stream)
                if row is None or row["version"] < record.sequence:  # else written before the position was noted
                    rows[record.stream] = row_after(row, record)
                    changed[record.stream] = (entry.position, rows[record.stream])
        for pipeline, (position, row) in changed.items():
            put("pipelines", pipeline, position, pipeline_document(row))
        return operations

    async def _rows(self, entries: Sequence[Entry], build: int) -> dict[str, Row]:
        """The pipelines' rows as they are stored: a get sees what a search does not yet."""
        ids = list(dict.fromkeys(entry.record.stream for entry in entries if of_a_pipeline(entry.record)))
        return {key: source["row"] for key, (_, source) in (await self.stored("pipelines", ids, build)).items()}

    async def _write(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Carry out a bulk request. Documents that are older than what is there are passed over."""
        answer = await self.client.bulk(operations=operations)
        for item in answer["items"]:
            [result] = item.values()
            status = int(result["status"])
            if status in _BUSY:
                raise Retryable(f"Elasticsearch is busy: {result.get('error')}", code="TOO_MANY_REQUESTS")
            if status >= 300 and status != 409:
                raise Corrupt(f"the document was refused: {result.get('error')}", where=str(result.get("_id")))

    async def _position(self, build: int) -> int:
        found = await self._get(f"position-{build}")
        return 0 if found is None else int(found["position"])

    async def _get(self, key: str) -> Mapping[str, Any] | None:
        answer = await self.client.options(ignore_status=404).get(index=f"{self.prefix}-state", id=key)
        source: Mapping[str, Any] | None = answer.get("_source")
        return source

    async def _note(self, key: str, document: Mapping[str, Any], version: int) -> None:
        """Keep the document, unless a newer one is there."""
        await self.client.options(ignore_status=409).index(
            index=f"{self.prefix}-state", id=key, document=document, version=version, version_type="external_gte"
        )


async def until_served(projection: SearchProjection) -> None:
    """Wait until a build under way, filled by a projector, is the one that is searched."""
    while True:
        builds = await projection.builds()
        if builds.writing == builds.serving:
            return
        await asyncio.sleep(0.2)
