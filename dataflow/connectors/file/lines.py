"""Records that are lines: what JSON lines and plain text have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from dataflow.connectors.file import marks
from dataflow.connectors.file.pieces import Exact, RecordParser
from dataflow.connectors.file.rejects import Refusal


@dataclass(frozen=True, slots=True)
class Line:
    text: bytes
    line: int


class LineParser(RecordParser):
    """Cuts behind line ends; refuses lines that are too long or not text. What a line holds is for those below."""

    def __init__(self, max_record: int, line_end: bytes = b"\n") -> None:
        self.max_record = max_record
        self.line_end = line_end

    def cut(self, data: bytes, start: int, stop: int, carried: bytes = b"") -> int:
        return max(start, data.rfind(self.line_end, start, stop) + 1)

    def fast(self, data: bytes) -> tuple[pl.DataFrame, int] | None:
        if not data.endswith(self.line_end):
            data += self.line_end
        if not marks.lines_within(data, self.line_end, self.max_record) or not marks.is_utf8(data):
            return None
        lines = marks.count(marks.view(data), self.line_end[0])
        rows = self.rows(data, lines)
        return None if rows is None else (rows, lines)

    @abstractmethod
    def rows(self, data: bytes, lines: int) -> pl.DataFrame | None:
        """The rows of that many whole lines of valid UTF-8; None where any may be unreadable."""

    @abstractmethod
    def values(self, lines: Sequence[Line]) -> tuple[pl.DataFrame, list[Refusal]]:
        """The rows of these lines, valid UTF-8 each, and the refusals of those that are unreadable."""

    def exact(self, data: bytes, start: int, stop: int, line: int, *, final: bool) -> Exact:
        good: list[Line] = []
        refused: list[Refusal] = []
        first, skipping = line, False
        while start < stop and not skipping:
            found = data.find(self.line_end, start)
            if found < 0 and not final and len(data) - start < self.window:
                break
            end = found if found >= 0 else len(data)
            text = data[start:end]
            if self.line_end == b"\n":
                text = text.removesuffix(b"\r")
            if len(text) > self.max_record:
                refused.append(self.too_long(data, start, line))
                skipping = found < 0 and not final
            elif not marks.is_utf8(text):
                message = "the line holds bytes that are not text in the encoding configured"
                refused.append(Refusal("BAD_ENCODING", message, line, text))
            else:
                good.append(Line(text, line))
            line += found >= 0
            start = end + (found >= 0)
        rows, bad = self.values(good)
        return Exact(rows, sorted(refused + bad, key=lambda refusal: refusal.line), start, line - first, skipping)
