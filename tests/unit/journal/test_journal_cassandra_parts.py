"""What can be said of the journal in Cassandra without one: URLs, rows, migration files."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.domain.record import EventRecord, hashed
from dataflow.errors import Corrupt, Rejected
from dataflow.journal import open_journal
from dataflow.journal.cassandra import CassandraJournal
from dataflow.journal.cassandra_rows import LogRow, day_of, entry_of, facets, log_bucket, stream_bucket, time_text
from dataflow.journal.cassandra_session import CassandraUrl
from migrations import cql


def test_a_url_in_full() -> None:
    url = CassandraUrl.parse(
        "cassandra://me:p%40ss@h1,h2:9999/flow?replication=dc1:3,dc2:2&consistency=local_quorum&datacenter=dc1"
    )
    assert (url.hosts, url.port, url.keyspace) == (("h1", "h2"), 9999, "flow")
    assert (url.user, url.password, url.consistency, url.datacenter) == ("me", "p@ss", "LOCAL_QUORUM", "dc1")
    assert url.replication == "{'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 2}"
    assert url.where == "cassandra://me:***@h1,h2:9999/flow"


def test_a_url_in_short() -> None:
    url = CassandraUrl.parse("cassandra://localhost/flow")
    assert (url.hosts, url.port, url.consistency) == (("localhost",), 9042, "QUORUM")
    assert url.replication == "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    assert isinstance(open_journal("cassandra://localhost/flow"), CassandraJournal)


@pytest.mark.parametrize(
    "bad",
    [
        "cassandra:///flow",
        "cassandra://h",
        "cassandra://h/",
        "cassandra://h/a-b",
        "cassandra://h/a'b",
        "cassandra://h:x/flow",
        "cassandra://h:1,g:2/flow",
        "cassandra://h/flow?copies=3",
        "cassandra://h/flow?replication=0",
        "cassandra://h/flow?replication=dc1:x",
        "cassandra://h/flow?replication=a'b:1",
        "cassandra://h/flow?consistency=ANY",
        "cassandra://h/flow?x",
    ],
)
def test_a_url_that_is_none(bad: str) -> None:
    with pytest.raises(Rejected):
        open_journal(bad)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records = st.builds(
    lambda time, hours, actor, tags, payload: hashed(
        EventRecord(
            id="id",
            stream="s",
            sequence=7,
            type="T",
            schema_version=1,
            time=time.replace(tzinfo=timezone(timedelta(hours=hours))),
            actor=actor,
            tags=tuple(tags),
            payload=payload,
        )
    ),
    st.datetimes(min_value=datetime(1900, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-12, 12),
    texts,
    st.lists(texts, max_size=3),
    st.dictionaries(texts, json_values, max_size=4),
)


@given(records, st.integers(min_value=0))
def test_a_record_comes_back_and_no_byte_of_it_may_change(record: EventRecord, place: int) -> None:
    row = LogRow.of(0, 3, 3, record)
    assert row.entry.record == record
    assert row.entry.position == 3
    place %= len(row.text)
    edited = row.text[:place] + chr(ord(row.text[place]) ^ 1) + row.text[place + 1 :]
    with pytest.raises(Corrupt):
        entry_of(3, "s", 7, edited, row.hash)
    with pytest.raises(Corrupt):
        entry_of(3, "s", 8, row.text, row.hash)


@given(records, records)
def test_times_and_days_are_in_order_in_utc(one: EventRecord, other: EventRecord) -> None:
    assert (time_text(one.time) < time_text(other.time)) == (one.time < other.time)
    assert (day_of(one.time) < day_of(other.time)) == (
        one.time.astimezone(UTC).date() < other.time.astimezone(UTC).date()
    )


def test_a_record_is_indexed_once_by_each_thing() -> None:
    record = EventRecord(
        id="i",
        stream="s",
        sequence=1,
        type="T",
        schema_version=1,
        time=datetime(2026, 1, 31, 23, 59, tzinfo=timezone(timedelta(hours=-2))),
        actor="me",
        tags=("a", "b", "a"),
    )
    day = datetime(2026, 2, 1).toordinal()
    assert list(facets(record)) == ["tag/a", "tag/b", "type/T", "actor/me", f"day/{day}"]


def test_buckets_begin_at_one() -> None:
    assert [log_bucket(position) for position in (1, 1000, 1001, 2001)] == [0, 0, 1, 2]
    assert [stream_bucket(sequence) for sequence in (1, 1000, 1001)] == [0, 0, 1]


def test_every_revision_goes_up_and_down_and_may_be_repeated() -> None:
    assert [f"{number:04}" for number in range(1, len(cql.REVISIONS) + 1)] == cql.REVISIONS
    for revision in cql.REVISIONS:
        [up] = cql.SCRIPTS.glob(f"{revision}_*.up.cql")
        [down] = cql.SCRIPTS.glob(f"{revision}_*.down.cql")
        made = cql.statements(up.read_text())
        dropped = cql.statements(down.read_text())
        assert all("IF NOT EXISTS" in statement for statement in made)
        assert all("IF EXISTS" in statement for statement in dropped)
        names = re.compile(r"EXISTS (\w+)")
        assert {names.findall(one)[0] for one in made} == {names.findall(one)[0] for one in dropped}


def test_statements_of_a_file() -> None:
    assert cql.statements("-- a; b\nCREATE x; -- c\n\nDROP\n y;\n") == ["CREATE x", "DROP\n y"]
