"""The kernel: move one lane, epoch by epoch. Knows no Temporal.

Three tasks overlap: one reads, one transforms (in a thread), one writes and commits. Between them are queues bounded
in bytes (Invariant 6), so a slow sink stops the source. An epoch ends after `interval`, `max_rows` or `max_bytes`,
whichever is first; a segment ends when its time is up, it has committed `max_epochs`, it is told to stop, or the input
ends. Rows already read when a segment ends are still committed: nothing is thrown away but the open epoch of a failure.
A source that has been read to its end is asked again when `pace` says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import polars as pl

from dataflow.chain import Chain, Passed
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.domain.orders import LedgerEntry, SegmentReport
from dataflow.errors import TimedOut
from dataflow.pace import Pace
from dataflow.queues import ByteQueue, Closed
from dataflow.seams import Chunk, Lagging, LaneWriter, Source

_PROMPT = 0.05  # seconds; a source that takes longer had nothing when it was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Durations in seconds. `buffer_bytes` bounds the rows between reader, transforms and writer, each way."""

    interval: float = 1.0
    max_rows: int = 10_000_000
    max_bytes: int = 256 * 2**20
    segment: float = 10.0
    max_epochs: int = 5_000
    batch_timeout: float = 300.0
    write_rows: int | None = None
    buffer_bytes: int = 32 * 2**20


@dataclass(slots=True)
class Progress:
    """What an observer may look at while a segment runs: committed and open work alike. Progress, never a checkpoint.

    `stage` is what the writing side does now, since the moment `since`; `part` what it waits for in that (the source
    while there is nothing to write). `culprit` is the part (source, transform, sink) that an error came from.
    """

    epoch: int = 0
    counters: Counters = field(default_factory=Counters)
    positions: Mapping[str, Position] = field(default_factory=dict)
    stage: str = "opening"
    culprit: str = "sink"
    since: float = field(default_factory=time.monotonic)
    shaping: bool = False

    def enter(self, stage: str) -> None:
        if stage != self.stage:
            self.stage, self.since = stage, time.monotonic()

    @property
    def part(self) -> str:
        if self.stage != "waiting":
            return "sink"
        return "transform" if self.shaping else "source"


@dataclass(frozen=True, slots=True)
class _Read:
    """A chunk on its way. Since the moment `since` its rows may have waited in the source; `asked` is when the first of
    all those were asked for that were there together."""

    split: str
    chunk: Chunk
    since: float
    asked: float


@dataclass(slots=True)
class _Epoch:
    started: float
    counters: Counters
    positions: dict[str, Position]
    rows: int = 0
    bytes: int = 0
    read: int = 0
    moved: bool = False


