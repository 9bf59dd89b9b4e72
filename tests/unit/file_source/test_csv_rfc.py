"""CSV against Python's csv module as an independent reader, in pieces of any size, resumed from every position."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.file.csv import CsvParser, Layout
from dataflow.connectors.file.csv_records import Dialect
from dataflow.connectors.file.formats import Compression
from dataflow.connectors.file.pieces import RecordFile
from dataflow.connectors.file.position import Place
from dataflow.connectors.file.streams import open_stream

text = st.text(
    st.sampled_from(list("ab,;\"'\n\r\t 0é😀")) | st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], str, str, int]:
    width = draw(st.integers(2, 5))
    rows = draw(st.lists(st.lists(text, min_size=width, max_size=width), max_size=12))
    return rows, draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\r\n"])), draw(st.integers(1, 200))


def written(rows: list[list[str]], delimiter: str, end: str) -> str:
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # csv leaves a lone CR unquoted in front of LF
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return out.getvalue()


def pieces(path: Path, width: int, delimiter: str, at: Place, size: int) -> list[tuple[list[tuple[Any, ...]], Place]]:
    schema = pl.Schema({f"c{n}": pl.String() for n in range(width)})
    parser = CsvParser(Layout(schema, tuple(schema)), Dialect(delimiter.encode()))
    stream = open_stream(path, path.name, Compression.NONE, "utf-8")
    got = []
    for piece in RecordFile(stream, parser, at, piece=size, block=max(64, size)):
        assert not piece.refused
        got.append(([row for frame in piece.frames for row in frame.rows()], piece.place))
    stream.close()
    return got


@settings(max_examples=80, deadline=None)
@given(tables())
def test_any_table_in_any_pieces_is_what_csv_reads(table: tuple[list[list[str]], str, str, int]) -> None:
    rows, delimiter, end, size = table
    written_text = written(rows, delimiter, end)
    width = len(rows[0]) if rows else 2
    expected = [
        tuple(value or None for value in row)
        for row in csv.reader(io.StringIO(written_text, newline=""), delimiter=delimiter)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(written_text.encode())
        whole = pieces(path, width, delimiter, Place("t.csv"), size)
        got = [tuple(value or None for value in row) for rows, _ in whole for row in rows]
        assert got == expected
        seen = 0
        for part, place in whole[:6]:
            seen += len(part)
            rest = pieces(path, width, delimiter, place, 1 + size // 2)
            assert [tuple(v or None for v in row) for rows, _ in rest for row in rows] == expected[seen:]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"a", b",", b'"', b"\n", b"\r\n", b"\r", b"1", b"a,a\n", b'",', b'""', b"\xff", b'"x\ny",z\n']
        ),
        max_size=14,
    ).map(b"".join),
    st.sampled_from([8, 20, 4096]),
    st.booleans(),
)
def test_the_fast_way_accepts_only_what_the_exact_way_reads_the_same(data: bytes, longest: int, pad: bool) -> None:
    schema = pl.Schema({"a": pl.String(), "b": pl.String()})
    parser = CsvParser(Layout(schema, ("a", "b")), Dialect(max_record=longest), pad=pad)
    exact = parser.exact(data, 0, len(data), 1, final=True)
    assert exact.end == len(data)
    fast = parser.fast(data)
    if fast is not None:
        assert not exact.refused
        assert fast[0].equals(exact.rows)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"a", b",", b'"', b"\n", b"\r\n", b"a,a\n", b'",', b'"x\ny",z\n', b"long" * 5]), max_size=20
    ).map(b"".join),
    st.integers(1, 40),
    st.sampled_from([4, 16, 100]),
)
def test_broken_text_reads_the_same_in_any_pieces(data: bytes, size: int, longest: int) -> None:
    schema = pl.Schema({"a": pl.String(), "b": pl.String()})
    parser = CsvParser(Layout(schema, ("a", "b")), Dialect(max_record=longest))

    def read(piece: int, at: Place) -> tuple[list[Any], list[Any], list[Place]]:
        rows, refused, places = [], [], []
        for part in RecordFile(
            open_stream(path, "t.csv", Compression.NONE, "utf-8"), parser, at, piece=piece, block=piece
        ):
            rows += [row for frame in part.frames for row in frame.rows()]
            refused += [(bad.line, bad.code, bad.record) for bad in part.refused]
            places.append(part.place)
        return rows, refused, places

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(data)
        rows, refused, _ = read(10_000, Place("t.csv"))
        some, bad, places = read(size, Place("t.csv"))
        assert (some, bad) == (rows, refused)
        if places:
            middle = places[len(places) // 2]
            later, later_bad, _ = read(10_000, middle)
            assert later == rows[len(rows) - len(later) :]
            assert later_bad == refused[len(refused) - len(later_bad) :]
            assert (
                len(later) + len(later_bad) < len(rows) + len(refused)
                or middle.offset == 0
                or not (rows or refused)
                or middle.skip
                or data[: middle.offset].strip(b"\r\n") == b""
            )


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"a,b\n1,2\n", [(1, 2)]),
        (b"a,b\r\n1,2\r\n", [(1, 2)]),
        (b"a,b\r1,2\r3,4\r", [(1, 2), (3, 4)]),
        (b"\xef\xbb\xbfa,b\n1,2", [(1, 2)]),
        (b"\n\na,b\n\n1,2\n\n\n3,4", [(1, 2), (3, 4)]),
        (b'"a","b"\n"1",""\n2,\n', [(1, ""), (2, None)]),
        (b'a,b\nx,""\ny,\n', [("x", ""), ("y", None)]),
        (b'a,b\n"say ""hi""","line 1\nline 2"\n', [('say "hi"', "line 1\nline 2")]),
        (b'a,b\n5" pipe,6" pipe\n', [('5" pipe', '6" pipe')]),
        (b"a,b\n9007199254740993,x\n", [(9007199254740993, "x")]),
        (b"a,b\n007,99999999999999999999\n", [("007", "99999999999999999999")]),
        (b"a,b\n1,1.5\n2,\n", [(1, 1.5), (2, None)]),
        (b"a,b\ntrue,no\nFALSE,yes\n", [(True, "no"), (False, "yes")]),
    ],
)
async def test_examples(
    data: bytes, rows: list[tuple[Any, ...]], tmp_path: Path, read: Callable[..., Awaitable[Any]]
) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    got = await read("t.csv", base=tmp_path)
    assert got.rows.columns == ["a", "b"]
    assert got.rows.rows() == rows
    assert got.refused == []
    assert got.bytes_read == got.found.total_bytes == len(data)


