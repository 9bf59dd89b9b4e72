"""CSV: the fast way is Polars under the pinned types; a piece it may misread takes the exact way.

What Polars 2.1 alone would do: pad short records, read blank lines as records of NULL, take `"a"b"c"` for a field,
drop a lone CR in front of a delimiter, read 03/04/2024 as a date, and not look at fields behind the last one that is
wanted. Each is looked for before its result is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from dataflow.connectors.file import marks
from dataflow.connectors.file.csv_records import Dialect, Record, records, regular
from dataflow.connectors.file.csv_shape import shape
from dataflow.connectors.file.pieces import Exact, RecordParser
from dataflow.connectors.file.rejects import Refusal
from dataflow.errors import Corrupt
from dataflow.expressions import type_name

_CLOCK = r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
_TEMPORAL: dict[type[pl.DataType], str] = {
    pl.Date: r"^\d{4}-\d\d-\d\d$",
    pl.Datetime: rf"^\d{{4}}-\d\d-\d\d([T ]{_CLOCK})?$",
    pl.Time: rf"^{_CLOCK}$",
}
_ZONED = rf"^\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(Z|[+-]\d\d:?\d\d)$"
_STEP_BACK = 1000  # line ends looked at for one outside quotes


def is_temporal(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Date | pl.Datetime | pl.Time)


def temporal(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Text to a date, time or timestamp; NULL where it is not ISO 8601 to the microsecond."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        iso = column.str.contains(_ZONED)
        split = column.str.extract_groups(r"^(.{10}).([0-9:.]+)(.*)$")
        clock, zone = split.struct.field("2"), split.struct.field("3").str.replace("Z", "+0000").str.replace(":", "")
        text = split.struct.field("1") + "T" + _seconds(clock) + zone
        return pl.when(iso).then(text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False))
    iso = column.str.contains(_TEMPORAL[type(dtype)])
    if isinstance(dtype, pl.Date):
        return pl.when(iso).then(column.str.to_date("%Y-%m-%d", strict=False))
    if isinstance(dtype, pl.Time):
        return pl.when(iso).then(_seconds(column).str.to_time("%H:%M:%S%.f", strict=False))
    day, clock = column.str.slice(0, 10), column.str.slice(11)
    text = day + "T" + pl.when(clock == "").then(pl.lit("00:00:00")).otherwise(_seconds(clock))
    return pl.when(iso).then(text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False))


def _seconds(clock: pl.Expr) -> pl.Expr:
    return pl.when(clock.str.len_bytes() == 5).then(clock + ":00").otherwise(clock)


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one file in its own order, with their types, and the columns to hand out in theirs.

    A field whose text may be no value of its type has to be among those handed out: else nobody looks at it."""

    fields: pl.Schema
    wanted: tuple[str, ...]


