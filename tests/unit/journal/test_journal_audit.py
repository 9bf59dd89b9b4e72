"""Any edit of a stored event is found; the export can be checked by somebody who has only the export."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow.journal import open_journal
from dataflow.journal.audit import audit_verify, audit_verify_all, export_jsonl
from dataflow.testing.journal_kit import Writing

COLUMNS = (
    "sequence", "id", "type", "schema_version", "time", "actor", "correlation_id", "causation_id", "tags",
    "payload", "previous_hash", "hash",
)  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A journal of two streams, its file unprotected: triggers stop mistakes, not whoever owns the file."""
    import asyncio

    file = tmp_path_factory.mktemp("audit") / "journal.db"

    async def write():
        async with open_journal(f"sqlite:///{file}") as journal:
            for stream in ("s", "t"):
                await journal.append(stream, 0, Writing(stream).some(8, actor="someone"))

    asyncio.run(write())
    with closing(sqlite3.connect(file)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.read_bytes()


@pytest.fixture
def tampered(template, tmp_path):
    """Give it SQL, get the journal in which that was done."""

    def tamper(*statements):
        file = tmp_path / "journal.db"
        for old in tmp_path.glob("journal.db*"):
            old.unlink()
        file.write_bytes(template)
        with closing(sqlite3.connect(file)) as connection, connection:
            for statement in statements:
                connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
        return open_journal(f"sqlite:///{file}")

    return tamper


async def test_an_untouched_journal_is_whole(tampered):
    async with tampered() as journal:
        assert await audit_verify(journal, "s") is None
        assert await audit_verify_all(journal) == []


@pytest.mark.parametrize(
    ("statements", "place"),
    [
        (["UPDATE journal_events SET actor = 'nobody' WHERE position = 3"], 3),
        (["DELETE FROM journal_events WHERE position = 3"], 3),
        (["DELETE FROM journal_events WHERE position = 1"], 1),
        (["DELETE FROM journal_events WHERE position = 8"], 8),
        (["DELETE FROM journal_events WHERE stream = 's'"], 1),
        (["UPDATE journal_events SET stream = 't2' WHERE position = 5"], 5),
        (
            [
                "UPDATE journal_events SET sequence = 99 WHERE position = 4",
                "UPDATE journal_events SET sequence = 4 WHERE position = 5",
                "UPDATE journal_events SET sequence = 5 WHERE position = 4",
            ],
            4,
        ),
        (
            [
                "INSERT INTO journal_events SELECT 99, 's', 9, 'new', type, 1, time, actor, '', '', tags, payload, "
                "hash, 'ff' FROM journal_events WHERE position = 8"
            ],
            9,
        ),
        (["UPDATE journal_events SET payload = '{\"reason\": ' WHERE position = 6"], 6),
        (["UPDATE journal_events SET payload = CAST(x'7b22ff' AS TEXT) WHERE position = 6"], 6),
        (["UPDATE journal_events SET payload = '{\"reason\":NaN}' WHERE position = 6"], 6),
        (["UPDATE journal_events SET time = 'yesterday' WHERE position = 2"], 2),
        (["UPDATE journal_streams SET hash = 'x' WHERE stream = 's'"], 8),
        (["DELETE FROM journal_streams WHERE stream = 's'"], 8),
    ],
)
async def test_tampering_is_found_at_its_place(tampered, statements, place):
    async with tampered(*statements) as journal:
        broken = await audit_verify(journal, "s")
        assert broken and (broken.stream, broken.sequence) == ("s", place)
        assert await audit_verify(journal, "t") is None


@pytest.mark.parametrize(
    ("statements", "place"),
    [
        (["DELETE FROM journal_events WHERE stream = 's'", "DELETE FROM journal_streams WHERE stream = 's'"], ("t", 1)),
        (["DELETE FROM journal_events WHERE stream = 't'", "DELETE FROM journal_streams WHERE stream = 't'"], ("", 9)),
        (["UPDATE journal_events SET position = 99 WHERE position = 12"], ("t", 5)),
        (
            [
                "UPDATE journal_events SET position = 99 WHERE position = 12",
                "UPDATE journal_events SET position = 12 WHERE position = 13",
                "UPDATE journal_events SET position = 13 WHERE position = 99",
            ],
            ("t", 5),
        ),
        (["UPDATE journal_order SET position = 17"], ("", 17)),
    ],
)
async def test_holes_in_the_reading_order_are_found(tampered, statements, place):
    """Where every stream that is still known is whole."""
    async with tampered(*statements) as journal:
        assert await audit_verify(journal, "s") is None
        assert await audit_verify(journal, "t") is None
        assert [(b.stream, b.sequence) for b in await audit_verify_all(journal)] == [place]


@pytest.mark.parametrize(
    ("column", "written", "same"),
    [
        ("payload", '{"reason":"\\u00e9"}', '{"reason":"\\u00E9"}'),
        ("payload", '{"n":1e+22}', '{"n":1E+22}'),
        ("payload", '{"n":0.30000000000000004}', '{"n":0.30000000000000005}'),
        ("payload", '{"n":1}', '{"n": 1}'),
        ("tags", '["a","b"]', '["a", "b"]'),
        ("time", "2026-01-31T23:59:58.123456Z", "2026-01-31 23:59:58.123456Z"),
        ("actor", "someone", b"someone"),
    ],
)
async def test_bytes_that_mean_the_same_are_found_all_the_same(tampered, column, written, same):
    change = f"UPDATE journal_events SET {column} = ? WHERE position = 1"
    async with tampered((change, (written,))) as journal:
        assert [r async for r in journal.read("s", limit=1)]
    async with tampered((change, (same,))) as journal:
        assert "cannot be read" in (await audit_verify(journal, "s")).reason


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(1, 8), column=st.sampled_from(COLUMNS), index=st.integers(0, 200), bit=st.integers(0, 6))
async def test_one_flipped_bit_in_any_field_is_found(tampered, position, column, index, bit):
    def flip(value):
        if isinstance(value, int):
            return value ^ (1 << (bit + 4))  # beyond the eight sequences there are: they are unique
        raw = bytearray(value.encode() or b" ")
        raw[index % len(raw)] ^= 1 << bit
        return raw.decode("utf-8", "replace")

    async with tampered() as journal:
        before = [record async for record in journal.read("s")]
    assert before[position - 1].sequence == position
    with closing(sqlite3.connect(journal._where.removeprefix("sqlite+pysqlite:///"))) as connection, connection:
        (value,) = connection.execute(f"SELECT {column} FROM journal_events WHERE position = ?", (position,)).fetchone()
        flipped = flip(value)
        connection.execute(f"UPDATE journal_events SET {column} = ? WHERE position = ?", (flipped, position))
    async with journal:
        broken = await audit_verify(journal, "s")
        assert broken and broken.sequence == position


async def test_export_is_checkable_on_its_own(tampered):
    lines = []
    async with tampered() as journal:
        assert await export_jsonl(journal, lines.append, "s") == 8
        everything = []
        assert await export_jsonl(journal, everything.append) == 16
    assert everything[:8] == lines
    previous = "0" * 64
    for line in lines:
        document = json.loads(line)
        stated = document.pop("hash")
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        assert document["previous_hash"] == previous
        assert hashlib.sha256(canonical.encode()).hexdigest() == stated
        previous = stated
