"""The journal's schema: numbered revisions, by alembic in SQLite and PostgreSQL, by CQL files in Cassandra."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import migrations
from dataflow.errors import Rejected
from dataflow.journal.sql_engine import journal_url
from dataflow.migrate.stores import Standing, State, Store

NAME = "journal"


def journal_store(url: str) -> Store:
    """The store behind the journal's URL. `Rejected` for a URL of no kind that is known."""
    if url.partition(":")[0] in ("memory", "archive"):
        return Schemaless(url.rpartition("@")[2])
    if url.partition(":")[0] == "cassandra":
        return CassandraStore(url)
    return SqlStore(url)


def revision_standing(name: str, where: str, found: str | None, wanted: str, known: bool) -> Standing:
    """How the revision found compares with the one that is wanted."""
    if found == wanted:
        return Standing(name, where, State.CURRENT, found, wanted)
    if found is None or known:
        return Standing(name, where, State.BEHIND, found or "", wanted)
    return Standing(name, where, State.NEWER, found, wanted, "a later version of DataFlow has written it: install that")


class Schemaless:
    """The journal in memory, or an archive of it."""

    name = NAME

    def __init__(self, where: str) -> None:
        self.where = where

    async def standing(self) -> Standing:
        return Standing(self.name, self.where, State.CURRENT, detail="has no schema")

    up = down = standing


class SqlStore:
    """A chain of migrations in SQLite or PostgreSQL: the journal's, that of the read models or the inbox."""

    def __init__(self, url: str, name: str = NAME, chain: migrations.Chain = migrations.JOURNAL) -> None:
        parsed = journal_url(url)
        self.url, self.name, self._chain = url, name, chain
        self.where = parsed.render_as_string(hide_password=True)
        self._file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None

    async def standing(self) -> Standing:
        return await asyncio.to_thread(self._standing)

    async def up(self) -> Standing:
        await asyncio.to_thread(self._chain.upgrade, self.url)
        return await self.standing()

    async def down(self) -> Standing:
        await asyncio.to_thread(self._down)
        return await self.standing()

    def _standing(self) -> Standing:
        if self._missing():
            return revision_standing(self.name, self.where, None, self._chain.head, True)
        found = self._chain.current(self.url)
        return revision_standing(self.name, self.where, found, self._chain.head, self._chain.is_known(found))

    def _down(self) -> None:
        if self._missing():
            return
        found = self._chain.current(self.url)
        if found is None:
            return
        if not self._chain.is_known(found):
            raise Rejected(f"schema {found} is not of this version, and cannot be taken back by it", where=self.where)
        self._chain.downgrade(self.url, "-1")

    def _missing(self) -> bool:
        """SQLite would make an empty file by looking at it."""
        return self._file is not None and not self._file.exists()


class CassandraStore:
    """The journal in Cassandra. `up` makes the keyspace too; `down` leaves it, with the note of where its schema is."""

    name = NAME

    def __init__(self, url: str) -> None:
        from dataflow.journal.cassandra_session import CassandraUrl

        self._url = CassandraUrl.parse(url)
        self.where = self._url.where

    async def standing(self) -> Standing:
        return await asyncio.to_thread(self._with_session, lambda _: None)

    async def up(self) -> Standing:
        from migrations import cql

        url = self._url
        return await asyncio.to_thread(
            self._with_session, lambda session: cql.upgrade(session, url.keyspace, url.replication)
        )

    async def down(self) -> Standing:
        from migrations import cql

        return await asyncio.to_thread(self._with_session, lambda session: cql.downgrade(session, self._url.keyspace))

    def _with_session(self, act: Callable[[Any], None]) -> Standing:
        from dataflow.journal.cassandra_session import connect, translated
        from migrations import cql

        with translated(self.where):
            cluster, session = connect(self._url)
            try:
                act(session)
                found = cql.current(session, self._url.keyspace)
            finally:
                cluster.shutdown()
        return revision_standing(self.name, self.where, found, cql.HEAD, cql.is_known(found))
