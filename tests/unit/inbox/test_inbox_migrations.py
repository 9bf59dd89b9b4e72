"""The inbox's schema: forward and back, equal to what the code says of it, and tables from before there were migrations
taken over with what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dataflow.domain.orders import Admission
from dataflow.errors import Rejected
from dataflow.inbox import Batch, Inbox
from dataflow.inbox.tables import metadata
from dataflow.journal.sql_engine import create_journal_engine, writing
from dataflow.migrate import State, migrate_down, migrate_up, status
from dataflow.migrate.journal import SqlStore
from dataflow.projections.store import Store
from migrations import INBOX
from tests.chains import check_head_is_written_down, check_makes_the_tables


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'inbox.db'}"


async def push(url: str, name: str) -> Admission:
    inbox = Inbox(url)
    try:
        [token] = await inbox.stage("orders", [Batch.of(name, [{"n": 1}, {"n": 2}])])
        [found] = await inbox.admit("orders", [(name, str(token))])
        return found
    finally:
        inbox.close()


async def extent(url: str) -> tuple[int, int]:
    inbox = Inbox(url)
    try:
        return await inbox.extent("orders")
    finally:
        inbox.close()


def test_the_head_is_written_down() -> None:
    check_head_is_written_down(INBOX)


def test_migrations_make_the_tables_that_statements_name(url: str) -> None:
    check_makes_the_tables(INBOX, url, metadata, indexes=True)


async def test_up_down_up(url: str) -> None:
    schema = SqlStore(url, "inbox", INBOX)
    [up] = await migrate_up([schema], lambda _: None)
    assert (up.was, up.found, up.state) == ("", INBOX.head, State.CURRENT)
    assert await push(url, "b1") is Admission.NEW
    [again] = await migrate_up([schema], lambda _: None)
    assert again.was == again.found == INBOX.head and await extent(url) == (0, 2)
    [down] = await migrate_down([schema], lambda _: None)
    assert (down.was, down.found, down.state) == (INBOX.head, "", State.BEHIND)
    [up] = await migrate_up([schema], lambda _: None)
    assert up.state is State.CURRENT and await extent(url) == (0, 0)


async def test_tables_from_before_there_were_migrations_are_taken_over(url: str) -> None:
    engine = create_journal_engine(url)
    with writing(engine) as connection:  # as DataFlow did it then
        metadata.create_all(connection)
        connection.execute(sa.text("CREATE TABLE inbox_schema (version INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO inbox_schema VALUES (1)"))
        connection.execute(sa.text("INSERT INTO inbox_streams VALUES ('orders', 7)"))
    schema = SqlStore(url, "inbox", INBOX)
    assert (await status([schema]))[0].state is State.BEHIND
    assert (await extent(url))[1] == 7, "opening it brings the schema up to date, and keeps what is there"
    assert (await status([schema]))[0].state is State.CURRENT
    with engine.connect() as connection:  # which the DataFlow before this one looks at
        assert connection.execute(sa.text("SELECT version FROM inbox_schema")).scalar_one() == 1
    await migrate_down([schema], lambda _: None)
    with engine.connect() as connection:
        assert not [name for name in sa.inspect(connection).get_table_names() if name in metadata.tables]
    engine.dispose()


async def test_it_shares_a_database_with_the_read_models(url: str) -> None:
    async with Store(url):
        assert await push(url, "b1") is Admission.NEW
    await migrate_down([SqlStore(url, "inbox", INBOX)], lambda _: None)
    async with Store(url):
        pass


async def test_a_later_version_is_not_touched(url: str) -> None:
    await push(url, "b1")
    engine = create_journal_engine(url)
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE inbox_version SET version_num = '0099'"))
    engine.dispose()
    with pytest.raises(Rejected) as refused:
        await extent(url)
    assert refused.value.code == "SCHEMA_TOO_NEW"
    assert (await status([SqlStore(url, "inbox", INBOX)]))[0].state is State.NEWER
