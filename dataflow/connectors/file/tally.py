"""How many rows a file of output holds, by its own bytes: as our encoders write them, counted at memory speed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import polars as pl

from dataflow.connectors.file import marks
from dataflow.connectors.file.formats import Compression, FileFormat
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.streams import open_stream
from dataflow.errors import Corrupt

_BLOCK = 4 * 2**20
_QUOTE, _NEWLINE = b'"\n'


def count_rows(path: Path, config: FileSinkConfig) -> int:
    """Rows of a finished file. Raises `Corrupt` where it is cut off or cannot be read as that format, `OSError`,
    and what opening a stream raises."""
    kind = config.file_format
    if kind is FileFormat.PARQUET:
        try:
            return int(pl.scan_parquet(path).select(pl.len()).collect().item())
        except pl.exceptions.PolarsError as error:
            raise Corrupt(f"it is not a whole Parquet file: {error}", where=str(path)) from error
    lines, last = _lines(path, config.codec, config.encoding, quoted=kind is FileFormat.CSV)
    if last not in (b"", b"\n"):
        raise Corrupt("it is cut off in the middle of a line", where=str(path))
    if kind is FileFormat.JSON:
        return max(0, lines - 2)  # `[` and `]` stand on lines of their own, in an empty array on one
    return lines - (1 if kind is FileFormat.CSV and config.header and lines else 0)


def count_lines(path: Path) -> int:
    """Lines of a plain file, the last of them whole. Raises `Corrupt` where it is not."""
    lines, last = _lines(path, Compression.NONE, "utf-8", quoted=False)
    if last not in (b"", b"\n"):
        raise Corrupt("it is cut off in the middle of a line", where=str(path))
    return lines


def _lines(path: Path, codec: Compression, encoding: str, *, quoted: bool) -> tuple[int, bytes]:
    """Line ends outside of quotes, and the last byte."""
    found, quotes, last = 0, 0, b""
    with closing(open_stream(path, path.name, codec, encoding)) as stream:
        while block := stream.read(_BLOCK):
            column = marks.view(block)
            last = block[-1:]
            ends = column == _NEWLINE
            if quoted and (here := marks.count(column, _QUOTE)) + quotes:
                # A line end is the end of a record where the quotes before it are even.
                before = (column == _QUOTE).cast(pl.UInt32).cum_sum() + quotes % 2
                ends = ends & (before % 2 == 0)
                quotes += here
            found += int(ends.sum())
    return found, last
