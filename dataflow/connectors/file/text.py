"""Plain text: one column, `line`, without its line end. Blank lines are lines."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from dataflow.connectors.file.lines import Line, LineParser
from dataflow.connectors.file.rejects import Refusal

TEXT_SCHEMA = pl.Schema({"line": pl.String()})


class TextParser(LineParser):
    def rows(self, data: bytes, lines: int) -> pl.DataFrame | None:
        whole = pl.Series("line", [data.decode()]).str.split(self.line_end.decode()).explode().head(lines)
        return self._frame(whole)

    def values(self, lines: Sequence[Line]) -> tuple[pl.DataFrame, list[Refusal]]:
        return self._frame(pl.Series("line", [line.text.decode() for line in lines], dtype=pl.String)), []

    def _frame(self, lines: pl.Series) -> pl.DataFrame:
        return (lines.str.strip_suffix("\r") if self.line_end == b"\n" else lines).to_frame()
