"""Numbered CQL migrations on a real Cassandra: up, down, up on live data, interrupted, by several at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from cassandra import InvalidRequest, WriteTimeout, WriteType  # type: ignore[import-untyped]
from cassandra.protocol import ServerError  # type: ignore[import-untyped]
from servers.places import Site
from typer.testing import CliRunner

from dataflow.cli.app import app
from dataflow.journal import open_journal
from dataflow.journal.audit import audit_verify_all
from dataflow.journal.cassandra_session import CassandraUrl, connect
from dataflow.migrate import State, migrate_down, migrate_up, status
from dataflow.migrate.journal import journal_store
from dataflow.settings import Settings
from dataflow.testing.journal_kit import Writing
from migrations import cql


@pytest.fixture
def url(cassandra: Site) -> str:
    return f"cassandra://127.0.0.1:{cassandra.port}/m{uuid4().hex[:10]}?replication=1"


@pytest.fixture
def session(url: str) -> Iterator[Any]:
    cluster, session = connect(CassandraUrl.parse(url))
    yield session
    session.execute(f"DROP KEYSPACE IF EXISTS {CassandraUrl.parse(url).keyspace}")
    cluster.shutdown()


def tables(session: Any, url: str) -> set[str]:
    asked = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
    return {row[0] for row in session.execute(asked, (CassandraUrl.parse(url).keyspace,))}


class Through:
    """A session, for tests that come between it and some of its statements."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def ignore(_standing: object) -> None:
    return None


async def test_up_down_up_on_live_data(url: str, session: Any) -> None:
    store = journal_store(url)
    assert (await status([store]))[0].state is State.BEHIND
    assert tables(session, url) == set(), "looking has made something"

    async def write(name: str, times: int) -> None:
        writer = Writing(name)
        async with open_journal(url) as journal:
            for _ in range(times):
                await journal.append(name, writer.sequence, writer.some(3))

    # Several processes come up at once, two of them by `migrate`, while the others already append.
    _, _, *found = await asyncio.gather(write("a", 5), write("b", 5), *(migrate_up([store], ignore) for _ in range(2)))
    assert all(one.state is State.CURRENT for [one] in found), found
    [again] = await migrate_up([store], ignore)
    assert (again.was, again.found) == ("0001", "0001")
    async with open_journal(url) as journal:
        assert await journal.end() == 30
        assert await audit_verify_all(journal) == []
    [down] = await migrate_down([store], ignore)
    assert (down.was, down.found, down.state) == ("0001", "", State.BEHIND)
    assert tables(session, url) == {"schema_lock", "schema_revision"}
    assert (await migrate_down([store], ignore))[0].state is State.BEHIND
    await migrate_up([store], ignore)
    await write("a", 1)
    async with open_journal(url) as journal:
        assert await journal.end() == 3


async def test_an_interrupted_migration_goes_on(url: str, session: Any) -> None:
    class Cut(Exception):
        pass

    class Cutting(Through):
        """A session whose process dies before its fourth table."""

        def __init__(self, session: Any) -> None:
            super().__init__(session)
            self.tables = 0

        def execute(self, statement: str, *rest: Any) -> Any:
            self.tables += statement.startswith("CREATE TABLE IF NOT EXISTS journal_")
            if self.tables > 3 or statement.startswith("DELETE FROM schema_lock"):
                raise Cut
            return session.execute(statement, *rest)

    parsed = CassandraUrl.parse(url)
    with pytest.raises(Cut):
        await asyncio.to_thread(cql.upgrade, Cutting(session), parsed.keyspace, parsed.replication)
    assert len(tables(session, url)) == 5
    assert (await status([journal_store(url)]))[0].state is State.BEHIND
    session.execute("DELETE FROM schema_lock WHERE name = 'migrate' IF EXISTS")  # what its time to live does later
    [found] = await migrate_up([journal_store(url)], ignore)
    assert found.state is State.CURRENT


async def test_a_table_that_is_listed_before_it_can_be_read(url: str, session: Any) -> None:
    """What a busy node answers while another process makes the keyspace, seen on 5.0."""

    class Early(Through):
        def __init__(self, session: Any) -> None:
            super().__init__(session)
            self.answers: list[Exception] = [
                InvalidRequest("table schema_revision does not exist"),
                ServerError(0, "java.lang.IllegalArgumentException: Unknown CF", None),
            ]

        def execute(self, statement: str, *rest: Any) -> Any:
            if statement.startswith("SELECT revision") and self.answers:
                raise self.answers.pop(0)
            return session.execute(statement, *rest)

    parsed, early = CassandraUrl.parse(url), Early(session)
    await asyncio.to_thread(cql.upgrade, early, parsed.keyspace, parsed.replication)
    assert early.answers == []
    assert cql.current(session, parsed.keyspace) == cql.HEAD


async def test_a_claim_whose_answer_was_lost_is_known_again(url: str, session: Any) -> None:
    class Silent(Through):
        """Takes the first claim, and does not answer in time."""

        def __init__(self, session: Any) -> None:
            super().__init__(session)
            self.claims = 0

        def execute(self, statement: str, *rest: Any) -> Any:
            found = session.execute(statement, *rest)
            if statement.startswith("INSERT INTO schema_lock"):
                self.claims += 1
                if self.claims == 1:
                    raise WriteTimeout("timed out", write_type=WriteType.CAS)
            return found

    parsed, silent = CassandraUrl.parse(url), Silent(session)
    await asyncio.to_thread(cql.upgrade, silent, parsed.keyspace, parsed.replication)
    assert cql.current(session, parsed.keyspace) == cql.HEAD
    assert silent.claims == 2, "it has waited for its own claim to lapse"


async def test_a_newer_schema_is_left_alone(url: str, session: Any) -> None:
    store = journal_store(url)
    await migrate_up([store], ignore)
    keyspace = CassandraUrl.parse(url).keyspace
    session.execute(f"INSERT INTO {keyspace}.schema_revision (name, revision) VALUES ('schema', '9999')")
    assert (await status([store]))[0].state is State.NEWER
    for move in (migrate_up, migrate_down):
        [found] = await move([store], ignore)
        assert found.state is State.FAILED
        assert "9999" in found.detail


def test_the_command(url: str, session: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_JOURNAL_URL", url)
    monkeypatch.setenv("DATAFLOW_HOME", str(settings.home))

    def journal(*arguments: str) -> tuple[int, Any]:
        result = CliRunner().invoke(app, ["migrate", *arguments, "--json"])
        return result.exit_code, json.loads(result.stdout)["stores"]

    code, stores = journal("status")
    assert (code, stores[0]["state"], stores[0]["where"]) == (1, "behind", CassandraUrl.parse(url).where)
    code, stores = journal("up")
    assert (code, stores[0]["found"], stores[0]["was"]) == (0, "0001", "")
    code, stores = journal("down", "--yes")
    assert (code, stores[-1]["found"], stores[-1]["was"]) == (0, "", "0001")
