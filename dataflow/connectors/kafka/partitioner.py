"""Which partition a record goes to, as the Java client decides it: murmur2 of the key, whole columns at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Places = npt.NDArray[np.int32]

_SEED = 0x9747B28C
_MULTIPLIER = np.asarray([0x5BD1E995], np.uint32)
_MASKS = np.asarray([0, 0xFF, 0xFFFF, 0xFFFFFF], np.uint32)  # of the one to three bytes that are left
_RUN = 1000  # records without a key that go to one partition before the next one's turn


def murmur2(keys: pl.Series) -> npt.NDArray[np.uint32]:
    """Hashes of a Binary column, the same as `Utils.murmur2` of the Java client. That of a NULL means nothing.

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
    return hashed ^ hashed >> np.uint32(15)


def partition_of_key(key: bytes, count: int) -> int:
    """The partition, of `count`, of one key."""
    return int(partitions(pl.Series([key], dtype=pl.Binary), count, 0)[0])


def unkeyed(number: int, count: int, turn: int) -> Places:
    """The partition, of `count`, of each of so many records without a key: they take turns in runs, where `turn` is how
    many records went before."""
    return ((np.arange(turn, turn + number) // _RUN) % count).astype(np.int32)


def partitions(keys: pl.Series, count: int, turn: int) -> Places:
    """The partition of each record, of `count`. Records of one key share one; for those without see `unkeyed`."""
    if count == 1:
        return np.zeros(len(keys), np.int32)
    keyed = ((murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(count)).astype(np.int32)
    if not keys.null_count():
        return keyed
    return np.where(keys.is_null().to_numpy(), unkeyed(len(keys), count, turn), keyed)
