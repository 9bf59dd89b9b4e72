"""One text file, record by record, in pieces cut where a record ends.

A piece first takes the fast way: whole, by a vectorised parser that either vouches for every record or declines. Where
it declines, ever smaller parts of the piece are tried, and the smallest takes the exact way, which finds the ends of
records one by one and says of each unreadable one where it is and why. Both ways agree on every record, so the result
does not depend on where pieces are cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import polars as pl

from dataflow.connectors.file.position import MARK, Place, changed, mark
from dataflow.connectors.file.rejects import SHOWN, Refusal
from dataflow.connectors.file.streams import BOM, Stream
from dataflow.connectors.file.worklist import unreadable
from dataflow.errors import Corrupt

SMALLEST = 128 * 1024  # a part no larger than this takes the exact way
AHEAD = 3  # pieces under way behind the one that is handed out
Fast = tuple[pl.DataFrame, int] | None
"""Rows and the number of their lines; None where the fast way declines."""


@dataclass(slots=True)
class Exact:
    """What the exact way made of a part: rows, refusals, where it stopped, how many lines it passed."""

    rows: pl.DataFrame
    refused: list[Refusal]
    end: int
    lines: int
    skipping: bool = False


@dataclass(slots=True)
class Parsed:
    frames: list[pl.DataFrame] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    consumed: int = 0
    lines: int = 0
    skipping: bool = False


class RecordParser(ABC):
    """How one file's records are told apart and read. Immutable while the file is read."""

    max_record: int
    line_end: bytes = b"\n"

    @abstractmethod
    def cut(self, data: bytes, start: int, stop: int, carried: bytes = b"") -> int:
        """Where, at or before `stop`, a record seems to end that began at or after `start`; `start` where none does.
        `start` is where a record begins; with `carried`, that is what came of this record before."""

    @abstractmethod
    def fast(self, data: bytes) -> Fast:
        """The rows of these whole records and the number of their lines; None where any record may be unreadable or
        is not whole. The last line end may be missing."""

    @abstractmethod
    def exact(self, data: bytes, start: int, stop: int, line: int, *, final: bool) -> Exact:
        """The records that begin from `start` (a record's beginning) to before `stop`, one by one.

        Stops early in front of a record whose end is not in `data`, if more is to come (`final` is false) and it may
        still turn out to be within `max_record`. Must pass a record when `window` bytes follow."""

    @property
    def window(self) -> int:
        """So many bytes decide whether a record is too long."""
        return self.max_record + 2

    def parse(
        self, data: bytes, line: int, *, final: bool, skipping: bool = False, begun: Future[Fast] | None = None
    ) -> Parsed:
        """Read as many records as are whole in `data`, the last one too if it is the file's end (`final`). `begun` is
        what `fast` makes of all of `data`, where somebody has asked it already."""
        out = Parsed(skipping=skipping)
        size = len(data)
        if skipping:
            out.consumed, out.lines, out.skipping = self._skip_line(data)
        step = size
        while out.consumed < size and not out.skipping:
            at = out.consumed
            stop = min(size, at + step)
            end = stop if stop == size and (final or data.endswith(self.line_end)) else self.cut(data, at, stop)
            if end > at:
                part = data if end - at == size else data[at:end]
                found = begun.result() if begun is not None and len(part) == size else self.fast(part)
                if found:
                    out.frames.append(found[0])
                    out.lines += found[1]
                    out.consumed = end
                    step *= 4
                    continue
                if end - at > SMALLEST:
                    step = max(SMALLEST, (end - at) // 8)
                    continue
            slow = self.exact(data, at, min(size, at + SMALLEST), line + out.lines, final=final)
            if slow.end == at:
                break
            out.frames.append(slow.rows)
            out.refused += slow.refused
            out.lines += slow.lines
            out.consumed, out.skipping = slow.end, slow.skipping
        return out

    def _skip_line(self, data: bytes) -> tuple[int, int, bool]:
        found = data.find(self.line_end)
        return (len(data), 0, True) if found < 0 else (found + 1, 1, False)

    def too_long(self, data: bytes, start: int, line: int) -> Refusal:
        """For a record that is longer than `max_record`."""
        shown = data[start : start + min(SHOWN, self.max_record)]
        message = f"the record is longer than {self.max_record} bytes (max_record); its beginning is kept"
        return Refusal("RECORD_TOO_LONG", message, line, shown)


@dataclass(frozen=True, slots=True)
class _Part:
    """`text` is to be parsed; it ends at `end` of `data`, what was read and not given out before. `final`: it is the
    file's end. `read`: how far the file was read then. `begun`: the fast way, already under way."""

    text: bytes
    data: bytes
    end: int
    final: bool
    read: int
    begun: Future[Fast] | None = None


@dataclass(slots=True)
class Piece:
    frames: list[pl.DataFrame]
    refused: list[Refusal]
    place: Place
    read: int  # bytes of the file behind this piece


class RecordFile:
    """Reads one stream from a place to its end. The next pieces are read and parsed while one is handed out."""

    def __init__(self, stream: Stream, parser: RecordParser, at: Place, *, piece: int, block: int) -> None:
        self._stream = stream
        self._parser = parser
        self._at = at
        self._piece = piece  # bytes of a piece, about
        self._block = block  # bytes of one read
        self._at_end = False
        self._read_upto = 0
        self._by_lines = True  # a record is a line, as far as is known

    def resize(self, piece: int, block: int) -> None:
        self._piece, self._block = piece, block

    def _position(self) -> None:
        """Move to where reading goes on, and see that it is the text that was read before."""
        length = self._at.tail[0]
        self._stream.skip(self._at.offset - length)
        tail = b""
        while len(tail) < length and (more := self._stream.read(length - len(tail))):
            tail += more
        if mark(tail) != self._at.tail:
            raise changed(self._at)

    def __iter__(self) -> Iterator[Piece]:
        with ThreadPoolExecutor(1, "file-read") as ahead, ThreadPoolExecutor(AHEAD, "file-parse") as parsing:
            yield from self._pieces(ahead, parsing)

    def _read(self, upto: int | None = None) -> bytes:
        """The next block, or `upto` so many bytes; less only at the file's end."""
        upto = upto or self._block
        parts, size = [], 0
        try:
            while size < upto and (data := self._stream.read(upto - size)):
                parts.append(data)
                size += len(data)
        except OSError as error:
            raise unreadable(self._at.file, error) from error
        self._read_upto = self._stream.consumed()
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _prepare(self, data: bytes, start: int, want: int) -> _Part | None:
        """The next part to parse, of what is left of `data` from `start` and what the file still has; None at the end.
        At least `want` bytes, where there are so many."""
        if self._by_lines and not want and len(data) - start < self._piece // 2:
            try:
                text = self._stream.whole_lines(len(data) - start, self._piece, self._parser.line_end)
            except OSError as error:
                raise unreadable(self._at.file, error) from error
            if text:
                self._read_upto = self._stream.consumed()
                return _Part(text, text, len(text), False, self._read_upto)
        while True:
            rest = len(data) - start
            stop = min(len(data), start + max(self._piece, want))
            end = self._parser.cut(data, start, stop) if rest >= max(1, want) else start
            little = end == start or rest < self._piece // 2  # a few records left over are no piece of their own
            if not self._at_end and little and rest < max(self._piece, want, 1):
                carried, block = data[start:], self._read()
                self._at_end = not block
                if not want and len(carried) + len(block) < 2 * self._piece:
                    end = self._parser.cut(block, 0, len(block), carried)
                    if end:  # the usual case: bytes are copied once
                        text = b"".join((carried, memoryview(block)[:end]))
                        return _Part(text, block, end, False, self._read_upto)
                data, start = (carried + block if carried else block), 0
                continue
            if not rest:
                return None
            if end == start:
                end = len(data)
            part = data if end - start == len(data) else data[start:end]
            return _Part(part, data, end, self._at_end and end == len(data), self._read_upto)

    def _pieces(self, ahead: ThreadPoolExecutor, parsing: ThreadPoolExecutor) -> Iterator[Piece]:
        def prepare(data: bytes, start: int, want: int) -> _Part | None:
            part = self._prepare(data, start, want)
            if part is None or not (part.final or part.text.endswith(self._parser.line_end)):
                return part
            return replace(part, begun=parsing.submit(self._parser.fast, part.text))

        self._position()
        data = self._read(len(BOM)) if self._at.offset == 0 else b""
        if data == BOM:
            data, self._at = b"", replace(self._at, offset=len(BOM))
        part = prepare(data, 0, 0)
        coming: deque[Future[_Part | None]] = deque()

        def following(before: _Part | Future[_Part | None]) -> _Part | None:
            known = before.result() if isinstance(before, Future) else before
            return prepare(known.data, known.end, 0) if known else None

        while part is not None:
            # Begun while this one is parsed, as if all of this one's records were whole: they nearly always are.
            while len(coming) < AHEAD:
                coming.append(ahead.submit(following, coming[-1] if coming else part))
            parsed = self._parser.parse(
                part.text, self._at.line, final=part.final, skipping=self._at.skip, begun=part.begun
            )
            left = len(part.text) - parsed.consumed
            if parsed.consumed:
                yield self._passed(part.text, parsed, part.read, len(part.data) - part.end + left)
            elif part.final:
                raise Corrupt("the reader does not get past a record", where=f"{self._at.file}:{self._at.line}")
            if not left:
                part = coming.popleft().result()
                continue
            self._by_lines = False
            begun = [found for found in (each.result() for each in coming) if found]
            coming.clear()
            last = begun[-1] if begun else part
            text = b"".join((part.text[parsed.consumed :], *(each.text for each in begun), last.data[last.end :]))
            part = prepare(text, 0, 0 if parsed.consumed else max(2 * left, self._block))

    def _passed(self, part: bytes, parsed: Parsed, read: int, rest: int) -> Piece:
        tail = part[max(0, parsed.consumed - MARK) : parsed.consumed]
        done = max(self._at.read, read - rest)
        behind = done - self._at.read
        self._at = replace(
            self._at,
            offset=self._at.offset + parsed.consumed,
            line=self._at.line + parsed.lines,
            read=done,
            tail=mark(tail),
            skip=parsed.skipping,
        )
        return Piece(parsed.frames, parsed.refused, self._at, behind)
