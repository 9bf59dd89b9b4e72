"""Filter and map over batches, beside the same work written in Polars by hand. Prints one line per case: milliseconds
of each, and the ratio (above 1: DataFlow is slower). Usage: python bench/expressions.py [rows]."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import polars as pl

from dataflow.chain import Chain, Stage
from dataflow.components import Kind
from dataflow.domain.flow import OnRecord
from dataflow.registry import component
from dataflow.seams import Context


def transform(kind: str, **options: object) -> object:
    found = component(Kind.TRANSFORM, kind)
    return found.build(found.config(**options), Context(pipeline="bench"))


def chain(*stages: object) -> Chain:
    return Chain([Stage(f"transforms[{n}]", stage) for n, stage in enumerate(stages)], OnRecord.DEAD_LETTER)


def batch(rows: int) -> pl.DataFrame:
    number = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "id": number,
            "amount": (number * 7919) % 1000,
            "quantity": number % 13,
            "price": ((number * 31) % 997) / 7.0,
            "country": pl.Series(["US", "DE", "FR", "a longer country"]).gather(number % 4),
            "text_amount": ((number * 7919) % 1000).cast(pl.String),
            "note": pl.Series(["some note of medium length, with a comma"]).gather(number * 0),
        }
    )


def best(run: Callable[[], object], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times) * 1000


CASES: dict[str, tuple[tuple[object, ...], Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "filter": (
        (transform("filter", where="amount > 500 AND country <> 'US'"),),
        lambda df: df.filter((pl.col("amount") > 500) & (pl.col("country") != "US")),
    ),
    "map": (
        (transform("map", set={"total": "amount * quantity"}, rename={"id": "key"}, drop=["note"]),),
        lambda df: df.with_columns(total=pl.col("amount") * pl.col("quantity")).drop("note").rename({"id": "key"}),
    ),
    "filter+map": (
        (
            transform("filter", where="amount > 500 AND country <> 'US'"),
            transform("map", set={"total": "amount * quantity", "cost": "price * 2"}, drop=["note"]),
        ),
        lambda df: (
            df.filter((pl.col("amount") > 500) & (pl.col("country") != "US"))
            .with_columns(total=pl.col("amount") * pl.col("quantity"), cost=pl.col("price") * 2)
            .drop("note")
        ),
    ),
    "cast": (
        (transform("map", cast={"text_amount": "INT"}),),
        lambda df: df.with_columns(pl.col("text_amount").cast(pl.Int64)),
    ),
}


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    data = batch(rows)
    print(f"{rows} rows, {data.estimated_size('mb'):.0f} MB")
    for name, (stages, plain) in CASES.items():
        ready = chain(*stages)
        ready.bind(data.schema)
        data_in = data.select(ready.columns())
        ours, hand = best(lambda: ready.apply(data_in)), best(lambda: plain(data))  # noqa: B023
        speed = rows / ours / 1000
        print(
            f"{name:12} ours {ours:7.2f} ms   polars {hand:7.2f} ms   ratio {ours / hand:5.2f}   {speed:6.1f} M rows/s"
        )


if __name__ == "__main__":
    main()
