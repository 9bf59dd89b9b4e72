"""What stands at the head of a CSV file: the names of its columns, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataflow.connectors.file import marks
from dataflow.connectors.file.csv_records import Dialect, Incomplete, next_record
from dataflow.connectors.file.streams import BOM, Stream, refuse_utf16
from dataflow.errors import Rejected
from dataflow.expressions import nearest

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Front:
    """`names` are those of the header, or field1 ... as many as the first record has; none for a file without a
    record. The first record of data begins at `offset` of the stream, on `line`."""

    names: tuple[str, ...]
    offset: int
    line: int


def line_end(front: bytes) -> bytes:
    """CR alone, where a file begins without any LF but with CR."""
    return b"\r" if b"\r" in front and b"\n" not in front else b"\n"


def peek(stream: Stream, name: str) -> bytes:
    """The first block of a stream."""
    data = b""
    while len(data) < _BLOCK and (more := stream.read(_BLOCK - len(data))):
        data += more
    refuse_utf16(data, name)
    return data


def front(stream: Stream, data: bytes, name: str, dialect: Dialect, *, header: bool) -> Front:
    """Read the head of a file; `data` is what was peeked of its stream. Raises `Rejected` BAD_HEADER."""
    at, line = len(BOM) if data.startswith(BOM) else 0, 1
    start, ended = at, False
    while True:
        if at == len(data) and ended:
            return Front((), start if not header else at, 1 if not header else line)
        try:
            record = next_record(data, at, line, dialect, final=ended)
        except Incomplete:
            more = stream.read(max(_BLOCK, len(data)))
            ended, data = not more, data + more
            continue
        if record.error is None and record.fields == [None]:
            at, line = record.end, line + record.lines  # a blank line
            continue
        if not header:
            return Front(tuple(f"field{number}" for number in range(1, len(record.fields) + 1)), start, 1)
        if record.error:
            raise Rejected(
                f"the header cannot be read: {record.error.message}", code="BAD_HEADER", where=f"{name}:{line}"
            )
        return Front(_names([value or b"" for value in record.fields], name, line), record.end, line + record.lines)


def _names(fields: Sequence[bytes], name: str, line: int) -> tuple[str, ...]:
    if not marks.is_utf8(b",".join(fields)):
        hint = "set encoding, for example latin-1 or cp1252"
        raise Rejected("the header is not text in the encoding configured", code="BAD_ENCODING", hint=hint, where=name)
    names = tuple(field.decode() or f"field{number}" for number, field in enumerate(fields, 1))
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise Rejected(
            f"the header names {', '.join(twice)} more than once",
            code="BAD_HEADER",
            hint="give header: false and columns, or correct the file",
            where=f"{name}:{line}",
        )
    return names


def agree(names: Sequence[str], wanted: Sequence[str], name: str, *, others: bool) -> None:
    """Raise `Rejected` where a file lacks columns, or has others than those pinned without being allowed to."""
    missing = [column for column in wanted if column not in names]
    more = [] if others else [column for column in names if column not in wanted]
    if not missing and not more:
        return
    said = [f"lacks {', '.join(missing)}"] if missing else []
    said += [f"has also {', '.join(more)}"] if more else []
    near = nearest(missing[0], names) if missing else ""
    raise Rejected(
        f"the file {' and '.join(said)}",
        code="HEADER_MISMATCH",
        hint=near or "all files have the same columns; name those to read in columns",
        where=name,
    )