class Mover:
    """One segment over one lane. `run` may be called once; `stop` ends the segment at the next epoch boundary."""

    def __init__(
        self,
        lane: Lane,
        source: Source,
        pin: str,
        chain: Chain,
        limits: Limits,
        starts: Mapping[str, Position] | None = None,
    ) -> None:
        """`starts`: where splits begin that the lane's receipt does not know."""
        self.lane = lane
        self._source = source
        self._pin = pin
        self._chain = chain
        self._limits = limits
        self._starts = dict(starts or {})
        self._stop = asyncio.Event()
        self._interval = min(limits.interval, limits.batch_timeout / 2)  # the other half is for the commit
        self._began = time.monotonic()
        self._deadline = self._began + limits.segment
        self._receipt = Receipt(
            pipeline=lane.pipeline, generation=lane.generation, lane=lane.name, epoch=0, positions={}
        )
        self._first = 0
        self._since = self._began
        self._pace = Pace(self._interval, self._deadline)
        self._under_way = 0  # chunks that were read and are not written yet
        self._ended = False
        self._ledger: list[LedgerEntry] = []
        self.progress = Progress()

    def stop(self) -> None:
        """Read no more; commit what was read; return."""
        self._stop.set()
        self._pace.end()

    def lag(self) -> Mapping[str, int]:
        """How far the committed positions are behind the end, where the source knows that."""
        return self._source.lag(self.progress.positions) if isinstance(self._source, Lagging) else {}

    @property
    def report(self) -> SegmentReport:
        """What this segment has committed so far; complete when `run` has returned or raised."""
        return SegmentReport(
            lane=self.lane.name,
            first_epoch=self._first + 1,
            receipt=self._receipt,
            ended=self._ended,
            ledger=tuple(self._ledger),
            milliseconds=round((time.monotonic() - self._began) * 1000),
        )

    async def run(self, writer: LaneWriter) -> SegmentReport:
        """Move rows from the lane's last receipt on. `writer` is open. Raises what source, transforms and sink raise;
        whatever was committed before is in `report`."""
        self._receipt = await writer.last_receipt() or self._receipt
        self._first = self._receipt.epoch
        if self._first:  # the segment before has ended with a commit
            self._since = waiting_since(self._began - self._interval, time.monotonic(), self._interval)
        self.progress.epoch = self._receipt.epoch
        self.progress.counters, self.progress.positions = self._receipt.counters, self._receipt.positions
        chunks: ByteQueue[_Read] = ByteQueue(self._limits.buffer_bytes)
        batches: ByteQueue[tuple[_Read, Passed]] = ByteQueue(self._limits.buffer_bytes)
        reader = asyncio.create_task(self._read(dict(self._receipt.positions), chunks))
        shaper = asyncio.create_task(self._transform(chunks, batches))
        try:
            if await self._write(writer, batches):
                await shaper  # first: when it failed, the reader may wait for room for ever
                self._ended = await reader
        finally:
            for task in (reader, shaper):
                task.cancel()
            await asyncio.gather(reader, shaper, return_exceptions=True)
        return self.report

    async def _read(self, positions: dict[str, Position], out: ByteQueue[_Read]) -> bool:
        """Fill the queue until the input ends (True), or the time is up or a stop is asked for (False)."""
        columns = self._chain.columns()

        async def pump(split: str) -> bool:
            reading = self._source.read(
                split, positions.get(split, self._starts.get(split)), pin=self._pin, columns=columns
            )
            since, asked, burst = self._since, math.inf, 0.0
            async with aclosing(reading) as found, aclosing(_until(found, self._stop, self._deadline)) as timely:
                async for chunk in timely:
                    came = time.monotonic()
                    if asked == math.inf:
                        burst = came  # to open the source took its time, and is over
                    elif came - asked > _PROMPT:  # the source has waited for them: they are new
                        since = burst = came
                    rejected = chunk.rejected.estimated_size() if chunk.rejected is not None else 0
                    self._under_way += 1
                    await out.put(_Read(split, chunk, since, burst), int(chunk.rows.estimated_size() + rejected))
                    since = asked = time.monotonic()
                    if chunk.caught_up and not self._source.bounded:
                        if not await self._pace.pause():
                            return False
                        asked = burst = time.monotonic()
            return not self._stop.is_set() and time.monotonic() < self._deadline

        try:
            if self._source.bounded:
                for split in self.lane.splits:
                    if not await pump(split):
                        return False
                return True
            async with asyncio.TaskGroup() as group:
                pumps = [group.create_task(pump(split)) for split in self.lane.splits]
            return all(task.result() for task in pumps)
        except BaseExceptionGroup as several:
            self.progress.culprit = "source"
            raise several.exceptions[0] from None
        except Exception:
            self.progress.culprit = "source"
            raise
        finally:
            out.close()

    async def _transform(self, chunks: ByteQueue[_Read], out: ByteQueue[tuple[_Read, Passed]]) -> None:
        try:
            async for read in chunks:
                chunk = read.chunk
                self.progress.shaping = True
                passed = await asyncio.to_thread(
                    self._chain.apply, chunk.rows, chunk.rejected, bytes_read=chunk.bytes_read
                )
                self.progress.shaping = False
                bare = replace(chunk, rows=chunk.rows.clear(), rejected=None)  # let go of the rows that were read
                await out.put((replace(read, chunk=bare), passed), int(passed.rows.estimated_size()))
        except Exception:
            self.progress.culprit = "transform"
            raise
        finally:
            out.close()

    async def _write(self, writer: LaneWriter, batches: ByteQueue[tuple[_Read, Passed]]) -> bool:
        """Commit epoch after epoch. True: everything that was read is committed; False: the segment ended before."""
        limits = self._limits
        grace = self._deadline + 5.0  # after the deadline only what was read is finished
        while True:
            receipt = self._receipt
            epoch = _Epoch(time.monotonic(), receipt.counters, dict(receipt.positions))
            self.progress.enter("waiting")
            more = await self._fill(writer, epoch, batches)
            if epoch.moved:
                self.progress.enter("committing")
                after = replace(receipt, epoch=receipt.epoch + 1, positions=epoch.positions, counters=epoch.counters)
                begun = time.monotonic()
                async with _within(epoch.started, limits.batch_timeout):
                    # Invariant 1: rows, dead letters and receipt become visible together.
                    await writer.commit(after)
                note(self._ledger, receipt, after)
                self._receipt = after
                self.progress.epoch, self.progress.positions = after.epoch, after.positions
                self._since = waiting_since(begun, time.monotonic(), self._interval)
                self._pace.due(self._since + self._interval)
            if not more:
                return True
            if self._receipt.epoch - self._first >= limits.max_epochs:
                return False
            if self._stop.is_set() or time.monotonic() > grace:
                return False

    async def _fill(self, writer: LaneWriter, epoch: _Epoch, batches: ByteQueue[tuple[_Read, Passed]]) -> bool:
        """Write batches into the open epoch until it is full, a stop is asked for or nothing more can come in time
        (True), or no more come at all (False)."""
        limits = self._limits
        while epoch.read < limits.max_rows and epoch.bytes < limits.max_bytes:
            wait = epoch.started + self._interval - time.monotonic()
            if epoch.moved and (wait <= 0 or self._stop.is_set()):
                return True
            try:
                read, passed = await batches.get(timeout=wait if epoch.moved else None)
            except TimeoutError:
                return True
            except Closed:
                return False
            if not epoch.moved:
                epoch.started = max(self._since, read.since)
                self._pace.due(epoch.started + self._interval)
            self.progress.enter("writing")
            async with _within(epoch.started, limits.batch_timeout):
                for part in _parts(passed.rows, limits.write_rows):
                    await writer.write(part)
                for dead in passed.dead:
                    await writer.reject(dead)
            epoch.moved = True
            epoch.read += passed.counters.read
            epoch.bytes += int(passed.rows.estimated_size())
            epoch.counters += passed.counters
            epoch.positions[read.split] = read.chunk.resume
            if read.chunk.caught_up:
                self._pace.took(time.monotonic() - read.asked)
            self.progress.counters = epoch.counters
            self._under_way -= 1
            if not self._under_way and self._pace.rests(len(self.lane.splits)):
                return True
        return True


