"""Compression that can stop at any epoch and go on in another process, and still makes one valid file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import zstandard

from dataflow.connectors.file.formats import Compression

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # RFC 1952: deflate, no flags, no time, unknown system


class Codec(Protocol):
    def add(self, data: bytes | memoryview) -> list[bytes | memoryview]: ...

    def flush(self) -> list[bytes | memoryview]:
        """Everything added is in the bytes so far, and a new codec can go on from `state()`."""

    def finish(self) -> list[bytes | memoryview]:
        """What is still missing for a valid file."""

    def state(self) -> dict[str, Any]: ...


class Plain:
    def add(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        return [data]

    def flush(self) -> list[bytes | memoryview]:
        return []

    def finish(self) -> list[bytes | memoryview]:
        return []

    def state(self) -> dict[str, Any]:
        return {}


class Gzip:
    """One gzip member however many epochs wrote it, since not every reader goes on after the first member.

    Each flush ends on a byte boundary and forgets its window (Z_FULL_FLUSH), so raw deflate streams of several
    processes join into one. The checksum and size of the trailer (RFC 1952) travel in the state.
    """

    def __init__(self, level: int, state: Mapping[str, Any] | None) -> None:
        self._level = level
        self._crc: int = state["crc"] if state else 0
        self._size: int = state["size"] if state else 0
        self._begun = state is not None and bool(state["begun"])
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    def add(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        out: list[bytes | memoryview] = [] if self._begun else [_GZIP_HEADER]
        self._begun = True
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        out.append(self._deflate.compress(data))
        return out

    def flush(self) -> list[bytes | memoryview]:
        return [self._deflate.flush(zlib.Z_FULL_FLUSH)] if self._begun else []

    def finish(self) -> list[bytes | memoryview]:
        out: list[bytes | memoryview] = [] if self._begun else [_GZIP_HEADER]
        out.append(self._deflate.flush(zlib.Z_FINISH))
        out.append(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        return out

    def state(self) -> dict[str, Any]:
        return {"crc": self._crc, "size": self._size, "begun": self._begun}


class Zstd:
    """One frame for each flush; frames may follow each other (RFC 8878, 3)."""

    def __init__(self, level: int, state: Mapping[str, Any] | None) -> None:
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._frame: Any = None
        self._begun = state is not None and bool(state["begun"])

    def add(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        if self._frame is None:
            self._frame = self._compressor.compressobj()
        self._begun = True
        return [self._frame.compress(data)]

    def flush(self) -> list[bytes | memoryview]:
        if self._frame is None:
            return []
        frame, self._frame = self._frame, None
        return [frame.flush()]

    def finish(self) -> list[bytes | memoryview]:
        return self.flush() if self._begun else [self._compressor.compress(b"")]

    def state(self) -> dict[str, Any]:
        return {"begun": self._begun}


def make_codec(kind: Compression, level: int | None, state: Mapping[str, Any] | None) -> Codec:
    """A codec that goes on from `state`, or begins a file."""
    if kind is Compression.GZIP:
        return Gzip(level or 6, state)
    if kind is Compression.ZSTD:
        return Zstd(level or 3, state)
    return Plain()
