"""The inbox: admitted once, in order, for ever; nothing that was not admitted is ever read."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataflow.domain.orders import Admission
from dataflow.errors import Conflict, InvalidSpec, Rejected
from dataflow.inbox import MAX_BYTES, Admitted, Batch, Inbox
from dataflow.inbox.store import STAGED_SECONDS, lines_of


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(tmp_path: Path, clock: Clock) -> Iterator[Inbox]:
    made = Inbox(f"sqlite:///{tmp_path / 'inbox.db'}", clock=clock)
    yield made
    made.close()


async def staged_one(inbox: Inbox, pipeline: str, batch: Batch) -> Admitted | str:
    [found] = await inbox.stage(pipeline, [batch])
    if isinstance(found, Conflict):
        raise found
    return found


async def admitted_one(inbox: Inbox, pipeline: str, batch_id: str, token: str) -> Admission:
    [found] = await inbox.admit(pipeline, [(batch_id, token)])
    return found


def batch(name: str, first: int = 0, count: int = 3) -> Batch:
    return Batch.of(name, [{"n": n} for n in range(first, first + count)])


async def pushed(inbox: Inbox, name: str, first: int = 0, count: int = 3, pipeline: str = "orders") -> Admitted:
    token = await staged_one(inbox, pipeline, batch(name, first, count))
    assert isinstance(token, str)
    assert await admitted_one(inbox, pipeline, name, token) is Admission.NEW
    return (await inbox.find(pipeline, [name]))[name]


async def everything(inbox: Inbox, pipeline: str = "orders", offset: int = 0) -> list[bytes]:
    lines = []
    while blocks := await inbox.read(pipeline, offset):
        for block in blocks:
            assert block.first_offset == offset
            lines += lines_of(block)
            offset = block.next_offset
    return lines


async def test_only_admitted_records_are_read_and_their_offsets_have_no_gaps(inbox: Inbox) -> None:
    await staged_one(inbox, "orders", batch("never"))
    assert (await pushed(inbox, "b1")).first_offset == 0
    assert (await pushed(inbox, "b2", 3, 2)).first_offset == 3
    assert (await pushed(inbox, "b1", 100, pipeline="others")).first_offset == 0
    assert await everything(inbox) == [b'{"n":%d}' % n for n in range(5)]
    assert await inbox.extent("orders") == (0, 5)
    assert await inbox.extent("nobody") == (0, 0)


async def test_reading_begins_inside_of_a_batch_with_the_whole_batch(inbox: Inbox) -> None:
    await pushed(inbox, "b1", 0, 10)
    [block] = await inbox.read("orders", 7)
    assert (block.first_offset, block.next_offset, block.batch_id) == (0, 10, "b1")
    assert await inbox.read("orders", 10) == []


async def test_a_read_is_bounded_by_records_and_bytes(inbox: Inbox) -> None:
    for n in range(20):
        await pushed(inbox, f"b{n}", 10 * n, 10)
    assert len(await inbox.read("orders", 0, records=35)) == 3
    assert len(await inbox.read("orders", 0, records=1)) == 1
    assert len(await inbox.read("orders", 0, size=1)) == 1
    assert len(await inbox.read("orders", 5)) == 20


async def test_the_same_token_again_is_new_again_and_another_is_a_repeat(inbox: Inbox) -> None:
    first, second = [await staged_one(inbox, "orders", batch("b1")) for _ in range(2)]
    other = await staged_one(inbox, "orders", batch("b1", 50))
    assert first != second
    for _ in range(3):
        assert await admitted_one(inbox, "orders", "b1", str(first)) is Admission.NEW
    assert await admitted_one(inbox, "orders", "b1", str(second)) is Admission.REPEAT
    assert await admitted_one(inbox, "orders", "b1", str(second)) is Admission.REPEAT
    assert await admitted_one(inbox, "orders", "b1", str(other)) is Admission.CONFLICT
    assert await everything(inbox) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


async def test_a_batch_that_was_admitted_is_not_staged_again(inbox: Inbox) -> None:
    known = await pushed(inbox, "b1")
    assert await staged_one(inbox, "orders", batch("b1")) == known
    with pytest.raises(Conflict, match="pushed before with other records"):
        await staged_one(inbox, "orders", batch("b1", 7))


async def test_what_was_dropped_or_forgotten_cannot_be_admitted(inbox: Inbox, clock: Clock) -> None:
    dropped = str(await staged_one(inbox, "orders", batch("b1")))
    await inbox.drop([dropped])
    await inbox.drop([dropped])
    assert await admitted_one(inbox, "orders", "b1", dropped) is Admission.GONE
    forgotten = str(await staged_one(inbox, "orders", batch("b2")))
    clock.now += STAGED_SECONDS + 1
    await staged_one(inbox, "orders", batch("b3"))
    assert await admitted_one(inbox, "orders", "b2", forgotten) is Admission.GONE
    assert await everything(inbox) == []


async def test_dropping_does_not_touch_what_was_admitted(inbox: Inbox) -> None:
    admitted = await pushed(inbox, "b1")
    await inbox.drop([admitted.token])
    assert len(await everything(inbox)) == 3


async def test_settled_records_go_once_they_are_old_and_their_ids_never(inbox: Inbox, clock: Clock) -> None:
    for n in range(3):
        await pushed(inbox, f"b{n}", 3 * n)
    clock.now += 100
    assert await inbox.settle("orders", 5, keep=200) == 0
    assert await inbox.settle("orders", 5, keep=50) == 1, "the batch that holds record 5 stays whole"
    assert await inbox.extent("orders") == (3, 9)
    with pytest.raises(Rejected, match="begins at 3") as lost:
        await inbox.read("orders", 0)
    assert lost.value.code == "LOST_OFFSETS"
    assert isinstance(await staged_one(inbox, "orders", batch("b0")), Admitted)
    assert await inbox.settle("orders", 9, keep=0) == 2
    assert await inbox.extent("orders") == (9, 9)
    assert (await pushed(inbox, "b9", 9)).first_offset == 9


async def test_a_retired_pipeline_leaves_only_its_ids(inbox: Inbox) -> None:
    await pushed(inbox, "b1")
    await pushed(inbox, "b1", pipeline="others")
    for _ in range(2):
        await inbox.retire("orders")
    assert await inbox.extent("orders") == (3, 3)
    assert "b1" in await inbox.find("orders", ["b1"])
    assert len(await everything(inbox, "others")) == 3


async def test_offsets_by_time(inbox: Inbox, clock: Clock) -> None:
    begun = clock.now
    await pushed(inbox, "b0")
    clock.now += 60
    await pushed(inbox, "b1", 3)
    assert await inbox.at_time("orders", begun - 1) == 0
    assert await inbox.at_time("orders", begun + 1) == 3
    assert await inbox.at_time("orders", begun + 61) == 6


async def test_many_at_once_from_several_connections(tmp_path: Path) -> None:
    """Each id is pushed by three requests at the same time; some ids by one."""
    boxes = [Inbox(f"sqlite:///{tmp_path / 'inbox.db'}") for _ in range(3)]

    async def push(box: Inbox, n: int) -> Admission | None:
        token = await staged_one(box, "orders", batch(f"b{n}", 2 * n, 2))
        return await admitted_one(box, "orders", f"b{n}", token) if isinstance(token, str) else None

    try:
        found = await asyncio.gather(*(push(box, n) for n in range(30) for box in boxes))
        assert found.count(Admission.NEW) == 30
        assert set(found) <= {Admission.NEW, Admission.REPEAT, None}
        lines = await everything(boxes[0])
    finally:
        for box in boxes:
            box.close()
    assert sorted(lines) == sorted(b'{"n":%d}' % n for n in range(60))


def _push_for_ever(url: str, order: list[int]) -> None:
    async def run() -> None:
        box = Inbox(url)
        for n in order:
            token = await staged_one(box, "orders", batch(f"b{n}", 4 * n, 4))
            if isinstance(token, str):
                await admitted_one(box, "orders", f"b{n}", token)

    asyncio.run(run())


@pytest.mark.slow
async def test_a_killed_process_leaves_whole_batches_or_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'inbox.db'}"
    chance = random.Random(7)
    context = multiprocessing.get_context("spawn")
    for _ in range(6):
        order = list(range(60))
        chance.shuffle(order)
        workers = [context.Process(target=_push_for_ever, args=(url, order)) for _ in range(2)]
        for worker in workers:
            worker.start()
        before, end = _batches(tmp_path), time.monotonic() + 60
        goal = min(before + chance.randrange(1, 8), 60)
        while _batches(tmp_path) < goal and any(worker.is_alive() for worker in workers):
            assert time.monotonic() < end
        for worker in workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, signal.SIGKILL)
            worker.join()
    await asyncio.to_thread(_push_for_ever, url, list(range(60)))
    box = Inbox(url)
    lines = await everything(box)
    box.close()
    assert sorted(lines) == sorted(b'{"n":%d}' % n for n in range(240))


def _batches(folder: Path) -> int:
    if not (folder / "inbox.db").exists():
        return 0
    with sqlite3.connect(folder / "inbox.db") as db:
        try:
            return int(db.execute("select count(*) from inbox_batches").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_a_url_of_another_kind() -> None:
    with pytest.raises(Rejected, match="the inbox cannot be kept in 'mysql'"):
        Inbox("mysql://host/db")


class TestBatch:
    def test_the_digest_is_of_content_not_of_order_of_keys(self) -> None:
        one, two = Batch.of("b", [{"a": 1, "b": {"c": 2, "d": 3}}]), Batch.of("b", [{"b": {"d": 3, "c": 2}, "a": 1}])
        assert one.digest == two.digest and one.lines == b'{"a":1,"b":{"c":2,"d":3}}'
        assert Batch.of("b", [{"a": 2}]).digest != Batch.of("b", [{"a": 1}]).digest
        assert Batch.of("b", [{"a": 1}, {"b": 2}]).digest != Batch.of("b", [{"b": 2}, {"a": 1}]).digest

    @pytest.mark.parametrize(
        ("records", "path", "message"),
        [
            ([], "records", "holds 0 records, not 1 to 10000"),
            ([{}] * 10_001, "records", "holds 10001 records"),
            ("text", "records", "is not a list"),
            ({"a": 1}, "records", "is not a list"),
            ([{"a": 1}, "b"], "records[1]", "is text, not a JSON object"),
            ([None], "records[0]", "is null, not a JSON object"),
            ([{"a": float("nan")}], "records[0]", "not JSON compliant"),
            ([{"a": object()}], "records[0]", "not JSON serializable"),
            ([{1: 2}], "records[0]", "has the key 1, which is no text"),
            ([{"a": "\ud800"}], "records[0]", "is not Unicode"),
        ],
    )
    def test_what_is_no_batch(self, records: Any, path: str, message: str) -> None:
        with pytest.raises(InvalidSpec) as refused:
            Batch.of("b", records)
        [problem] = refused.value.problems
        assert (problem.path, message in problem.message) == (path, True), problem

    @pytest.mark.parametrize("count", [1, 10_000])
    def test_the_limits_are_inside(self, count: int) -> None:
        assert Batch.of("b" * 200, [{"a": 1}] * count).records == count

    @pytest.mark.parametrize("batch_id", ["", "  ", "b" * 201, "a\nb", None, 7])
    def test_ids(self, batch_id: Any) -> None:
        with pytest.raises(InvalidSpec) as refused:
            Batch.of(batch_id, [{}])
        assert [problem.path for problem in refused.value.problems] == ["batch_id"]

    @pytest.mark.parametrize("offset", [-1, 2**63, 1.5, True, "7"])
    def test_offsets(self, offset: Any) -> None:
        with pytest.raises(InvalidSpec) as refused:
            Batch.of("b", [{}], offset)
        assert [problem.path for problem in refused.value.problems] == ["source_offset"]

    def test_problems_come_together_but_not_by_the_thousand(self) -> None:
        with pytest.raises(InvalidSpec) as refused:
            Batch.of("b", [1] * 1000)  # type: ignore[list-item]
        assert len(refused.value.problems) == 20

    def test_size(self) -> None:
        text = "x" * (MAX_BYTES // 4)
        assert Batch.of("b", [{"a": text}] * 3).records == 3
        with pytest.raises(Rejected, match="8 MiB") as refused:
            Batch.of("b", [{"a": text}] * 4)
        assert refused.value.code == "TOO_LARGE"

    def test_whole_numbers_of_any_size_are_kept(self) -> None:
        assert Batch.of("b", [{"a": 2**80}]).lines == b'{"a":%d}' % 2**80


async def test_many_at_once_are_what_one_after_the_other_would_be(inbox: Inbox, tmp_path: Path) -> None:
    known = await pushed(inbox, "b0")
    again, clash, *tokens = await inbox.stage(
        "orders", [batch("b0"), batch("b0", 9), batch("b1", 3), batch("b2", 6), batch("b2", 6), batch("b2", 50)]
    )
    assert again == known and isinstance(clash, Conflict)
    one, two, same, other = map(str, tokens)
    wanted = [("b1", one), ("b2", two), ("b2", same), ("b2", other), ("b9", "nobody's")]
    expected = [Admission.NEW, Admission.NEW, Admission.REPEAT, Admission.CONFLICT, Admission.GONE]
    assert await inbox.admit("orders", wanted) == expected
    answers = [Admission.NEW, Admission.NEW, Admission.REPEAT, Admission.REPEAT, Admission.GONE]
    assert await inbox.admit("orders", wanted) == answers  # done again, as after a crash: what is new stays new
    assert await everything(inbox) == [b'{"n":%d}' % n for n in range(9)]
    found = await inbox.find("orders", ["b0", "b1", "b2", "b3"])
    assert {name: one.first_offset for name, one in found.items()} == {"b0": 0, "b1": 3, "b2": 6}
    with sqlite3.connect(tmp_path / "inbox.db") as db:
        assert db.execute("select count(*) from inbox_staged").fetchone() == (0,)


async def test_large_batches_are_staged_in_several_transactions(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflow.inbox.store._TRANSACTION", 100)
    found = await inbox.stage("orders", [batch(f"b{n}", 3 * n) for n in range(20)])
    wanted = [(f"b{n}", str(token)) for n, token in enumerate(found)]
    assert set(await inbox.admit("orders", wanted)) == {Admission.NEW}
    assert await everything(inbox) == [b'{"n":%d}' % n for n in range(60)]