class CsvParser(RecordParser):
    def __init__(self, layout: Layout, dialect: Dialect, *, null_values: Sequence[str] = (), pad: bool = False) -> None:
        self.max_record = dialect.max_record
        self.line_end = dialect.end
        self._layout = layout
        self._dialect = dialect
        self._nulls = list(null_values)
        self._pad = pad
        self._wide = len(layout.fields)
        self._schema = pl.Schema({name: layout.fields[name] for name in layout.wanted})
        wanted = set(layout.wanted)
        self._parse_as = pl.Schema(  # what is not wanted is not converted; temporals are converted afterwards
            {
                name: pl.String() if name not in wanted or is_temporal(dtype) else dtype
                for name, dtype in layout.fields.items()
            }
        )
        self._temporal = [name for name in layout.wanted if is_temporal(layout.fields[name])]
        self._last = list(layout.fields)[-1]
        self._shape = regular(dialect, max(1, self._wide))
        self._ragged = pad or self._wide == 1  # short records are read, or a blank line is one
        self._closers = dialect.quote + dialect.delimiter + dialect.end + b"\r"

    def cut(self, data: bytes, start: int, stop: int, carried: bytes = b"") -> int:
        """At a line end in front of which the number of quotes is even."""
        end, quote = self.line_end, self._dialect.quote
        found = data.rfind(end, start, stop)
        if found < 0:
            return start
        if not quote:
            return found + 1
        part = memoryview(data)[start:stop]
        odd = (carried.count(quote) + marks.count(marks.view(part), quote[0]) - data.count(quote, found, stop)) % 2
        for _ in range(_STEP_BACK):
            if not odd:
                return found + 1
            before = data.rfind(end, start, found)
            if before < 0:
                return start
            odd = (odd - data.count(quote, before, found)) % 2
            found = before
        return start

    def fast(self, data: bytes) -> tuple[pl.DataFrame, int] | None:
        if not data.endswith(self.line_end):
            data += self.line_end
        if not marks.lines_within(data, self.line_end, self.max_record):
            return None
        found = self._fast_ragged(data) if self._ragged else self._fast_even(data)
        if found is None:
            return None
        rows, lines = found
        done = self._finished(rows)
        return None if done is None else (done, lines)

    def _fast_even(self, data: bytes) -> tuple[pl.DataFrame, int] | None:
        """Where every record has all its fields: the columns wanted, and no others."""
        found = shape(data, self._dialect, self._wide)
        if found is None or (found.returns and self._lone(data)) or not (found.ascii or marks.is_utf8(data)):
            return None
        if found.records != found.lines and len(data) > self.max_record and found.longest() > self.max_record:
            return None
        rows = self._typed(data, wanted=True)
        return (rows, found.lines) if rows is not None and rows.height == found.records else None

    def _fast_ragged(self, data: bytes) -> tuple[pl.DataFrame, int] | None:
        """All columns: what Polars makes of records that may be short."""
        column = marks.view(data)
        if self._lone(data) or not marks.is_utf8(data) or not self._closed(data, column):
            return None
        lines = marks.count(column, self.line_end[0])
        rows = self._typed(data)
        if rows is None or (rows.height != lines and not self._short_enough(data, rows)):
            return None
        short = self._wide > 1 and rows.get_column(self._last).null_count() > 0
        if short and (rows.height != lines or self._blank_lines(data, column)):
            return None
        return rows, lines

    def _lone(self, data: bytes) -> bool:
        """Whether a CR stands alone where LF ends lines."""
        return self.line_end == b"\n" and b"\r" in data and not marks.only(marks.followers(marks.view(data), 13), b"\n")

    def _closed(self, data: bytes, column: pl.Series) -> bool:
        """Whether no text follows a closing quote, and no quote is left unclosed."""
        if not self._dialect.quote or self._dialect.quote not in data:
            return True
        # Outside quotes and inside take turns: every second quote closes a field or is the first of a doubled one.
        after = marks.followers(column, self._dialect.quote[0])
        return len(after) % 2 == 0 and marks.only(after.gather_every(2, 1), self._closers)

    def _typed(
        self, data: bytes, *, lenient: bool = False, schema: pl.Schema | None = None, wanted: bool = False
    ) -> pl.DataFrame | None:
        """What Polars makes of whole records, of the columns `wanted` or of all; None where it refuses any of them."""
        schema = schema or self._parse_as
        scan = pl.scan_csv(
            data,
            has_header=False,
            schema=schema,
            separator=self._dialect.delimiter.decode(),
            quote_char=self._dialect.quote.decode() or None,
            eol_char=self.line_end.decode(),
            null_values=self._nulls or None,
            ignore_errors=lenient,
            missing_columns="insert" if self._pad else "raise",
            raise_if_empty=False,
            glob=False,
        )
        try:
            return (scan.select(self._layout.wanted) if wanted else scan).collect()
        except (pl.exceptions.ComputeError, pl.exceptions.SchemaError):
            return None

    def _blank_lines(self, data: bytes, column: pl.Series) -> bool:
        after = marks.followers(column, self.line_end[0])
        return data[:1] in (self.line_end, b"\r") or bool(((after == self.line_end[0]) | (after == 13)).any())

    def _short_enough(self, data: bytes, rows: pl.DataFrame) -> bool:
        """Whether records of several lines are surely within `max_record`. Only text makes them long."""
        if len(data) <= self.max_record:
            return True
        if not any(isinstance(dtype, pl.String) for dtype in rows.dtypes):
            return False
        length = rows.select(pl.sum_horizontal(pl.col(pl.String).str.len_bytes().fill_null(0)).max()).item()
        return 2 * int(length or 0) + 64 * self._wide <= self.max_record

    def _finished(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Wanted columns, temporals converted; None where one cannot be."""
        if not self._temporal:
            return rows.select(self._layout.wanted)
        texts = rows.select(self._layout.wanted)
        done = self._convert(texts)
        if any(done.get_column(name).null_count() > texts.get_column(name).null_count() for name in self._temporal):
            return None
        return done

    def _convert(self, texts: pl.DataFrame) -> pl.DataFrame:
        return texts.with_columns(
            temporal(pl.col(name), self._layout.fields[name]).alias(name) for name in self._temporal
        )

    def exact(self, data: bytes, start: int, stop: int, line: int, *, final: bool) -> Exact:
        good: list[Record] = []
        refused: list[Refusal] = []
        end, lines, skipping = start, 0, False
        sound = marks.is_utf8(data)
        for record in records(data, start, stop, line, self._dialect, final=final, shape=self._shape):
            end, lines, skipping = record.end, lines + record.lines, record.skipping
            if self._wide > 1 and record.fields == [None]:
                continue  # a blank line
            problem = record.error or self._problem(record, data, sound=sound)
            if problem:
                refused.append(problem)
            else:
                good.append(record)
        rows, bad = self._values(good, data)
        return Exact(rows, sorted(refused + bad, key=lambda refusal: refusal.line), end, lines, skipping)

    def _problem(self, record: Record, data: bytes, *, sound: bool) -> Refusal | None:
        count = self._wide if record.regular else len(record.fields)
        if count < self._wide and not self._pad:
            code, message = "TOO_FEW_FIELDS", f"{count} fields where {self._wide} are expected"
        elif count > self._wide:
            code, message = "TOO_MANY_FIELDS", f"{count} fields where {self._wide} are expected"
        elif not sound and not marks.is_utf8(self._text(record, data)):
            code, message = "BAD_ENCODING", "the record holds bytes that are not text in the encoding configured"
        else:
            return None
        return Refusal(code, message, record.line, self._text(record, data))

    def _text(self, record: Record, data: bytes) -> bytes:
        return data[record.start : record.end].removesuffix(self.line_end).removesuffix(b"\r")

    def _values(self, good: list[Record], data: bytes) -> tuple[pl.DataFrame, list[Refusal]]:
        """The rows of records that are well formed, but for those with a value that is not of its column's type."""
        if not good:
            return self._schema.to_frame(), []
        text = b"".join(self._unmistakable(record, data) for record in good)
        rows = self._typed(text)
        if rows is not None and (done := self._finished(rows)) is not None:
            return done, []
        texts = self._typed(text, schema=pl.Schema(dict.fromkeys(self._layout.fields, pl.String())))
        rows = self._typed(text, lenient=True)
        if rows is None or texts is None or not rows.height == texts.height == len(good):
            raise Corrupt(f"{len(good)} CSV records were read as another number of rows")
        done = self._convert(rows.select(self._layout.wanted)) if self._temporal else rows.select(self._layout.wanted)
        wrong = {
            name: done.get_column(name).is_null() & (texts.get_column(name).str.strip_chars().str.len_bytes() > 0)
            for name in self._layout.wanted
            if not isinstance(self._layout.fields[name], pl.String)
        }
        bad = pl.DataFrame(wrong).fill_null(value=False)
        hit = bad.select(pl.any_horizontal(pl.all())).to_series()
        refused = [
            self._bad_value(good[row], data, bad.row(row, named=True), texts.row(row, named=True))
            for row in hit.arg_true().to_list()
        ]
        return done.filter(~hit), refused

    def _bad_value(self, record: Record, data: bytes, bad: dict[str, bool], texts: dict[str, str]) -> Refusal:
        said = ", ".join(
            f"{name} is not {type_name(self._layout.fields[name])}: {texts[name][:80]!r}" for name in bad if bad[name]
        )
        return Refusal("BAD_VALUE", said, record.line, self._text(record, data))

    def _unmistakable(self, record: Record, data: bytes) -> bytes:
        """The record as Polars cannot mistake it: each field quoted, unless there is nothing to mistake."""
        quote, text = self._dialect.quote, self._text(record, data)
        missing = 0 if record.regular else self._wide - len(record.fields)
        if record.regular or not quote or (quote not in text and b"\r" not in text):
            return text + self._dialect.delimiter * missing + self.line_end
        fields = [b"" if value is None else quote + value.replace(quote, quote * 2) + quote for value in record.fields]
        return self._dialect.delimiter.join(fields + [b""] * missing) + self.line_end
