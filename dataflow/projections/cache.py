"""Redis beside the read models: rows of pipelines kept at hand, live counters, and notices of what happens.

Nothing is only here. A projection takes a row away as soon as it reads an event that changes it; a reader who finds
none asks the database and puts it back, unless an event newer than what he read has been told of meanwhile. The offset
moves in the same step as all this. Redis flushed or lost: no epoch, so nothing is kept until the projection has begun
anew, from where the status model stands; what a slow reader brings from before is refused by the epoch.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, cast
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from sqlalchemy import Connection, select

from dataflow.domain.record import EventRecord
from dataflow.errors import Corrupt, Rejected, Retryable
from dataflow.journal.base import Entry
from dataflow.journal.sql_statements import time_text
from dataflow.projections import cache_scripts as scripts
from dataflow.projections.base import following, of_a_pipeline
from dataflow.projections.metrics import counts_of
from dataflow.projections.sql_tables import table
from dataflow.projections.status import Row
from dataflow.projections.store import Store, place_of

KEPT_SECONDS = 60
"""How long a row is kept at most: also where the projection stands still it is no older than that."""

COUNTED: Final = {
    "records_processed": "total_records",
    "records_failed": "total_failures",
    "batches": "total_batches",
}
"""Live counter -> the column of `pipeline_status` with the same total."""


def connected(url: str) -> Redis:
    """A client; it connects when it is used."""
    try:
        return Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5)
    except ValueError as error:
        raise Rejected(f"the Redis URL cannot be read: {error}", hint="for example redis://127.0.0.1:6379/0") from None


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Redis' errors as ours. A password in the address is not shown."""
    place = where.rpartition("@")[2]
    try:
        yield
    except AuthenticationError as error:
        raise Rejected(f"Redis refused the credentials: {error}", where=place) from error
    except ResponseError as error:
        # Also -LOADING and -READONLY, which pass by themselves.
        raise Retryable(f"Redis refused: {error}", code="SERVICE_UNAVAILABLE", where=place) from error
    except (RedisError, OSError) as error:
        raise Retryable(f"Redis is not there: {error}", code="CONNECTION_FAILED", where=place) from error


class CacheProjection:
    """`Projection` that keeps the rows in the Redis at `url` true, counts live and tells of events. `store` is where
    the rows come from. Notices go to the channels `<prefix>events` and `<prefix>pipeline:<id>`, once or not at all."""

    name: Final = "cache"

    def __init__(self, url: str, store: Store, prefix: str = "dataflow:") -> None:
        self._url, self._store, self._prefix = url, store, prefix
        self._redis: Redis | None = None
        self._epoch = ""

    async def __aenter__(self) -> Self:
        self._redis = connected(self._url)
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._redis is not None:
            await self._redis.aclose()
        await self._store.__aexit__(*exc)

    @property
    def _open(self) -> Redis:
        if self._redis is None:
            raise RuntimeError("the cache is not open: use it inside `async with`")
        return self._redis

    async def position(self) -> int:
        with translated(self._url):
            redis, prefix = self._open, self._prefix
            epoch, position = await redis.mget(f"{prefix}epoch", f"{prefix}position")
            if epoch is None or position is None:
                await self._seed()
                epoch, position = await redis.mget(f"{prefix}epoch", f"{prefix}position")
            if epoch is None or position is None:
                raise Retryable("Redis has forgotten what it was just told", where=self._url.rpartition("@")[2])
            self._epoch = str(epoch)
            return int(position)

    async def apply(self, entries: Sequence[Entry]) -> None:
        with translated(self._url):
            position = entries[0].position - 1 if entries else 0
            while new := following(entries, position):
                told = [_told(entry) for entry in new]
                answer = await self._run(scripts.APPLY, self._epoch, position, new[-1].position, *told)
                if answer[0] == "done":
                    return
                if answer[0] == "epoch":
                    raise Retryable("Redis has begun anew", where=self._url.rpartition("@")[2])
                if answer[1] == position:
                    raise Corrupt("Redis does not move on")
                position = int(answer[1])  # another projector was first with some of them

    async def _seed(self) -> None:
        """Begin where the status model stands: counters from its totals first, the epoch last."""
        position, rows = await self._store.read(_totals)
        redis = self._open
        for begin in range(0, len(rows), 500):
            pipe = redis.pipeline(transaction=False)
            for row in rows[begin : begin + 500]:
                key = f"{self._prefix}counters:{row['pipeline_id']}"
                pipe.delete(key)
                counters: dict[Any, Any] = {name: row[column] for name, column in COUNTED.items()}
                counters["v"] = row["version"]
                pipe.hset(key, mapping=counters)
            await pipe.execute()
        await self._run(scripts.SEED, uuid4().hex, position)

    async def _run(self, script: str, *arguments: str | int) -> Any:
        return await cast("Any", self._open.eval(script, 0, self._prefix, *map(str, arguments)))


