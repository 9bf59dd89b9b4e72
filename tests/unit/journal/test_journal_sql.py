"""What is particular to the SQL journal: its schema, what it refuses, several processes on one file."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, inspect

import migrations
from dataflow.errors import Conflict, Corrupt, Rejected
from dataflow.journal import open_journal, sql_statements
from dataflow.journal.sql_engine import create_journal_engine, journal_url, writing
from dataflow.journal.sql_tables import metadata
from dataflow.testing.journal_kit import Writing, all_of, check_acknowledged
from migrations.whole import made_by_migrations, script
from tests.chains import check_head_is_written_down


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "journal.db"


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


@pytest.fixture
async def journal(url):
    async with open_journal(url) as journal:
        await journal.append("s", 0, Writing("s").some(3))
        yield journal


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE journal_events SET payload = '{}' WHERE position = 2",
        "UPDATE journal_events SET hash = hash",
        "DELETE FROM journal_events WHERE position = 3",
        "DELETE FROM journal_events",
        "INSERT OR REPLACE INTO journal_events SELECT * FROM journal_events WHERE position = 1",
        "REPLACE INTO journal_events SELECT 9, 's', 2, 'x', type, 1, time, '', '', '', '[]', '{}', '', '' "
        "FROM journal_events WHERE position = 1",
        "UPDATE OR REPLACE journal_events SET position = 1 WHERE position = 2",
        "DELETE FROM journal_tags",
        "UPDATE journal_tags SET tag = 'x'",
    ],
)
async def test_events_cannot_be_changed(journal, file, change):
    before = await all_of(journal, "s")
    with closing(sqlite3.connect(file)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(change)
    assert await all_of(journal, "s") == before


async def test_commits_reach_the_disk_before_they_are_acknowledged(journal, url):
    engine = create_journal_engine(url)
    with writing(engine) as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
    engine.dispose()
    assert pragma == {"journal_mode": "wal", "synchronous": 2}


async def test_another_process_in_the_middle_of_a_commit_is_waited_for(journal, url):
    """It has written events, and holds them back: a second writer waits, a reader sees neither."""
    engine, reached = create_journal_engine(url), asyncio.Event()
    first, second = Writing("early"), Writing("late")
    with writing(engine) as connection:
        outcomes = sql_statements.append_all(connection, [sql_statements.Appending("early", 0, first.some(2))])
        late = asyncio.create_task(journal.append("late", 0, second.some(1)))
        late.add_done_callback(lambda _: reached.set())
        seen = await journal.tail(3)
        assert (outcomes, seen, reached.is_set()) == ([None], [], False)
    engine.dispose()
    await late
    assert [(e.position, e.record.stream) for e in await journal.tail(3)] == [(4, "early"), (5, "early"), (6, "late")]


async def test_appends_that_wait_are_committed_together_and_fail_alone(journal, monkeypatch):
    groups = []
    append_all = sql_statements.append_all
    monkeypatch.setattr(
        sql_statements, "append_all", lambda c, batch: groups.append(len(batch)) or append_all(c, batch)
    )
    writers = [Writing(f"w{n}") for n in range(40)]
    outcomes = await asyncio.gather(
        *(journal.append(w.stream, 0, w.some(2)) for w in writers),
        journal.append("s", 1, Writing("s", 1).some(1)),
        return_exceptions=True,
    )
    assert outcomes[:40] == [None] * 40
    assert isinstance(outcomes[40], Conflict)
    assert len(groups) < 41 == sum(groups)
    assert await journal.end() == 83


async def test_an_id_that_is_taken_elsewhere_refuses_only_its_own_append(journal):
    """By a constraint of the database, which ends the transaction that others share."""
    from dataclasses import replace

    from dataflow.domain.record import hashed

    taken = (await journal.last("s")).id
    thief = hashed(replace(Writing("t").some(1)[0], id=taken))
    outcomes = await asyncio.gather(
        journal.append("a", 0, Writing("a").some(1)),
        journal.append("t", 0, [thief]),
        journal.append("b", 0, Writing("b").some(1)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Conflict, type(None)]
    assert await journal.streams() == ["a", "b", "s"]


async def test_a_cancelled_caller_disturbs_nobody(journal):
    first = asyncio.create_task(journal.append("a", 0, Writing("a").some(1)))
    second = asyncio.create_task(journal.append("b", 0, Writing("b").some(1)))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert await journal.streams() == ["a", "b", "s"]


PROCESS = """
import asyncio, sys
from datetime import UTC, datetime
from dataflow.domain.events import PipelineResumed, seal
from dataflow.journal import open_journal

