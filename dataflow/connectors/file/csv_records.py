"""The exact way to tell CSV records apart: RFC 4180, one record after another.

Beyond the RFC: LF alone ends a record too; a quote inside an unquoted field is an ordinary character; the last record
needs no line end. Text after a closing quote, and a quote that is not closed within `max_record` or before the end of
the file, are errors of the line they begin in; reading goes on at the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dataflow.connectors.file.rejects import SHOWN, Refusal


@dataclass(frozen=True, slots=True)
class Dialect:
    """`quote` is empty where nothing is quoted. All are single bytes."""

    delimiter: bytes = b","
    quote: bytes = b'"'
    end: bytes = b"\n"
    max_record: int = 8 * 2**20
    window: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", self.max_record + 2)


@dataclass(slots=True)
class Record:
    """A record that was told apart. An unquoted empty field is None. `end` is where the next one begins."""

    start: int
    end: int
    line: int
    lines: int
    fields: list[bytes | None]
    error: Refusal | None = None
    skipping: bool = False  # its end is not known yet: pass over what comes, up to a line end
    regular: bool = False  # it has all fields, strictly quoted: `fields` is not filled in


class Incomplete(Exception):
    """More bytes are needed to tell where a record ends."""


def regular(dialect: Dialect, wide: int) -> re.Pattern[bytes]:
    """A whole record of that many fields, strictly quoted: what there is to say about most, in one step of C."""
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    field = rb"[^" + delimiter + quote + rb"\r\n]*+"
    if quote:
        field = rb"(?:" + quote + rb"(?:[^" + quote + rb"]++|" + quote * 2 + rb")*+" + quote + rb"|" + field + rb")"
    end = rb"\r?\n" if dialect.end == b"\n" else rb"\r"
    return re.compile(field + rb"(?:" + delimiter + field + rb"){%d}" % (wide - 1) + end, re.DOTALL)


def records(
    data: bytes, start: int, stop: int, line: int, dialect: Dialect, *, final: bool, shape: re.Pattern[bytes]
) -> Iterator[Record]:
    """The records that begin in front of `stop`; ends early in front of one that may go on behind `data`. Those that
    are of the `shape` are not looked at any closer."""
    while start < stop:
        found = shape.match(data, start, start + dialect.max_record)
        if found:
            end = found.end()
            lines = data.count(dialect.end, start, end)
            yield Record(start, end, line, lines, [], regular=True)
            start, line = end, line + lines
            continue
        try:
            record = next_record(data, start, line, dialect, final=final)
        except Incomplete:
            return
        yield record
        start, line = record.end, line + record.lines
        if record.skipping:
            return


def next_record(data: bytes, start: int, line: int, dialect: Dialect, *, final: bool) -> Record:
    """The record that begins at `start`. Raises `Incomplete`."""
    limit = min(len(data), start + dialect.window)
    ended = final and limit == len(data)  # the end of what may be looked at is the end of the file
    found = data.find(dialect.end, start, limit)
    if found < 0 and not ended and limit < start + dialect.window:
        raise Incomplete
    if found >= 0 and (not dialect.quote or data.find(dialect.quote, start, found) < 0):
        return _simple(data, start, found, line, dialect, final=final)
    fields: list[bytes | None] = []
    at = start
    while True:
        if dialect.quote and data[at : at + 1] == dialect.quote and at < limit:
            close = _closing(data, at + 1, limit, dialect.quote)
            if close < 0:
                if not ended and limit < start + dialect.window:
                    raise Incomplete
                return _bad_quote(data, start, line, dialect, "a quoted field is not closed", final=final)
            fields.append(data[at + 1 : close].replace(dialect.quote * 2, dialect.quote))
            at = close + 1
            after = data[at : min(limit, at + 2)]
            if after[:1] == dialect.delimiter:
                at += 1
                continue
            if after[:1] == dialect.end or (after == b"\r\n" and dialect.end == b"\n"):
                return _whole(data, start, at, at + after.index(dialect.end) + 1, line, fields, dialect, final=final)
            if (not after or after == b"\r") and at + len(after) == limit:
                if ended:
                    return _whole(data, start, at, limit, line, fields, dialect, final=final)
                if limit < start + dialect.window:
                    raise Incomplete
                return _too_long(data, start, line, dialect, final=final)
            return _bad_quote(data, start, line, dialect, "text follows a closing quote", final=final)
        end = data.find(dialect.end, at, limit)
        if end < 0 and not ended:
            if limit < start + dialect.window:
                raise Incomplete
            return _too_long(data, start, line, dialect, final=final)
        behind = end + 1 if end >= 0 else limit
        end = end if end >= 0 else limit
        comma = data.find(dialect.delimiter, at, end)
        if comma >= 0:
            fields.append(data[at:comma] or None)
            at = comma + 1
            continue
        stop = end - 1 if end > at and dialect.end == b"\n" and data[end - 1 : end] == b"\r" else end
        fields.append(data[at:stop] or None)
        return _whole(data, start, stop, behind, line, fields, dialect, final=final)


def _simple(data: bytes, start: int, found: int, line: int, dialect: Dialect, *, final: bool) -> Record:
    """A line without a quote in it."""
    text = data[start:found]
    if dialect.end == b"\n":
        text = text.removesuffix(b"\r")
    if len(text) > dialect.max_record:
        return _too_long(data, start, line, dialect, final=final)
    return Record(start, found + 1, line, 1, [value or None for value in text.split(dialect.delimiter)])


def _closing(data: bytes, at: int, limit: int, quote: bytes) -> int:
    """Where the quoted field that has begun is closed; -1 where not in front of `limit`."""
    while (found := data.find(quote, at, limit)) >= 0:
        if data[found + 1 : min(limit, found + 2)] != quote:
            return found
        at = found + 2
    return -1


def _whole(
    data: bytes,
    start: int,
    stop: int,
    end: int,
    line: int,
    fields: list[bytes | None],
    dialect: Dialect,
    *,
    final: bool,
) -> Record:
    if stop - start > dialect.max_record:
        return _too_long(data, start, line, dialect, final=final)
    return Record(start, end, line, max(1, data.count(dialect.end, start, end)), fields)


def _line(data: bytes, start: int, dialect: Dialect, *, final: bool) -> tuple[int, bytes]:
    """Where the line at `start` ends (-1: not in `data`), and the line."""
    found = data.find(dialect.end, start)
    if found < 0 and final:
        found = len(data) - 1
        return found, data[start:]
    return found, data[start:found] if found >= 0 else data[start:]


def _bad_quote(data: bytes, start: int, line: int, dialect: Dialect, why: str, *, final: bool) -> Record:
    end, text = _line(data, start, dialect, final=final)
    if end < 0 or len(text) > dialect.max_record + 1:
        return _too_long(data, start, line, dialect, final=final)
    error = Refusal("BAD_QUOTING", f"{why}; reading goes on at the next line", line, text.removesuffix(b"\r"))
    return Record(start, end + 1, line, 1, [], error)


def _too_long(data: bytes, start: int, line: int, dialect: Dialect, *, final: bool) -> Record:
    end, text = _line(data, start, dialect, final=final)
    message = f"the record is longer than {dialect.max_record} bytes (max_record); its beginning is kept"
    error = Refusal("RECORD_TOO_LONG", message, line, text[: min(SHOWN, dialect.max_record)])
    return Record(start, len(data) if end < 0 else end + 1, line, int(end >= 0), [], error, skipping=end < 0)
