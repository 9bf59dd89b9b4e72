"""The generator: the same seed gives the same records, however they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from dataflow.connectors.generator import source as generator
from dataflow.connectors.generator.records import RecordKind, Rows
from dataflow.connectors.generator.source import Bucket, GeneratorConfig, GeneratorSource, Split, position, splits
from dataflow.domain.flow import Position
from dataflow.errors import Corrupt
from dataflow.seams import Context

GOLDEN = Path(__file__).parent / "golden"


def source(parallelism: int = 1, **options: object) -> GeneratorSource:
    return GeneratorSource(GeneratorConfig.model_validate(options), Context(pipeline="p", parallelism=parallelism))


async def read_all(of: GeneratorSource, columns: list[str] | None = None) -> pl.DataFrame:
    found = await of.discover()
    chunks = [chunk.rows for split in found.splits async for chunk in of.read(split, None, pin="{}", columns=columns)]
    return pl.concat(chunks) if chunks else pl.DataFrame(schema=found.schema)


@pytest.mark.parametrize("kind", RecordKind)
async def test_records_of_a_seed_never_change(kind: RecordKind) -> None:
    rows = await read_all(source(kind=kind, rows=40, seed=7))
    stored = GOLDEN / f"generator-{kind}.jsonl"
    assert rows.write_ndjson() == stored.read_text(), f"{stored} is what every release must make from seed 7"


@pytest.mark.parametrize("kind", RecordKind)
async def test_schema_is_what_is_read(kind: RecordKind) -> None:
    of = source(kind=kind, rows=10)
    assert (await read_all(of)).schema == (await of.discover()).schema


def splitmix64(state: int) -> int:
    """The reference algorithm, one value, in plain integers."""
    mask = (1 << 64) - 1
    bits = state & mask
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
    return bits ^ (bits >> 31)


def test_draws_are_splitmix64() -> None:
    # The first outputs of SplitMix64 from state 0, as published with the algorithm: our formula at rows 1, 2, 3.
    assert [splitmix64(n * 0x9E3779B97F4A7C15) for n in (1, 2, 3)] == [
        16294208416658607535,
        7960286522194355700,
        487617019471545679,
    ]
    start = int.from_bytes(blake2b(b"3/order/amount", digest_size=8).digest(), "big")
    indices = [0, 1, 131_071, 2**40]
    drawn = Rows(RecordKind.ORDER, 3, pl.Series(indices, dtype=pl.UInt64), 0, 1).draw("amount")
    assert drawn.to_list() == [splitmix64(start + n * 0x9E3779B97F4A7C15) for n in indices]


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 500), parallelism=st.integers(1, 9))
def test_bounded_splits_cover_every_row_once(rows: int, parallelism: int) -> None:
    parts = splits(rows, parallelism)
    assert parts[0].first == 0 and parts[-1].end == rows
    assert all(a.end == b.first for a, b in pairwise(parts))
    assert [Split.parse(part.name) for part in parts] == parts
    lengths = [(part.end or 0) - part.first for part in parts]
    assert max(lengths) - min(lengths) <= 1


async def test_splits_change_nothing() -> None:
    whole = await read_all(source(kind="user", rows=1000, seed=3))
    parted = await read_all(source(kind="user", rows=1000, seed=3, parallelism=7))
    assert_frame_equal(whole, parted)


async def test_endless_splits_interleave_to_the_bounded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CHUNK_ROWS", 50)
    endless = source(kind="event", parallelism=3)
    assert not endless.bounded
    found = await endless.discover()
    assert found.total_rows is None and len(found.splits) == 3
    heads = []
    for split in found.splits:
        chunks = endless.read(split, None, pin="{}")
        heads += [(await anext(chunks)).rows for _ in range(2)]
        await chunks.aclose()
    expected = await read_all(source(kind="event", rows=300))
    assert_frame_equal(pl.concat(heads).sort("event_id"), expected)


async def test_resuming_gives_exactly_what_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CHUNK_ROWS", 7)
    of = source(kind="sensor", rows=40, seed=1, parallelism=2)
    split = (await of.discover()).splits[1]
    chunks = [chunk async for chunk in of.read(split, None, pin="{}")]
    whole = pl.concat([chunk.rows for chunk in chunks])
    seen = 0
    for chunk in chunks:
        seen += chunk.rows.height
        monkeypatch.setattr(generator, "CHUNK_ROWS", 5)
        rest = [later.rows async for later in of.read(split, chunk.resume, pin="{}")]
        assert_frame_equal(pl.concat([whole.clear(), *rest]), whole.slice(seen))


async def test_only_the_columns_asked_for() -> None:
    of = source(rows=10, seed=2)
    whole = await read_all(of)
    assert_frame_equal(await read_all(of, ["amount", "country"]), whole.select("country", "amount"))
    nothing = await read_all(of, [])
    assert nothing.height == 10 and nothing.width == 0


async def test_seeds_and_kinds_differ() -> None:
    one, two = await read_all(source(rows=100, seed=1)), await read_all(source(rows=100, seed=2))
    assert (one["amount"] == two["amount"]).sum() < 10
    assert one["order_id"].to_list() == two["order_id"].to_list() == list(range(100))


async def test_values_are_plausible() -> None:
    orders = await read_all(source(rows=20_000))
    assert orders["amount"].min() >= 0.5 and orders["amount"].max() < 321  # type: ignore[operator]
    assert 70 < orders["amount"].mean() < 90  # type: ignore[operator]
    assert set(orders["quantity"]) == set(range(1, 10))
    share = orders["country"].value_counts(normalize=True)["proportion"]
    assert share.min() > 0.11 and share.max() < 0.14  # type: ignore[operator]
    assert orders["note"].null_count() > 0 and (orders["note"] == "").sum() > 0
    readings = await read_all(source(kind="sensor", rows=20_000))
    assert readings.filter(pl.col("temperature").is_null() != (pl.col("status") == "fault")).height == 0


async def test_time_starts_where_it_is_told() -> None:
    rows = await read_all(source(rows=3, start="2025-06-01T12:00:00+02:00", every="1m"))
    assert rows["ts"].to_list() == [datetime(2025, 6, 1, 10, minute, tzinfo=UTC) for minute in range(3)]


async def test_no_rows_is_one_empty_split() -> None:
    of = source(rows=0, parallelism=4)
    assert of.bounded
    assert (await of.discover()).splits == ["rows 0..0"]
    assert (await read_all(of)).height == 0


@pytest.mark.parametrize(
    "options",
    [{"rows": -1}, {"rate": 0}, {"kind": "customer"}, {"rows": 10**12, "every": "1d"}, {"total": 5}, {"seed": "x"}],
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GeneratorConfig.model_validate(options)


@pytest.mark.parametrize("text", ['{"v":2,"row":1}', '{"row":1}', '{"v":1,"row":"1"}', "[]"])
async def test_foreign_positions_are_corrupt(text: str) -> None:
    with pytest.raises(Corrupt):
        await anext(source(rows=10).read("rows 0..10", Position(text), pin="{}"))


async def test_foreign_splits_are_corrupt() -> None:
    with pytest.raises(Corrupt):
        await anext(source(rows=10).read("orders.csv", None, pin="{}"))


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_bucket_keeps_the_rate() -> None:
    clock = Clock()
    bucket = Bucket(1000, clock=clock, sleep=clock.sleep)
    assert bucket.burst == 100
    await bucket.take(100)
    assert clock.now == 100, "the first records go at once, or a slow rate would never get through a short segment"
    for _ in range(50):
        await bucket.take(100)
    assert clock.now - 100 == pytest.approx(5.0)


async def test_bucket_forgives_a_pause() -> None:
    clock = Clock()
    bucket = Bucket(10, clock=clock, sleep=clock.sleep)
    await bucket.take(1)
    clock.now += 3600
    resumed = clock.now
    for _ in range(20):
        await bucket.take(1)
    assert clock.now - resumed == pytest.approx(2.0, abs=2.5 * generator.BURST_SECONDS)


async def test_chunks_are_as_small_as_epochs_want_them() -> None:
    of = GeneratorSource(GeneratorConfig(rows=10), Context(pipeline="p", chunk_rows=4))
    assert [chunk.rows.height async for chunk in of.read("rows 0..10", None, pin="{}")] == [4, 4, 2]


async def test_rate_is_shared_by_the_splits_and_cuts_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    class Recorded(Bucket):
        def __init__(self, rate: float) -> None:
            made.append(rate)
            clock = Clock()
            super().__init__(rate, clock=clock, sleep=clock.sleep)

    monkeypatch.setattr(generator, "Bucket", Recorded)
    of = source(rows=100, rate=400, parallelism=4)
    first = (await of.discover()).splits[0]
    chunks = [chunk async for chunk in of.read(first, None, pin="{}")]
    assert made == [100.0]
    assert [chunk.rows.height for chunk in chunks] == [10, 10, 5]
    assert chunks[-1].resume == position(25)