async def main(url, stream):
    async with open_journal(url) as journal:
        print("open", flush=True)
        sys.stdin.readline()
        last = "0" * 64
        for n in range(30):
            records = seal(
                [PipelineResumed()] * 2, stream=stream, after_sequence=2 * n, previous_hash=last, time=datetime.now(UTC)
            )
            await journal.append(stream, 2 * n, records)
            last = records[-1].hash

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_start_together_share_a_new_file(url):
    """All of them find no schema, one makes it; then they append at the same time."""
    streams, pipe = ["left", "right"], subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, url, stream], stdin=pipe, stdout=pipe, stderr=pipe)
        for stream in streams
    ]
    for process in started:
        assert process.stdout.readline() == b"open\n", process.communicate()[1].decode()
    for process in started:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    assert [process.communicate()[1].decode() for process in started] == ["", ""]
    async with open_journal(url) as journal:
        assert await journal.streams() == streams
        assert await journal.end() == 120
        for stream in streams:
            assert await check_acknowledged(journal, stream, 60) == 60


def test_migrations_lead_to_the_tables_of_the_code_and_back(url, file):
    assert migrations.current(url) is None
    migrations.upgrade(url)
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.HEAD
    engine = create_engine(url)
    made, expected = inspect(engine), {}
    for name, table in metadata.tables.items():
        expected[name] = (
            {c.name: (c.type.compile(engine.dialect), c.nullable) for c in table.columns},
            list(table.primary_key.columns.keys()),
            {(i.name, tuple(c.name for c in i.columns)) for i in table.indexes},
        )
    found = {
        name: (
            {c["name"]: (c["type"].compile(engine.dialect), c["nullable"]) for c in made.get_columns(name)},
            made.get_pk_constraint(name)["constrained_columns"],
            {(i["name"], tuple(i["column_names"])) for i in made.get_indexes(name)},
        )
        for name in made.get_table_names()
        if name != "alembic_version"
    }
    unique = {u["name"] for u in made.get_unique_constraints("journal_events")}
    engine.dispose()
    assert found == expected
    assert unique == {"uq_journal_events_stream_sequence", "uq_journal_events_id"}
    migrations.downgrade(url)
    assert migrations.current(url) is None
    with closing(sqlite3.connect(file)) as connection:
        left = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'journal%'").fetchall()
    assert left == []


def test_head_is_the_newest_revision():
    check_head_is_written_down(migrations.JOURNAL)


def test_a_new_file_gets_in_one_go_what_the_migrations_make_step_by_step(url, file):
    """To be written anew after a new migration: `python -m migrations.whole`."""
    expected = made_by_migrations(migrations.JOURNAL)
    assert migrations.JOURNAL.whole.read_text() == expected
    migrations.upgrade(url)
    assert script(file) == expected


def test_tables_of_others_in_the_file_do_no_harm(url, file):
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    migrations.upgrade(url)
    migrations.downgrade(url)
    migrations.upgrade(url)
    assert migrations.current(url) == migrations.HEAD


@pytest.mark.parametrize("new", [True, False])
def test_opening_what_is_new_or_up_to_date_does_not_import_alembic(url, new):
    if not new:
        migrations.upgrade(url)
    program = (
        "import asyncio, sys\nfrom dataflow.journal import open_journal\n"
        f"async def main():\n    async with open_journal({url!r}): pass\n"
        "asyncio.run(main())\nprint('alembic' in sys.modules, 'temporalio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


async def test_a_schema_of_a_newer_version_is_refused(journal, url, file):
    await journal.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Rejected, match="9999") as caught:
        async with open_journal(url):
            pass
    assert caught.value.code == "SCHEMA_TOO_NEW"


@pytest.mark.parametrize("bad", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", "", "mongodb://x"])
def test_urls_of_other_kinds_are_refused(bad):
    with pytest.raises(Rejected):
        open_journal(bad)


@pytest.mark.parametrize(
    ("given", "driver"),
    [("sqlite+aiosqlite:///x.db", "sqlite+pysqlite"), ("postgresql://u:secret@h/d", "postgresql+psycopg")],
)
def test_urls_get_the_driver_that_is_used(given, driver):
    assert journal_url(given).drivername == driver


async def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    file = tmp_path / "journal.db"
    file.write_text("not a database at all, " * 100)
    with pytest.raises(Corrupt):
        async with open_journal(f"sqlite:///{file}"):
            pass


async def test_a_folder_that_cannot_be_made_is_rejected(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Rejected):
        async with open_journal(f"sqlite:///{tmp_path}/file/journal.db"):
            pass


def test_stored_times_sort_as_text_also_on_the_full_second():
    assert sql_statements.time_text(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"
    with pytest.raises(ValueError, match="time zone"):
        sql_statements.time_text(datetime(2026, 1, 1))


async def test_a_closed_journal_says_so(url):
    async with open_journal(url) as journal:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await journal.append("s", 0, Writing("s").some(1))
