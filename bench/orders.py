"""The input of the main job: a CSV of orders with integers, floats, and strings with quotes, commas and nothing."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from dataflow.connectors.generator.records import RecordKind, Rows

DATA = Path(__file__).parent / "data"
STEP = 500_000
COUNTRIES = ["FR", "DE", "US", "GB", "JP", "BR", "IN", "MA"]
NOTES = ["plain text note", "rush, please", 'gift "wrap"', "", 'call, then "leave" at door']


def orders_csv(rows: int) -> Path:
    """The file of that many orders, the same for ever; made where it is not there yet. About 55 bytes a row."""
    path = DATA / f"orders-{rows}.csv"
    if path.exists():
        return path
    DATA.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as out:
        for begin in range(0, rows, STEP):
            frame(begin, min(begin + STEP, rows)).write_csv(out, include_header=begin == 0, quote_style="necessary")
    partial.rename(path)
    return path


def frame(begin: int, end: int) -> pl.DataFrame:
    index = pl.int_range(begin, end, dtype=pl.UInt64, eager=True)
    made = Rows(RecordKind.ORDER, 7, index, 0, 1)
    ids = made.ids()
    cents = made.skewed("amount", 32_000) + 50
    return pl.DataFrame(
        {
            "order_id": ids,
            "customer_id": made.below("customer_id", 100_000).cast(pl.Int64),
            "country": made.pick("country", COUNTRIES),
            "amount": pl.select((cents / 100).round(2)).to_series(),
            "quantity": made.below("quantity", 9).cast(pl.Int64) + 1,
            "ts": 1_700_000_000 + ids // 10,
            "note": made.pick("note", NOTES),
        }
    )