async def move(
    lane: Lane, source: Source, pin: str, chain: Chain, writer: LaneWriter, limits: Limits | None = None
) -> SegmentReport:
    """One whole segment, without anybody watching: what tests and tools call."""
    return await Mover(lane, source, pin, chain, limits or Limits()).run(writer)


def waiting_since(begun: float, ended: float, interval: float) -> float:
    """When the epoch began whose first rows came while the one before was committed, from `begun` to `ended`: with
    that commit, so that epochs keep their interval, but half of it is left at least, however long commits take."""
    return max(begun, ended - interval / 2)


def note(ledger: list[LedgerEntry], before: Receipt, after: Receipt) -> None:
    """Add an epoch to the compact ledger, which keeps at most 64 entries: then neighbours are merged pair by pair."""
    gain = after.counters - before.counters
    ledger.append(LedgerEntry(after.epoch, after.epoch, gain.read, gain.written, dict(after.positions)))
    if len(ledger) > 64:
        ledger[:] = [
            LedgerEntry(a.first, b.last, a.read + b.read, a.written + b.written, b.positions)
            for a, b in zip(ledger[0:64:2], ledger[1:64:2], strict=True)
        ] + ledger[64:]


def _parts(rows: pl.DataFrame, most: int | None) -> Iterator[pl.DataFrame]:
    if not rows.height:
        return
    if most is None or rows.height <= most:
        yield rows
    else:
        yield from rows.iter_slices(most)


async def _until(chunks: AsyncIterator[Chunk], stop: asyncio.Event, deadline: float) -> AsyncGenerator[Chunk, None]:
    """The chunks that arrive before the stop or the deadline. One that is under way then may still come within a
    moment; a source that waits for input is not waited for."""
    stopping = asyncio.create_task(stop.wait())
    coming: asyncio.Future[Chunk | None] | None = None
    try:
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            coming = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait({coming, stopping}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await asyncio.wait({coming}, timeout=0.5)
            if not coming.done() or (chunk := coming.result()) is None:
                return
            yield chunk
    finally:
        stopping.cancel()
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})


@asynccontextmanager
async def _within(started: float, limit: float) -> AsyncIterator[None]:
    """What is done inside must be over `limit` seconds after the epoch `started`."""
    scope = asyncio.timeout(max(0.0, started + limit - time.monotonic()))
    try:
        async with scope:
            yield
    except TimeoutError as late:
        if not scope.expired():
            raise
        raise TimedOut(
            f"a batch was not committed within {limit:g} s",
            code="BATCH_TIMEOUT",
            hint="look at the sink, or raise timeouts.batch",
        ) from late
