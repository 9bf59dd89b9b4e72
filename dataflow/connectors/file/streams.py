"""A file as a stream of UTF-8 bytes: decompressed, decoded, read forward only."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from dataflow.connectors.file.formats import Compression
from dataflow.connectors.file.worklist import unreadable
from dataflow.errors import DataFlowError, Rejected

BOM = b"\xef\xbb\xbf"
_RECODE = "dataflow-undecodable"
_BLOCK = 1 << 20
_PROBE = 64 * 1024  # bytes that are looked through for a line end


class Stream(Protocol):
    """Bytes from the front to the end. Not valid UTF-8 exactly where the file's text is not valid in its encoding."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""

    def whole_lines(self, back: int, size: int, end: bytes) -> bytes:
        """Go back by `back` bytes, then read about `size` that end with a line end: nothing is left over to be copied
        in front of what is read next. None are read, and no step is taken, where the stream cannot go back, no line
        end is near, or the end of the file is."""

    def skip(self, size: int) -> None:
        """Pass over bytes, or to the end where there are fewer."""

    def consumed(self) -> int:
        """Bytes of the file itself that lie behind what was read; ahead of it by a buffer where it is compressed."""

    def close(self) -> None: ...


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    """Keep what cannot be decoded as a lone surrogate: written as UTF-8 it is a single invalid byte, so that the one
    check for invalid UTF-8 finds it, in its record, whatever the encoding was."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start]
    return chr(0xDC00 + (byte if byte >= 0x80 else 0xFF)), error.end


codecs.register_error(_RECODE, _undecodable)


class _Plain:
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def whole_lines(self, back: int, size: int, end: bytes) -> bytes:
        if size < 2 * _PROBE:
            return b""
        begin = self._file.tell() - back
        probe = os.pread(self._file.fileno(), _PROBE, begin + size - _PROBE)
        found = probe.rfind(end)
        if len(probe) < _PROBE or found < 0:
            return b""
        self._file.seek(begin)
        return self._file.read(size - _PROBE + found + 1) or b""

    def skip(self, size: int) -> None:
        self._file.seek(size, 1)

    def consumed(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class _Compressed:
    """Concatenated gzip members and zstd frames read as one; a stream that is cut short is an error."""

    def __init__(self, path: Path, name: str, codec: Compression) -> None:
        self._name, self._codec = name, codec
        self._raw: Any = pa.OSFile(str(path), "rb")
        self._size: int = self._raw.size()
        self._file: Any = pa.CompressedInputStream(self._raw, codec.value)

    def read(self, size: int) -> bytes:
        if not self._size:
            return b""
        try:
            data: bytes = self._file.read(size)
        except OSError as error:
            raise Rejected(
                f"its {self._codec} stream is damaged: {error}", code="BAD_COMPRESSION", where=self._name
            ) from error
        return data

    def whole_lines(self, back: int, size: int, end: bytes) -> bytes:
        return b""  # forward only

    def skip(self, size: int) -> None:
        skip(self.read, size)

    def consumed(self) -> int:
        return min(self._size, int(self._raw.tell()))

    def close(self) -> None:
        self._file.close()
        self._raw.close()


class _Recoded:
    """Text of another encoding as UTF-8."""

    def __init__(self, below: Stream, encoding: str) -> None:
        self._below = below
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_RECODE)
        self._ready = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        while not self._ready and not self._ended:
            data = self._below.read(min(max(size, 4096), _BLOCK * 4))
            self._ended = not data
            self._ready = self._decoder.decode(data, final=self._ended).encode("utf-8", "surrogateescape")
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def whole_lines(self, back: int, size: int, end: bytes) -> bytes:
        return b""  # forward only

    def skip(self, size: int) -> None:
        skip(self.read, size)

    def consumed(self) -> int:
        return self._below.consumed()

    def close(self) -> None:
        self._below.close()


def skip(read: Callable[[int], bytes], size: int) -> None:
    while size > 0:
        data = read(min(size, _BLOCK))
        if not data:
            return
        size -= len(data)


def open_stream(path: Path, name: str, codec: Compression, encoding: str) -> Stream:
    """Open a file from its front. Raises what `unreadable` makes of the file system's errors, and `Rejected` where
    the file is plainly in another encoding than the one configured."""
    try:
        below: Stream = _Plain(path) if codec is Compression.NONE else _Compressed(path, name, codec)
    except OSError as error:
        raise unreadable(name, error) from error
    return below if encoding in ("utf-8", "utf-8-sig") else _Recoded(below, encoding)


def refuse_utf16(head: bytes, name: str) -> None:
    """Raise `Rejected` for UTF-16 that is about to be read as UTF-8: every line of it would be an error."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Rejected("the file is UTF-16", code="BAD_ENCODING", hint="set encoding: utf-16", where=name)


def head(path: Path, size: int, name: str) -> bytes:
    """The first bytes of the file itself, as many as there are up to `size`."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        problem: DataFlowError = unreadable(name, error)
        raise problem from error
