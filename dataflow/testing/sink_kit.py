"""What every sink must keep: each row and each dead letter once and in order, whatever dies and whoever wakes late.

The kit plays pipelines of a few rows against the sink. Hypothesis chooses lanes, sizes of chunks and epochs, and a
moment for every attempt at which it is disturbed; then the output is compared with the input. Positions count rows, so
an attempt that starts from the wrong receipt writes the wrong rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow.domain.flow import Counters, Delivery, Lane, Position, Receipt
from dataflow.errors import Fenced
from dataflow.seams import REJECTS, Auditable, LaneWriter, Sink

MOMENTS = (
    "",  # undisturbed
    "after write",  # the attempt ends with rows written and not committed
    "before commit",  # ... with the whole epoch written
    "during commit",  # ... cancelled somewhere inside the commit
    "after commit",  # ... committed, and nobody heard of it
    "overtaken",  # another attempt commits the same epoch first
    "zombie",  # the attempt stalls before its commit and wakes when others have gone on
)

SCHEMA = pl.Schema({"lane": pl.Int64, "n": pl.Int64, "text": pl.String})
"""Columns of the rows the kit writes; `text` is `<lane>/<n>`, for sinks that hold one column only."""

Rows = Sequence[Mapping[str, Any]]


class _Killed(BaseException):
    """The end of an attempt, as far as a coroutine can feel it."""


@dataclass(frozen=True, slots=True)
class _Disturbance:
    moment: str = ""
    epochs: int = 1  # how many the attempt commits before that
    patience: int = 0  # turns of the event loop before a cancellation; commits that a zombie sleeps through


@dataclass(slots=True)
class _Zombie:
    writer: LaneWriter
    receipt: Receipt
    sleeps: int


@dataclass(slots=True)
class _LaneModel:
    """What the kit knows of a lane: the receipts its sink may hold."""

    lane: Lane
    total: int
    possible: list[Receipt | None] = field(default_factory=lambda: [None])
    zombies: list[_Zombie] = field(default_factory=list)
    ended: bool = False


def exercise_sink(
    make: Callable[[], Sink],
    read_rows: Callable[[Sink], Rows],
    read_dead: Callable[[Sink], Rows],
    *,
    moments: Sequence[str] = MOMENTS,
    examples: int = 100,
    visible_at_once: bool = False,
) -> None:
    """Exercise sinks that `make` returns, each one on an empty place of its own.

    `read_rows` returns what a reader finds there, each row a mapping with `lane` and `n`, rows of one lane in order;
    `read_dead` the dead letters, each with the columns of `REJECTS`. Both are called when the run is complete and,
    with `visible_at_once`, after every attempt: what is committed must then be there, and nothing else.
    Of sinks that are not exactly once, repeated rows and dead letters are taken for one where they are equal.
    """
    most = make().max_lanes or 3
    disturbances = st.builds(
        _Disturbance, st.sampled_from(list(moments)), st.integers(0, 2), st.sampled_from([0, 1, 2, 3, 5, 8])
    )

    @settings(max_examples=examples, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(
        totals=st.lists(st.integers(0, 25), min_size=1, max_size=min(most, 3)),
        chunk=st.integers(1, 4),
        step=st.integers(1, 7),
        script=st.lists(disturbances, max_size=10),
    )
    def play(totals: list[int], chunk: int, step: int, script: list[_Disturbance]) -> None:
        sink = make()
        game = _Play(sink, totals, chunk, step, read_rows, read_dead, visible_at_once)
        asyncio.run(game.run(script))

    play()


def _dead(n: int) -> bool:
    return n % 5 == 0


def _filtered(n: int) -> bool:
    return n % 7 == 3 and not _dead(n)


def _kept(n: int) -> bool:
    return not _dead(n) and not _filtered(n)


@dataclass(slots=True)
class _Play:
    sink: Sink
    totals: Sequence[int]
    chunk: int
    step: int
    read_rows: Callable[[Sink], Rows]
    read_dead: Callable[[Sink], Rows]
    visible_at_once: bool
    lanes: list[_LaneModel] = field(default_factory=list)

    async def run(self, script: Sequence[_Disturbance]) -> None:
        self.lanes = [
            _LaneModel(
                Lane(pipeline="kit", generation=1, sink="sink", number=number, splits=(f"split-{number}",)), total
            )
            for number, total in enumerate(self.totals)
        ]
        lanes = [model.lane for model in self.lanes]
        left = list(script)
        async with self.sink:
            await self.sink.prepare(SCHEMA, lanes)
            await self.sink.prepare(SCHEMA, lanes)  # repeatable
            while running := [model for model in self.lanes if not model.ended]:
                for model in running:
                    await self.attempt(model, left.pop(0) if left else _Disturbance(epochs=1000))
                    if self.visible_at_once:
                        self.check([_position(model.possible[-1]) for model in self.lanes], settled=False)
            early = [zombie for model in self.lanes for zombie in model.zombies if zombie.sleeps % 2]
            late = [zombie for model in self.lanes for zombie in model.zombies if not zombie.sleeps % 2]
            for zombie in early:
                await _wake(zombie)
            first = await self.sink.complete(lanes)
            for zombie in late:
                await _wake(zombie)
            again = await self.sink.complete(lanes)
            assert json.dumps(dict(first)) == json.dumps(dict(again)), "complete is not repeatable"
            self.check(self.totals, settled=True)
            await self.check_audit(lanes)

    async def check_audit(self, lanes: Sequence[Lane]) -> None:
        """A sink that can be counted finds what it was given, and nothing wrong with it."""
        if not isinstance(self.sink, Auditable):
            return
        audit = await self.sink.audit(lanes)
        assert not audit.faults, f"an audit of an untouched sink finds faults: {audit.faults}"
        assert not audit.unfinished, f"an audit of a completed sink finds work left: {audit.unfinished}"
        for model in self.lanes:
            held, last = audit.lanes[model.lane.name], model.possible[-1]
            counters = last.counters if last else Counters()
            assert held.receipt == last, f"{model.lane.name}: an audit finds {held.receipt}, committed was {last}"
            for name, count, wanted in (
                ("rows", held.rows, counters.written),
                ("dead letters", held.dead_letters, counters.dead_lettered),
                ("rows in commits", held.commits and sum(c.rows for c in held.commits), held.rows),
            ):
                assert count in (None, [], wanted), f"{model.lane.name}: an audit counts {count} {name}, not {wanted}"

    async def attempt(self, model: _LaneModel, plan: _Disturbance) -> None:
        """One attempt at a lane, disturbed as planned after `plan.epochs` commits."""
        writer = self.sink.open(model.lane, SCHEMA)
        if plan.moment == "zombie":
            await writer.__aenter__()
            last = await self.known(model, writer)
            if receipt := await self.fill(model, writer, last):
                model.zombies.append(_Zombie(writer, receipt, plan.patience))
            else:
                await writer.__aexit__(None, None, None)
                model.ended = True
            return
        expected = (_Killed, Fenced) if plan.moment == "overtaken" else (_Killed,)
        with contextlib.suppress(*expected):  # the next attempt goes on from the receipt it finds
            async with writer:
                last = await self.known(model, writer)
                for _ in range(plan.epochs):
                    last = await self.epoch(model, writer, last)
                    if last is None:
                        return
                    await self.wake_due(model)
                await self.disturb(model, writer, last, plan)

    async def epoch(self, model: _LaneModel, writer: LaneWriter, last: Receipt | None) -> Receipt | None:
        """Write and commit the next epoch; None where the lane has ended."""
        receipt = await self.fill(model, writer, last)
        if receipt is None:
            model.ended = True
            return None
        await writer.commit(receipt)
        model.possible = [receipt]
        return receipt

    async def disturb(self, model: _LaneModel, writer: LaneWriter, last: Receipt | None, plan: _Disturbance) -> None:
        limit = 1 if plan.moment == "after write" else None
        receipt = await self.fill(model, writer, last, limit)
        if receipt is None:
            model.ended = True
            return
        if plan.moment in ("after write", "before commit"):
            raise _Killed
        if plan.moment == "overtaken":
            async with self.sink.open(model.lane, SCHEMA) as other:
                await self.epoch(model, other, await self.known(model, other))
        elif plan.moment:
            model.possible = [last, receipt]
        if plan.moment == "during commit":
            await _cut_off(writer.commit(receipt), plan.patience)
            raise _Killed
        await writer.commit(receipt)
        model.possible = [receipt]
        if plan.moment == "after commit":
            raise _Killed

    async def known(self, model: _LaneModel, writer: LaneWriter) -> Receipt | None:
        """The sink's last receipt, which is one of those it may hold, with all it was given."""
        last = await writer.last_receipt()
        assert last in model.possible, f"{model.lane.name}: the sink holds {last}, not one of {model.possible}"
        model.possible = [last]
        return last

    async def fill(
        self, model: _LaneModel, writer: LaneWriter, last: Receipt | None, chunks: int | None = None
    ) -> Receipt | None:
        """Write the rows of the next epoch, or its first chunks; returns the receipt it is to be committed with."""
        begin = _position(last)
        end = min(begin + self.step, model.total)
        if begin == end:
            return None
        for count, at in enumerate(range(begin, end, self.chunk)):
            if count == chunks:
                break
            numbers = range(at, min(at + self.chunk, end))
            dead = [n for n in numbers if _dead(n)]
            if dead:
                await writer.reject(_letters(model.lane.number, dead))
            kept = [n for n in numbers if _kept(n)]
            if kept:
                await writer.write(_rows(model.lane.number, kept))
        return _receipt(model.lane, (last.epoch if last else 0) + 1, end)

    async def wake_due(self, model: _LaneModel) -> None:
        due = [zombie for zombie in model.zombies if zombie.sleeps == 0]
        model.zombies = [zombie for zombie in model.zombies if zombie.sleeps > 0]
        for zombie in model.zombies:
            zombie.sleeps -= 1
        for zombie in due:
            await _wake(zombie)

    def check(self, upto: Sequence[int], *, settled: bool) -> None:
        """The output holds the rows and dead letters before these positions, and no others."""
        rows = [(row["lane"], row["n"]) for row in self.read_rows(self.sink)]
        dead = [json.loads(letter["record"]) for letter in self.read_dead(self.sink)]
        letters = [(letter["lane"], letter["n"]) for letter in dead]
        if self.sink.delivery is not Delivery.EXACTLY_ONCE:
            rows, letters = list(dict.fromkeys(rows)), list(dict.fromkeys(letters))
        for model, end in zip(self.lanes, upto, strict=True):
            number = model.lane.number
            ends = {end} if settled else {_position(receipt) for receipt in model.possible}
            for name, found, wanted in (("rows", rows, _kept), ("dead letters", letters, _dead)):
                mine = [n for lane, n in found if lane == number]
                assert mine in [[n for n in range(e) if wanted(n)] for e in ends], (
                    f"{model.lane.name}: {name} up to {sorted(ends)} are {mine}"
                )
        known = {model.lane.number for model in self.lanes}
        assert {lane for lane, _ in [*rows, *letters]} <= known, "rows of lanes that do not exist"


