"""The inbox in PostgreSQL: many processes' worth of connections, each id once, offsets without gaps."""

from __future__ import annotations

import asyncio

import psycopg

from dataflow.domain.orders import Admission
from dataflow.inbox import Admitted, Batch, Inbox
from dataflow.inbox.store import lines_of


def batch(number: int, other: int = 0) -> Batch:
    return Batch.of(f"b{number}", [{"n": 3 * number + n + other} for n in range(3)])


async def test_many_writers_and_a_reader_that_follows(postgres_url: str) -> None:
    boxes = [Inbox(postgres_url) for _ in range(4)]
    count = 60
    read: list[bytes] = []

    async def follow() -> None:
        at = 0
        while at < 3 * count:
            for block in await boxes[0].read("orders", at):
                assert block.first_offset == at, "a place before it appeared later"
                read.extend(lines_of(block))
                at = block.next_offset

    async def push(box: Inbox, number: int) -> Admission | Admitted:
        [token] = await box.stage("orders", [batch(number)])
        if isinstance(token, Admitted):
            return token
        [found] = await box.admit("orders", [(f"b{number}", str(token))])
        return found

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(push(box, number) for number in range(count) for box in boxes))
            await following
        assert found.count(Admission.NEW) == count
        assert sorted(read) == sorted(b'{"n":%d}' % n for n in range(3 * count))
        [token] = await boxes[1].stage("orders", [Batch.of("c", [{"n": 1}])])
        for _ in range(2):
            assert await boxes[2].admit("orders", [("c", str(token))]) == [Admission.NEW]
        assert await boxes[3].settle("orders", 3 * count, keep=-1) == count
        assert await boxes[0].extent("orders") == (3 * count, 3 * count + 1)
        [known] = await boxes[0].stage("orders", [batch(1)])
        assert isinstance(known, Admitted)
    finally:
        following.cancel()
        for box in boxes:
            box.close()


async def test_two_that_open_it_first_at_once(postgres_url: str) -> None:
    boxes = [Inbox(postgres_url) for _ in range(6)]
    assert await asyncio.gather(*(box.extent("orders") for box in boxes)) == [(0, 0)] * 6
    for box in boxes:
        box.close()


async def test_a_connection_that_is_cut_is_opened_again(postgres_url: str) -> None:
    box = Inbox(postgres_url)
    [token] = await box.stage("orders", [batch(0)])
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
    assert await box.admit("orders", [("b0", str(token))]) == [Admission.NEW]
    box.close()