def _totals(connection: Connection) -> tuple[int, list[Row]]:
    place = place_of(connection, "status")
    rows = table("pipeline_status", place.slot)
    return place.position, [dict(row) for row in connection.execute(select(rows)).mappings()]


def _told(entry: Entry) -> str:
    record = entry.record
    event: dict[str, Any] = {"stream": record.stream, "sequence": record.sequence, "notice": notice(entry)}
    if of_a_pipeline(record):
        event["counts"] = _counts(record) or {"records_processed": 0}
    return json.dumps(event)


def _counts(record: EventRecord) -> dict[str, int]:
    return {name: count for name, count in counts_of(record).items() if name in COUNTED and count}


def notice(entry: Entry) -> str:
    """What subscribers are told of an event: enough to know what to ask for."""
    record = entry.record
    return json.dumps(
        {
            "pipeline": record.stream,
            "type": record.type,
            "sequence": record.sequence,
            "position": entry.position,
            "time": time_text(record.time),
            "actor": record.actor,
        }
    )


class CachedReads:
    """Reading a pipeline's row by way of Redis: what it has is as true as the database was when the projection last
    looked, and where it has nothing, or does not answer, the database is asked. To be entered beside an open store."""

    def __init__(self, url: str, store: Store, prefix: str = "dataflow:") -> None:
        self._url, self._store, self._prefix = url, store, prefix
        self._redis = connected(url)
        self.hits = 0
        self.misses = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._redis.aclose()

    async def pipeline(self, pipeline: str) -> Row | None:
        """The row of `pipeline_status`, None where there is none. `Retryable` where neither store answers."""
        epoch = ""
        try:
            with translated(self._url):
                epoch, row = await self._eval(scripts.LOOK, pipeline)
            if row:
                self.hits += 1
                return cast("Row", json.loads(row))
        except Retryable:
            pass  # Redis only makes it quicker
        self.misses += 1
        found = await self._store.read(_row, pipeline)
        if found is not None and epoch:
            try:
                with translated(self._url):
                    await self._eval(scripts.FILL, epoch, pipeline, found["version"], json.dumps(found), KEPT_SECONDS)
            except Retryable:
                pass
        return found

    async def counters(self, pipeline: str) -> Mapping[str, int] | None:
        """The live counters; where Redis has none they are the totals of the database."""
        try:
            with translated(self._url):
                found = await cast("Any", self._redis.hgetall(f"{self._prefix}counters:{pipeline}"))
        except Retryable:
            found = {}
        if found:
            return {name: int(found.get(name, 0)) for name in COUNTED}
        row = await self._store.read(_row, pipeline)
        return None if row is None else {name: row[column] for name, column in COUNTED.items()}

    async def notices(self, pipeline: str = "") -> AsyncIterator[Mapping[str, Any]]:
        """Notices from now on, of one pipeline or of all. Some are missed while Redis is away: read again then.
        `Retryable` where it goes."""
        channel = f"{self._prefix}pipeline:{pipeline}" if pipeline else f"{self._prefix}events"
        with translated(self._url):
            async with self._redis.pubsub(ignore_subscribe_messages=True) as listening:
                await listening.subscribe(channel)
                while True:
                    message = await listening.get_message(timeout=None)
                    if message is not None:
                        yield json.loads(message["data"])

    async def _eval(self, script: str, *arguments: str | int) -> Any:
        return await cast("Any", self._redis.eval(script, 0, self._prefix, *map(str, arguments)))


def _row(connection: Connection, pipeline: str) -> Row | None:
    rows = table("pipeline_status", place_of(connection, "status").slot)
    found = connection.execute(select(rows).where(rows.c.pipeline_id == pipeline)).mappings().one_or_none()
    return None if found is None else dict(found)
