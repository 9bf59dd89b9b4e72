"""The journal on a real Cassandra: the kit, writers that die or wake up late, borders of partitions, edits."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from servers.places import Site

from dataflow.domain.events import PipelinePaused, PipelineReset
from dataflow.domain.record import hashed
from dataflow.errors import Conflict, Corrupt, Rejected, Retryable
from dataflow.journal import MemoryJournal, cassandra_log, open_journal
from dataflow.journal.audit import audit_verify, audit_verify_all
from dataflow.journal.cassandra import CassandraJournal
from dataflow.journal.cassandra_log import Log
from dataflow.journal.cassandra_session import CassandraUrl, connect
from dataflow.testing import journal_kit as kit
from dataflow.testing.journal_kit import Writing, all_of, check_acknowledged


@pytest.fixture
def keyspace(cassandra: Site) -> Iterator[Callable[[str], str]]:
    """The URL of a keyspace of this test, which goes with it: a small server holds only some hundred tables."""
    prefix = f"t{uuid4().hex[:10]}"
    used: set[str] = set()

    def url(name: str) -> str:
        used.add(f"{prefix}_{name}")
        return f"cassandra://127.0.0.1:{cassandra.port}/{prefix}_{name}"

    yield url
    cluster, session = connect(CassandraUrl.parse(f"cassandra://127.0.0.1:{cassandra.port}/any"))
    for name in used:
        session.execute(f"DROP KEYSPACE IF EXISTS {name}")
    cluster.shutdown()


@pytest.fixture
def url(keyspace: Callable[[str], str]) -> str:
    return keyspace("one")


@pytest.fixture
def cql(url: str) -> Iterator[Callable[[str], Any]]:
    """What somebody with a shell may do to the journal of `url`."""
    cluster, session = connect(CassandraUrl.parse(url))
    name = CassandraUrl.parse(url).keyspace
    yield lambda statement: session.execute(statement.replace("journal_", f"{name}.journal_")).all()
    cluster.shutdown()


@pytest.mark.parametrize("check", kit.CHECKS, ids=lambda check: check.__name__)
async def test_cassandra_passes(keyspace: Callable[[str], str], check: kit.Check) -> None:
    await check(lambda name: open_journal(keyspace(name)))


def log_of(journal: Any) -> Log:
    assert isinstance(journal, CassandraJournal)
    assert journal._log is not None
    return journal._log


class Killed(Exception):
    pass


@pytest.mark.parametrize("reader_first", [True, False], ids=["reader", "writer"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
async def test_what_a_dead_writer_left_is_completed(
    url: str, monkeypatch: pytest.MonkeyPatch, share: float, reader_first: bool
) -> None:
    """It dies when its slot is in the log, and `share` of what follows from it is written, but not the mark."""
    writer, other = Writing("s"), Writing("other")
    run = cassandra_log.all_at_once

    def dying(session: Any, statements: Any) -> Any:
        if not any("BatchStatement" in type(one).__name__ for one, _ in statements):
            return run(session, statements)  # it reads
        shuffled = random.Random(20261123).sample(statements, len(statements))
        run(session, shuffled[: int(len(shuffled) * share)])
        raise Killed

    records = [*writer.some(2), *writer.some(3)]
    async with open_journal(url) as living:
        async with open_journal(url) as dead:
            await dead.append("s", 0, records[:2])
            with monkeypatch.context() as patched:
                patched.setattr(cassandra_log, "all_at_once", dying)
                with pytest.raises(Killed):
                    await dead.append("s", 2, records[2:])
        if reader_first:
            assert await all_of(living, "s") == records
        await living.append("other", 0, other.some(2))
        assert await all_of(living, "s") == records
        assert [entry.position for entry in await living.by_tag("all-events")] == list(range(1, 8))
        for position, record in enumerate(records, 1):
            found = await living.find(record.id)
            assert found is not None
            assert (found.position, found.record) == (position, record)
        await living.append("s", 2, records[2:])  # the activity is run again elsewhere
        assert await living.end() == 7
        assert await check_acknowledged(living, "s", 5) == 5
        assert await audit_verify_all(living) == []


async def test_every_reader_completes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is in the log is hidden, whichever way one looks first."""

    def dying(*_: object) -> None:
        raise Killed

    writer = Writing("s")
    async with open_journal(url) as journal:
        newest = writer.some(1)[0]
        asks: dict[str, Callable[[], Any]] = {
            "head": lambda: journal.head("s"),
            "last": lambda: journal.last("s"),
            "find": lambda: journal.find(newest.id),
            "end": journal.end,
            "tail": lambda: journal.tail(newest.sequence - 1),
            "by_tag": lambda: journal.by_tag("all-events", newest.sequence - 1),
            "streams": journal.streams,
            "query": lambda: journal.query(type=newest.type, after=f"p{newest.sequence - 1}"),
        }
        for name, ask in asks.items():
            with monkeypatch.context() as patched:
                patched.setattr(log_of(journal), "_work_out", dying)
                with pytest.raises(Killed):
                    await journal.append("s", newest.sequence - 1, [newest])
            answer = await ask()
            assert answer, name
            assert name != "query" or answer.entries
            assert name != "head" or answer.sequence == newest.sequence
            assert name != "last" or answer == newest
            assert name != "end" or answer == newest.sequence
            rows = log_of(journal).session.execute("SELECT position FROM journal_marks")
            assert rows.one().position == newest.sequence, name
            newest = writer.some(1)[0]


