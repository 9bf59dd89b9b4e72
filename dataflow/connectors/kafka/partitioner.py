"""Which partition a record goes to, as the Java client decides it: murmur2 of the key, whole columns at once."""

from __future__ import annotations

import polars as pl

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_RUN = 1000  # records without a key that go to one partition before the next one's turn


def murmur2(keys: pl.Series) -> pl.Series:
    """32-bit hashes (UInt32) of a Binary column, NULL of NULL; the same as `Utils.murmur2` of the Java client.

    The arithmetic of UInt32 columns wraps around, which is what the algorithm wants. Keys are hashed together with all
    others of their length, four bytes at a step."""
    frame = pl.DataFrame({"key": keys, "length": keys.bin.size()}).with_row_index("row")
    parts = [
        frame.filter(pl.col("length") == length).select("row", hash=_of_length(group, length))
        for length in frame.get_column("length").drop_nulls().unique().to_list()
        if (group := frame.filter(pl.col("length") == length).get_column("key")) is not None
    ]
    hashes = pl.concat(parts) if parts else pl.DataFrame(schema={"row": frame.schema["row"], "hash": pl.UInt32})
    return frame.select("row").join(hashes, on="row", how="left", maintain_order="left").get_column("hash")


def _of_length(keys: pl.Series, length: int) -> pl.Series:
    hashed = pl.repeat(_SEED ^ length, len(keys), dtype=pl.UInt32, eager=True)
    multiplier = pl.Series([_MULTIPLIER], dtype=pl.UInt32)
    for at in range(0, length - 3, 4):
        word = keys.bin.slice(at, 4).bin.reinterpret(dtype=pl.UInt32, endianness="little") * multiplier
        word = (word ^ (word // (1 << 24))) * multiplier
        hashed = (hashed * multiplier) ^ word
    rest = length % 4
    for place in reversed(range(rest)):
        byte = keys.bin.slice(length - rest + place, 1).bin.reinterpret(dtype=pl.UInt8).cast(pl.UInt32)
        hashed = hashed ^ (byte * (1 << (8 * place)))
    if rest:
        hashed = hashed * multiplier
    hashed = (hashed ^ (hashed // (1 << 13))) * multiplier
    return hashed ^ (hashed // (1 << 15))


def partition_of_key(key: bytes, count: int) -> int:
    """The partition, of `count`, of one key."""
    return int(partitions(pl.Series([key], dtype=pl.Binary), count, 0)[0])


def partitions(keys: pl.Series, count: int, turn: int) -> pl.Series:
    """The partition (Int32) of each record, of `count`. Records with the same key share one; those without a key take
    turns in runs, where `turn` is how many records went before."""
    if count == 1:
        return pl.repeat(0, len(keys), dtype=pl.Int32, eager=True)
    unkeyed = ((pl.int_range(len(keys), eager=True) + turn) // _RUN % count).cast(pl.Int32)
    if keys.null_count() == len(keys):
        return unkeyed
    hashed = murmur2(keys) & pl.Series([0x7FFFFFFF], dtype=pl.UInt32)
    keyed = (hashed % count).cast(pl.Int32)
    return keyed.zip_with(keyed.is_not_null(), unkeyed)
