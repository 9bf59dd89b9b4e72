"""Which partition a record goes to, as the Java client decides it: murmur2 of the key, whole columns at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_SEED = 0x9747B28C
_MULTIPLIER = np.asarray([0x5BD1E995], np.uint32)
_MASKS = np.asarray([0, 0xFF, 0xFFFF, 0xFFFFFF], np.uint32)  # of the one to three bytes that are left
_RUN = 1000  # records without a key that go to one partition before the next one's turn


def murmur2(keys: pl.Series) -> pl.Series:
    """32-bit hashes (UInt32) of a Binary column, NULL of NULL; the same as `Utils.murmur2` of the Java client.

    The arithmetic of arrays of UInt32 wraps around, which is what the algorithm wants. Each step takes four bytes of
    all keys that have as many left."""
    column = keys.alias("").to_arrow().cast(pa.large_binary())
    _, bounds, text = column.buffers()
    ends = np.frombuffer(bounds, np.int64)[column.offset : column.offset + len(column) + 1]
    begins, lengths = ends[:-1], np.diff(ends)
    held = b"" if text is None else text.to_pybytes()
    # The numbers that begin at each of the bytes.
    words: npt.NDArray[np.uint32] = np.ndarray((len(held) + 1,), np.dtype("<u4"), held + bytes(4), 0, (1,))
    hashed: npt.NDArray[np.uint32] = (lengths ^ _SEED).astype(np.uint32)
    for at in range(0, int(lengths.max(initial=0)) - 3, 4):
        some = np.flatnonzero(lengths >= at + 4)
        word = words[begins[some] + at] * _MULTIPLIER
        word = (word ^ word >> np.uint32(24)) * _MULTIPLIER
        hashed[some] = (hashed[some] * _MULTIPLIER) ^ word
    rest = lengths & 3
    some = np.flatnonzero(rest)
    last = words[begins[some] + (lengths[some] & ~3)] & _MASKS[rest[some]]
    hashed[some] = (hashed[some] ^ last) * _MULTIPLIER
    hashed = (hashed ^ hashed >> np.uint32(13)) * _MULTIPLIER
    hashes = pl.Series(hashed ^ hashed >> np.uint32(15))
    if keys.null_count():
        hashes = hashes.to_frame("h").select(pl.when(keys.is_not_null()).then(pl.col("h"))).to_series()
    return hashes


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