async def test_a_writer_that_wakes_up_late_sets_nothing_back(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps between its slot and what follows from it; meanwhile the others have gone on."""
    writer = Writing("s")
    first, then = writer.some(2), writer.some(4)
    asleep, wake = threading.Event(), threading.Event()
    async with open_journal(url) as slow, open_journal(url) as quick:
        log = log_of(slow)
        work_out = log._work_out

        def late(slot: Any) -> None:
            asleep.set()
            wake.wait()
            work_out(slot)

        monkeypatch.setattr(log, "_work_out", late)
        appending = asyncio.create_task(slow.append("s", 0, first))
        await asyncio.to_thread(asleep.wait)
        await quick.append("s", 2, then)
        wake.set()
        await appending
        monkeypatch.setattr(log, "_work_out", work_out)
        head = await quick.head("s")
        assert head is not None
        assert (head.sequence, await quick.end()) == (6, 6)
        for journal in (slow, quick):
            with pytest.raises(Conflict):
                await journal.append("s", 2, Writing("s", 2, first[-1].hash).some(1, actor="zombie"))
        await slow.append("s", 6, writer.some(1))
        assert await check_acknowledged(quick, "s", 7) == 7


async def test_a_slot_in_the_making_is_not_seen_in_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between asking how far everything goes and reading on, another writer has got halfway with two events."""
    writer = Writing("s")
    async with open_journal(url) as journal, open_journal(url) as other:
        log, theirs = log_of(journal), log_of(other)
        settle = log.settle
        asks: dict[str, Callable[[int], Any]] = {
            "tail": lambda after: journal.tail(after),
            "by_tag": lambda after: journal.by_tag("all-events", after),
            "read": lambda after: all_of(journal, "s", after=after),
        }
        for name, ask in asks.items():
            after, two = writer.sequence, writer.some(2)

            def and_then(after: int = after, two: Any = two) -> int:
                end = settle()
                rows = cassandra_log._rows(after, two)
                theirs._claim(rows)
                half = [(rows[1], two[1])]  # the second event, not the first
                indexed = [(batch, None) for batch in theirs._index(half).values()]
                chunk = (theirs.statements.chunk, ("tag/all-events", 0, 1))
                cassandra_log.all_at_once(
                    theirs.session, [*theirs._events(half), *theirs._heads_of(rows[1:]), *indexed, chunk]
                )
                return end

            with monkeypatch.context() as patched:
                patched.setattr(log, "settle", and_then)
                assert await ask(after) == [], name
            assert len(await ask(after)) == 2, name


async def test_an_unknown_outcome_is_found_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator timed out: the slot is in the log all the same. It is not written again, elsewhere."""
    records = Writing("s").some(3)
    async with open_journal(url) as journal:
        log = log_of(journal)
        claim = log._claim

        def unknown(rows: Any) -> bool:
            monkeypatch.setattr(log, "_claim", claim)
            assert claim(rows)
            return False

        monkeypatch.setattr(log, "_claim", unknown)
        await journal.append("s", 0, records)
        assert [entry.record for entry in await journal.tail()] == list(records)


async def test_writers_of_one_stream_in_one_process(url: str) -> None:
    """Appends to one stream that are asked for at once are decided one after the other."""
    writer = Writing("s")
    parts = [writer.some(2) for _ in range(5)]
    async with open_journal(url) as journal:
        outcomes = await asyncio.gather(
            *(journal.append("s", 2 * n, part) for n, part in enumerate(parts)),
            journal.append("s", 4, Writing("s", 4, parts[1][-1].hash).some(2, actor="rival")),
            return_exceptions=True,
        )
        assert outcomes[:5] == [None] * 5
        assert isinstance(outcomes[5], Conflict)
        assert await check_acknowledged(journal, "s", 10) == 10


async def test_appends_over_the_borders_of_partitions(url: str) -> None:
    writer, other = Writing("s"), Writing("other")
    records: list[Any] = []
    async with open_journal(url) as journal:
        for count in (998, 4, 1, 2500, 3):
            part = writer.some(count)
            await journal.append("s", len(records), part)
            records.extend(part)
            await journal.append("other", other.sequence, other.some(1))
        assert await all_of(journal, "s") == records
        assert await all_of(journal, "s", after=995, upto=1005) == records[995:1005]
        assert await journal.last("s") == records[-1]
        everything = await journal.tail(0, 10_000)
        assert [entry.position for entry in everything] == list(range(1, len(records) + 6))
        for position in (998, 999, 1000, 1001, 1002, 1003, 1004, 1005, 2000, 3001, 3505, 3510):
            assert await journal.tail(position, 3) == everything[position : position + 3]
            page = await journal.query(after=f"p{position}", limit=3, newest_first=True)
            assert list(page.entries) == everything[max(position - 4, 0) : position - 1][::-1]
        assert len(await journal.by_tag("all-events", 990, 5000)) == len(everything) - 990
        assert await audit_verify_all(journal) == []


async def test_queries_answer_as_memory_does(url: str) -> None:
    """Random events over some days, every condition and pair of conditions, both directions, page by page."""
    chance = random.Random(20261123)
    streams = {name: Writing(name) for name in ("a", "b", "c")}
    async with MemoryJournal() as memory, open_journal(url) as journal:
        for _ in range(40):
            writer = chance.choice(list(streams.values()))
            before, last = writer.sequence, writer.hash
            event = chance.choice([PipelinePaused(reason=""), PipelineReset(from_start=True, generation=2)])
            writer.next(*[event] * chance.randint(1, 3))
            count, writer.sequence = writer.sequence - before, before
            records = []
            for sealed in Writing(writer.stream, before, last).next(*[event] * count, actor=chance.choice("xyz")):
                moved = {"time": sealed.time + timedelta(hours=chance.randint(0, 120)), "previous_hash": last}
                records.append(hashed(_replaced(sealed, **moved)))
                last = records[-1].hash
            writer.sequence, writer.hash = before + count, last
            for one in (memory, journal):
                await one.append(writer.stream, before, records)
        start = kit.START
        values: dict[str, list[Any]] = {
            "stream": ["a", "none"],
            "type": ["PipelinePaused"],
            "tag": ["all-events", "failure-events"],
            "actor": ["x"],
            "since": [start + timedelta(hours=30)],
            "until": [start + timedelta(hours=80)],
        }
        single = [{name: value} for name, some in values.items() for value in some]
        conditions = [{}, *single, *({**one, **two} for one in single for two in single if one.keys() != two.keys())]
        for condition in chance.sample(conditions, 30):
            for newest_first in (False, True):
                after: str | None = None
                for _ in range(4):
                    asked = {**condition, "after": after, "limit": 7, "newest_first": newest_first}
                    wanted = await memory.query(**asked)
                    assert await journal.query(**asked) == wanted, asked
                    if (after := wanted.cursor) is None:
                        break


def _replaced(record: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(record, **changes)


async def test_an_edit_is_found_wherever_it_is(url: str, cql: Callable[[str], Any]) -> None:
    records = Writing("s").some(5)
    async with open_journal(url) as journal:
        await journal.append("s", 0, records)
        assert await audit_verify_all(journal) == []
        [(text,)] = cql("SELECT record FROM journal_streams WHERE stream = 's' AND bucket = 0 AND sequence = 3")
        edited = text.replace('"actor":"kit"', '"actor":"kid"')
        assert edited != text
        for table, key in (("streams", "stream = 's' AND bucket = 0 AND sequence"), ("log", "bucket = 0 AND position")):
            cql(f"UPDATE journal_{table} SET record = '{edited}' WHERE {key} = 3")
            found = await audit_verify_all(journal)
            assert [(one.stream or "s", one.sequence) for one in found] == [("s", 3)], table
            cql(f"UPDATE journal_{table} SET record = '{text}' WHERE {key} = 3")
            assert await audit_verify_all(journal) == []
        cql("DELETE FROM journal_log WHERE bucket = 0 AND position = 4")
        assert await audit_verify_all(journal) != []
        with pytest.raises(Corrupt):
            await journal.tail(3)


async def test_a_cut_off_end_is_found(url: str, cql: Callable[[str], Any]) -> None:
    async with open_journal(url) as journal:
        await journal.append("s", 0, Writing("s").some(5))
        cql("DELETE FROM journal_streams WHERE stream = 's' AND bucket = 0 AND sequence = 5")
        broken = await audit_verify(journal, "s")
        assert broken is not None
        assert broken.sequence == 5


async def test_an_append_too_large_for_the_store_is_refused_and_nothing_else(url: str) -> None:
    big = Writing("big").next(PipelinePaused(reason="x" * (5 << 20)))
    small = Writing("small").some(1)
    async with open_journal(url) as journal:
        outcomes = await asyncio.gather(
            journal.append("big", 0, big), journal.append("small", 0, small), return_exceptions=True
        )
        assert isinstance(outcomes[0], Rejected)
        assert outcomes[0].code == "TOO_LARGE"
        assert outcomes[1] is None
        assert await journal.end() == 1


async def test_no_server_is_retryable() -> None:
    with pytest.raises(Retryable):
        async with open_journal("cassandra://127.0.0.1:1/nobody"):
            pass