def _position(receipt: Receipt | None) -> int:
    return int(next(iter(receipt.positions.values()))) if receipt else 0


def _receipt(lane: Lane, epoch: int, end: int) -> Receipt:
    counters = Counters(
        read=end,
        written=sum(map(_kept, range(end))),
        filtered=sum(map(_filtered, range(end))),
        failed=sum(map(_dead, range(end))),
        dead_lettered=sum(map(_dead, range(end))),
        bytes_read=10 * end,
    )
    return Receipt(
        pipeline=lane.pipeline,
        generation=lane.generation,
        lane=lane.name,
        epoch=epoch,
        positions={lane.splits[0]: Position(str(end))},
        counters=counters,
        state=f"state-{epoch}",
    )


def _rows(lane: int, numbers: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {"lane": [lane] * len(numbers), "n": numbers, "text": [f"{lane}/{n}" for n in numbers]}, schema=SCHEMA
    )


def _letters(lane: int, numbers: Sequence[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "stage": ["transforms[0]"] * len(numbers),
            "code": ["BAD_RECORD"] * len(numbers),
            "message": ["a multiple of five"] * len(numbers),
            "where": [f"kit:{n}" for n in numbers],
            "record": [json.dumps({"lane": lane, "n": n}) for n in numbers],
        },
        schema=REJECTS,
    )


async def _wake(zombie: _Zombie) -> None:
    """It goes on as if nothing had happened; a sink without fencing shows a row that never was."""
    with contextlib.suppress(Fenced):
        await zombie.writer.write(_rows(int(zombie.receipt.lane.rpartition("-")[2]), [-1]))
        await zombie.writer.commit(zombie.receipt)
    with contextlib.suppress(Fenced):
        await zombie.writer.__aexit__(None, None, None)


async def _cut_off(commit: Any, turns: int) -> None:
    """Cancel a commit after so many turns of the event loop, unless it is through by then."""
    task = asyncio.ensure_future(commit)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
