"""The SQL journal on a real PostgreSQL: the kit, a server that is killed, migrations under live writers."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from servers.fleet import Fleet
from servers.places import Site

import migrations
from dataflow.errors import Retryable
from dataflow.journal import open_journal
from dataflow.journal.audit import audit_verify_all
from dataflow.journal.sql_engine import create_journal_engine
from dataflow.journal.sql_tables import metadata
from dataflow.migrate import State, migrate_down, migrate_up, status
from dataflow.migrate.journal import journal_store
from dataflow.testing import journal_kit as kit
from dataflow.testing.journal_kit import Writing, append_and_acknowledge, check_acknowledged


@pytest.fixture
def database(postgres: Site) -> Callable[[str], str]:
    """The URL of a database of this test; made where it is new."""
    prefix = f"t{uuid4().hex[:10]}"
    made: set[str] = set()
    server = f"postgresql://postgres@127.0.0.1:{postgres.port}"

    def url(name: str) -> str:
        full = f"{prefix}_{name}"
        if full not in made:
            with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{full}"'.encode())
            made.add(full)
        return f"{server}/{full}"

    return url


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
async def test_postgres_passes(database: Callable[[str], str], check: kit.Check) -> None:
    await check(lambda name: open_journal(database(name)))


async def test_migrations_up_down_up_on_live_data(database: Callable[[str], str]) -> None:
    url = database("live")
    store = journal_store(url)
    assert (await status([store]))[0].state is State.BEHIND
    writers = {name: Writing(name) for name in ("a", "b")}

    async def write(name: str, times: int) -> None:
        writer = writers[name]
        async with open_journal(url) as journal:
            for _ in range(times):
                await journal.append(name, writer.sequence, writer.some(3))

    # Several processes come up at once, one of them by `migrate`, while others already append.
    _, _, *found = await asyncio.gather(
        write("a", 30), write("b", 30), *(migrate_up([store], lambda _: None) for _ in range(4))
    )
    assert all(one.state is State.CURRENT for [one] in found), found
    async with open_journal(url) as journal:
        assert await journal.end() == 180
        assert await audit_verify_all(journal) == []
    [down] = await migrate_down([store], lambda _: None)
    assert (down.was, down.found) == ("0001", "")
    engine = create_journal_engine(url)
    with engine.connect() as connection:
        left = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    engine.dispose()
    assert left == set()
    await migrate_up([store], lambda _: None)
    writers["a"] = Writing("a")
    await write("a", 1)
    async with open_journal(url) as journal:
        assert await journal.end() == 3


def test_migrations_make_the_tables_that_statements_name(database: Callable[[str], str]) -> None:
    url = database("tables")
    migrations.upgrade(url)
    engine = create_journal_engine(url)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for table in metadata.tables.values():
            found = {column["name"] for column in inspector.get_columns(table.name)}
            assert found == {column.name for column in table.columns}
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            connection.execute(sa.text("DELETE FROM journal_events"))
    engine.dispose()


@pytest.fixture
def own(postgres: Site) -> Iterator[Fleet]:  # the shared one, which others may be using, tells whether it can be had
    root = Path(tempfile.gettempdir()) / f"dataflow-kill-{uuid4().hex[:8]}"
    with Fleet(root, until_unused=True) as fleet:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, fleet.up(["postgres"], logging.info, free=True)).result()
        yield fleet
    if fleet.wait_until_unused():
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.chaos
async def test_killed_server_keeps_what_it_acknowledged(own: Fleet) -> None:
    url = f"postgresql://postgres@127.0.0.1:{own.site('postgres').port}/postgres"
    acknowledged = 0
    enough = asyncio.Event()

    def note(sequence: int) -> None:
        nonlocal acknowledged
        acknowledged = sequence
        if sequence >= 60:
            enough.set()

    async with open_journal(url) as journal:
        appending = asyncio.create_task(append_and_acknowledge(journal, "s", note, 100_000))
        await enough.wait()
        await asyncio.to_thread(own.kill, "postgres")
        with pytest.raises(Retryable):
            await appending
    await own.up(["postgres"], logging.info)
    async with open_journal(url) as journal:
        assert await check_acknowledged(journal, "s", acknowledged) >= 60
        assert await audit_verify_all(journal) == []
        await append_and_acknowledge(journal, "s", note, 6)