async def test_every_position_resumes_exactly(tmp_path: Path, read: Callable[..., Awaitable[Any]]) -> None:
    body = "".join(f'{n},"note {n}\nwith, ""quotes""",{n / 4}\n' for n in range(2000))
    (tmp_path / "t.csv").write_text("id,note,x\n" + body)
    whole = await read("t.csv", base=tmp_path, chunk_rows=150)
    assert whole.rows["id"].to_list() == list(range(2000))
    assert max(chunk.rows.height for chunk in whole.chunks) < 450
    seen = 0
    for chunk in whole.chunks:
        seen += chunk.rows.height
        rest = await read("t.csv", base=tmp_path, start=chunk.resume)
        assert rest.rows.columns == ["id", "note", "x"]
        assert rest.rows["id"].to_list() == list(range(seen, 2000))


async def test_columns_are_a_subset_in_the_schemas_order(tmp_path: Path, read: Callable[..., Awaitable[Any]]) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,x,\n2,y,2.5\n")
    got = await read("t.csv", base=tmp_path, needed=["c", "a"])
    assert got.chunks[0].rows.rows() == [(1, None), (2, 2.5)]


async def test_closing_early_leaves_no_file_open(tmp_path: Path, read: Callable[..., Awaitable[Any]]) -> None:
    import psutil

    from dataflow.connectors.file import SOURCE
    from dataflow.seams import Context

    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 100_000)
    source = SOURCE.build(
        SOURCE.config.model_validate({"path": "t.csv"}), Context(pipeline="t", base=tmp_path, chunk_rows=100)
    )
    found = await source.discover()
    reading = source.read("files", None, pin=found.pin)
    await anext(reading)
    waiting = asyncio.ensure_future(anext(reading))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await reading.aclose()
    assert [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))] == []


LINES = ["1,a", "2,b", '3,"x\ny"', "4", "5,e,f", '6,"un', "7,g", '8,"a"b', "999999,long" + "g" * 40]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=60), st.integers(64, 400))
def test_unreadable_records_are_the_same_in_pieces_of_any_size(lines: list[str], size: int) -> None:
    schema = pl.Schema({"n": pl.Int64(), "text": pl.String()})
    data = "".join(line + "\n" for line in lines).encode()

    def outcome(piece: int) -> tuple[list[tuple[Any, ...]], list[tuple[str, int, bytes]]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "t.csv"
            path.write_bytes(data)
            parser = CsvParser(Layout(schema, tuple(schema)), Dialect(b",", max_record=200))
            stream = open_stream(path, path.name, Compression.NONE, "utf-8")
            rows, refused = [], []
            for got in RecordFile(stream, parser, Place("t.csv"), piece=piece, block=piece):
                rows += [row for frame in got.frames for row in frame.rows()]
                refused += [(refusal.code, refusal.line, refusal.record) for refusal in got.refused]
            stream.close()
            return rows, refused

    assert outcome(size) == outcome(1 << 20)
