"""What the bytes are: read back with readers that share nothing with the encoders."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.file.encode import make_encoder
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.errors import Rejected

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.sampled_from(
    ["", " ", '"', '""', ",", "\n", "\r\n", "\r", "a,b", 'say "hi"', "NULL", "#", "'", "\t", "\\", "\ufeff", "é"]
)
ROWS = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.none(), TEXT | st.none()), max_size=12)


def encoded(config: FileSinkConfig, epochs: Sequence[Sequence[pl.DataFrame]], schema: pl.Schema) -> bytes:
    """As if every epoch were written by another process."""
    out = b""
    state: Any = None
    for frames in epochs:
        encoder = make_encoder(schema, config, state)
        for frame in frames:
            out += b"".join(encoder.add(frame))
        out += b"".join(encoder.flush())
        state = json.loads(json.dumps(encoder.state()))
    written = out
    return out + b"".join(make_encoder(schema, config, state).finish(lambda n, at: written[at : at + n]))


def in_epochs(rows: pl.DataFrame, sizes: Sequence[int]) -> list[list[pl.DataFrame]]:
    """Cut into epochs of two chunks, the last one with all that is left; epochs may be empty."""
    epochs, at = [], 0
    for size in [*sizes, rows.height]:
        part = rows.slice(at, size)
        epochs.append([part.head(1), part.slice(1)])
        at += part.height
    return epochs


def unpacked(config: FileSinkConfig, data: bytes) -> bytes:
    if config.codec == "gzip":
        one = zlib.decompressobj(wbits=31)  # exactly one gzip member
        plain = one.decompress(data) + one.flush()
        assert one.eof and not one.unused_data
        assert plain == gzip.decompress(data)
        return plain
    if config.codec == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data


SCHEMA = pl.Schema({"n": pl.Int64, "s": pl.String})


@pytest.mark.parametrize(
    "name", ["x.csv", "x.csv.gz", "x.csv.zst", "x.jsonl", "x.jsonl.gz", "x.json", "x.json.zst", "x.parquet"]
)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS, sizes=st.lists(st.integers(0, 5), max_size=4))
def test_rows_come_back_whatever_the_epochs(name: str, rows: list[tuple[Any, ...]], sizes: list[int]) -> None:
    config = FileSinkConfig(path=name)
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    data = encoded(config, in_epochs(frame, sizes), SCHEMA)
    wanted = [{"n": n, "s": s} for n, s in rows]
    if name.endswith("parquet"):
        assert pl.read_parquet(io.BytesIO(data)).equals(frame)
        assert pq.read_table(io.BytesIO(data)).to_pylist() == wanted
        return
    text = unpacked(config, data).decode()
    if ".csv" in name:
        header, *lines = csv.reader(io.StringIO(text, newline=""))
        assert header == ["n", "s"]
        assert lines == [["" if n is None else str(n), s or ""] for n, s in rows]
    elif ".jsonl" in name:
        assert [json.loads(line) for line in text.split("\n")[:-1]] == wanted
    else:
        assert json.loads(text) == wanted


@settings(max_examples=50, deadline=None)
@given(values=st.lists(TEXT | st.none(), max_size=12))
def test_csv_of_one_column_loses_no_record(values: list[str | None]) -> None:
    frame = pl.DataFrame({"only": values}, schema={"only": pl.String})
    data = encoded(FileSinkConfig(path="x.csv"), [[frame]], frame.schema)
    assert list(csv.reader(io.StringIO(data.decode(), newline="")))[1:] == [[value or ""] for value in values]


def test_csv_tells_null_from_the_empty_string() -> None:
    frame = pl.DataFrame({"a": [1, 2], "s": ["", None]})
    data = encoded(FileSinkConfig(path="x.csv"), [[frame]], frame.schema)
    assert data == b'a,s\n1,""\n2,\n'
    back = pl.read_csv(io.BytesIO(data))
    assert back["s"].to_list() == ["", None]


NESTED = pl.DataFrame(
    {
        "list": [[1, 2], None, []],
        "struct": [{"a": 1, "b": "é\n"}, None, {"a": None, "b": '"'}],
        "time": [dt.datetime(2026, 1, 2, 3, 4, 5, 678)] * 3,
        "zone": pl.Series([dt.datetime(2026, 7, 2, 3, 4, 5)] * 3).dt.replace_time_zone("Europe/Berlin"),
        "day": [dt.date(2026, 1, 2)] * 3,
        "money": [Decimal("1.10")] * 3,
        "bytes": [b"ab", b"\xff\x00", None],
        "kind": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        "float": [1.5, float("nan"), None],
        "took": [dt.timedelta(seconds=3)] * 3,
        "big": pl.Series([2**64 - 1] * 3, dtype=pl.UInt64),
        "nothing": pl.Series([None] * 3, dtype=pl.Null),
    }
)


def test_every_type_has_a_form_in_json() -> None:
    data = encoded(FileSinkConfig(path="x.jsonl"), [[NESTED]], NESTED.schema)
    first, second, _ = (json.loads(line) for line in data.decode().splitlines())
    assert first == {
        "list": [1, 2],
        "struct": {"a": 1, "b": "é\n"},
        "time": "2026-01-02T03:04:05.000678",
        "zone": "2026-07-02T03:04:05.000000+02:00",
        "day": "2026-01-02",
        "money": "1.10",
        "bytes": "YWI=",
        "kind": "x",
        "float": 1.5,
        "took": "PT3S",
        "big": 2**64 - 1,
        "nothing": None,
    }
    assert second["float"] is None and second["list"] is None and second["struct"] is None


def test_every_type_has_a_form_in_csv() -> None:
    data = encoded(FileSinkConfig(path="x.csv"), [[NESTED]], NESTED.schema)
    first, second, third = csv.DictReader(io.StringIO(data.decode(), newline=""))
    assert json.loads(first["list"]) == [1, 2] and second["list"] == "" and third["list"] == "[]"
    assert json.loads(first["struct"]) == {"a": 1, "b": "é\n"} and second["struct"] == ""
    assert first["zone"] == "2026-07-02T03:04:05.000000+02:00"
    assert (first["bytes"], first["took"], first["money"]) == ("YWI=", "PT3S", "1.10")


def test_parquet_is_read_by_three_readers(tmp_path: Any) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(
        encoded(FileSinkConfig(path="x.parquet"), in_epochs(pl.concat([NESTED] * 9), [5, 0, 7]), NESTED.schema)
    )
    back = pl.read_parquet(path)
    assert back.schema == NESTED.schema and back.equals(pl.concat([NESTED] * 9))
    assert pq.read_table(path)["big"].to_pylist() == [2**64 - 1] * 27
    rows = duckdb.sql(
        f"select count(*), count(bytes), sum(struct.a), max(day) from '{path}' where kind = 'x'"
    ).fetchall()
    assert rows == [(18, 9, 9, dt.date(2026, 1, 2))]


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_parquet_pages_are_compressed_as_asked(codec: str) -> None:
    frame = pl.DataFrame({"s": ["abc" * 50] * 1000})
    config = FileSinkConfig(path="x.parquet", compression=codec)
    file = pq.ParquetFile(io.BytesIO(encoded(config, [[frame], [frame]], frame.schema)))
    assert file.metadata.num_row_groups == 2
    assert file.metadata.row_group(1).column(0).compression == {"none": "UNCOMPRESSED"}.get(codec, codec.upper())


def test_the_level_of_parquet_pages_is_2_for_zstd_unless_asked_otherwise() -> None:
    frame = pl.DataFrame({"n": [n * n % 9973 for n in range(100_000)], "s": [f"{n:x}" for n in range(100_000)]})

    def written(**asked: object) -> bytes:
        config = FileSinkConfig.model_validate({"path": "x.parquet", **asked})
        return encoded(config, [[frame]], frame.schema)

    assert written() == written(compression_level=2) != written(compression_level=3)
    assert written(compression="gzip") == written(compression="gzip", compression_level=6)


def test_small_frames_become_one_row_group() -> None:
    frame = pl.DataFrame({"n": range(10)})
    data = encoded(FileSinkConfig(path="x.parquet"), [[frame] * 100, [frame] * 50], frame.schema)
    assert [pq.ParquetFile(io.BytesIO(data)).metadata.row_group(n).num_rows for n in (0, 1)] == [1000, 500]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("x.csv", b"n,s\n"), ("x.jsonl", b""), ("x.json", b"[]\n"), ("x.csv.gz", b"n,s\n"), ("x.jsonl.zst", b"")],
)
def test_no_rows_are_a_valid_file(name: str, plain: bytes) -> None:
    for epochs in ([], [[]], [[SCHEMA.to_frame()], []]):
        assert unpacked(FileSinkConfig(path=name), encoded(FileSinkConfig(path=name), epochs, SCHEMA)) == plain


def test_parquet_without_rows_keeps_its_columns() -> None:
    data = encoded(FileSinkConfig(path="x.parquet"), [[]], NESTED.schema)
    assert pl.read_parquet(io.BytesIO(data)).schema == NESTED.schema


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig", "utf-32", "cp1252"])
@pytest.mark.parametrize("header", [True, False])
def test_encodings_hold_over_epochs(encoding: str, header: bool) -> None:
    frame = pl.DataFrame({"n": [1, 2, 3], "s": ["é", "ß", "x"]})
    config = FileSinkConfig(path="x.csv", encoding=encoding, header=header, line_ending="crlf", delimiter=";")
    data = encoded(config, in_epochs(frame, [1, 0, 1]), frame.schema)
    assert data.decode(encoding) == ("n;s\r\n" if header else "") + "1;é\r\n2;ß\r\n3;x\r\n"


def test_what_an_encoding_cannot_hold_is_refused() -> None:
    frame = pl.DataFrame({"s": ["数"]})
    with pytest.raises(Rejected, match="cannot be written in") as caught:
        encoded(FileSinkConfig(path="x.csv", encoding="latin-1"), [[frame]], frame.schema)
    assert caught.value.code == "ENCODING"


def test_text_is_one_line_for_each_row() -> None:
    frame = pl.DataFrame({"n": ["a,b", None, '"', "é"]})
    assert encoded(FileSinkConfig(path="x.txt"), in_epochs(frame, [1]), frame.schema).decode() == 'a,b\n\n"\né\n'
    with pytest.raises(Rejected, match="line break"):
        encoded(FileSinkConfig(path="x.txt"), [[pl.DataFrame({"n": ["a\nb"]})]], frame.schema)
    with pytest.raises(Rejected, match="one column"):
        make_encoder(SCHEMA, FileSinkConfig(path="x.txt"))


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json"])
def test_types_without_a_form_are_refused_before_the_first_row(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        make_encoder(pl.Schema({"deep": pl.List(pl.Struct({"b": pl.Binary}))}), FileSinkConfig(path=name))
    assert caught.value.code == "UNSUPPORTED_TYPE"
