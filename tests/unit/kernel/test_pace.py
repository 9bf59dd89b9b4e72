"""A source that has been read to its end is asked again before an epoch ends, and not on and on."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import polars as pl
import pytest

from dataflow.chain import Chain
from dataflow.domain.flow import Lane, OnRecord, Position, Receipt
from dataflow.move import Limits, Mover, move
from dataflow.pace import MARGIN, MOST, Pace
from dataflow.seams import Chunk

LANE = Lane(pipeline="p", generation=1, sink="sink", number=0, splits=("a",))
SCHEMA = pl.Schema({"n": pl.Int64})


def made(interval: float = 1.0, deadline: float = 1000.0, *, lead: float = 0.006) -> Pace:
    """A pace that asks so long before an epoch ends."""
    found = Pace(interval, deadline)
    found.took(lead / MARGIN)
    return found


def test_the_last_look_is_so_early_that_its_rows_are_in_the_epoch() -> None:
    pace = made(0.1, lead=0.02)
    pace.due(10.1)
    assert pace.until(10.0) == pytest.approx(10.08)


def test_a_look_that_has_just_been_is_not_repeated_for_the_same_epoch() -> None:
    pace = made(0.1, lead=0.02)
    pace.due(10.1)
    assert pace.until(10.085) == pytest.approx(10.18)
    assert pace.until(10.11) == pytest.approx(10.18)
    assert pace.until(12.0) == pytest.approx(12.08)  # an epoch that nothing has come for goes on in the same beat


def test_a_long_epoch_is_looked_at_in_equal_parts() -> None:
    pace = made(2.0, lead=0.02)
    pace.due(12.0)
    assert pace.until(10.0) == pytest.approx(10.99)
    pace = made(60.0)
    pace.due(70.0)
    assert pace.until(10.0) - 10.0 == pytest.approx(MOST, rel=0.01)


def test_before_the_first_epoch_is_open_the_interval_is_all_that_is_known() -> None:
    assert made(0.1).until(10.0) == pytest.approx(10.1)


def test_a_machine_that_is_too_slow_is_asked_a_quarter_of_the_interval_before() -> None:
    pace = made(0.1, lead=3.0)
    pace.due(10.1)
    assert pace.until(10.0) == pytest.approx(10.075)


def test_one_slow_chunk_is_forgotten_bit_by_bit() -> None:
    pace = made(1.0, lead=0.2)
    pace.took(0.01 / MARGIN)
    pace.due(11.0)
    assert 10.3 < pace.until(10.5) < 10.85
    for _ in range(50):
        pace.took(0.01 / MARGIN)
    assert pace.until(10.5) == pytest.approx(10.99, abs=0.001)


def test_the_last_look_of_a_segment_is_before_its_end() -> None:
    pace = made(1.0, deadline=10.1)
    pace.due(10.9)
    assert pace.until(10.0) == pytest.approx(10.094)


async def test_an_epoch_may_end_when_no_split_is_asked_again_before() -> None:
    pace = made(10.0, deadline=float("inf"), lead=0.1)
    assert not pace.rests(0)  # no epoch is open
    pace.due(time.monotonic() + 0.3)
    early = asyncio.create_task(pace.pause())
    await asyncio.sleep(0)
    assert not pace.rests(1)  # it is asked in time
    await early
    pausing = [asyncio.create_task(pace.pause()) for _ in range(2)]
    await asyncio.sleep(0)
    assert pace.rests(2)
    assert not pace.rests(3)  # one is being asked
    pace.end()
    assert not pace.rests(2)
    await asyncio.gather(*pausing)


async def test_a_pause_follows_the_epoch_that_opens_meanwhile_and_ends_with_the_pace() -> None:
    pace = made(5.0, deadline=time.monotonic() + 1000)
    begun = time.monotonic()
    pausing = asyncio.create_task(pace.pause())
    await asyncio.sleep(0.01)
    pace.due(time.monotonic() + 0.05)
    await pausing
    assert time.monotonic() - begun < 0.2
    pausing = asyncio.create_task(pace.pause())
    await asyncio.sleep(0.01)
    assert not pausing.done()
    pace.end()
    await pausing
    await pace.pause()
    assert time.monotonic() - begun < 0.3


@dataclass
class Trickle:
    """A number each millisecond, or as many as are there at once; `backlog` numbers are there from the beginning."""

    backlog: int = 0
    bounded: bool = False
    begun: float = field(default_factory=time.monotonic)
    asked: int = 0

    async def __aenter__(self) -> Trickle:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def there(self) -> int:
        return self.backlog + int((time.monotonic() - self.begun) * 1000)

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        at = int(start or 0)
        while True:
            while at >= (there := self.there()):
                await asyncio.sleep(0.001)
            self.asked += 1
            upto = min(there, at + 1000)
            rows = pl.DataFrame({"n": range(at, upto)}, SCHEMA)
            at = upto
            yield Chunk(rows, Position(str(upto)), caught_up=upto == there)

    async def few(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """The backlog alone: the end of a bounded input."""
        yield Chunk(pl.DataFrame({"n": range(self.backlog)}, SCHEMA), Position(str(self.backlog)), caught_up=True)


@dataclass
class Commits:
    receipts: list[Receipt] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    source: Trickle = field(default_factory=Trickle)

    async def last_receipt(self) -> Receipt | None:
        return self.receipts[-1] if self.receipts else None

    async def write(self, rows: pl.DataFrame) -> None:
        self.rows += rows["n"].to_list()

    async def reject(self, rejected: pl.DataFrame) -> None: ...

    async def commit(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        self.times.append(time.monotonic())
        self.late.append(self.source.there() - len(self.rows))


def chain() -> Chain:
    found = Chain([], OnRecord.DEAD_LETTER)
    found.bind(SCHEMA)
    return found


async def test_what_trickles_in_is_a_chunk_an_epoch_and_committed_when_it_ends() -> None:
    source = Trickle()
    sink = Commits(source=source)
    report = await move(LANE, source, "{}", chain(), sink, Limits(interval=0.1, segment=2.0))
    assert sink.rows == list(range(len(sink.rows)))
    assert report.receipt.positions["a"] == str(len(sink.rows))
    assert 12 <= len(sink.receipts) <= 22  # some twenty epochs, on a machine that may be busy
    assert source.asked <= 2 * len(sink.receipts) + 2
    assert sorted(sink.late)[len(sink.late) // 2] < 50  # what has come just before is in the epoch


async def test_a_backlog_is_read_without_a_pause() -> None:
    source = Trickle(backlog=50_000)
    sink = Commits(source=source)
    mover = Mover(LANE, source, "{}", chain(), Limits(interval=60.0, segment=30.0))
    running = asyncio.create_task(mover.run(sink))
    begun = time.monotonic()
    while len(sink.rows) < 50_000:
        await asyncio.sleep(0.005)
    assert time.monotonic() - begun < 5.0
    mover.stop()
    begun = time.monotonic()
    await running
    assert time.monotonic() - begun < 0.2  # a pause does not hold it back


async def test_the_end_of_a_bounded_source_is_not_waited_for() -> None:
    source = Trickle(backlog=1000, bounded=True)
    source.read = source.few  # type: ignore[method-assign]
    sink = Commits(source=source)
    begun = time.monotonic()
    report = await move(LANE, source, "{}", chain(), sink, Limits(interval=60.0, segment=60.0))
    assert report.ended
    assert time.monotonic() - begun < 0.3


async def test_an_epoch_ends_with_its_last_rows_and_not_later() -> None:
    """A chunk that took long once is asked for early from then on; those that are quicker do not wait for the rest of
    that time, but end the epoch."""
    source = Trickle()
    sink = Commits(source=source)
    mover = Mover(LANE, source, "{}", chain(), Limits(interval=0.4, segment=4.0))
    mover._pace.took(1.0)
    await mover.run(sink)
    waited = sorted(b - a for a, b in itertools.pairwise(sink.times))
    assert waited[0] < 0.37
    assert sorted(sink.late)[len(sink.late) // 2] < 40
