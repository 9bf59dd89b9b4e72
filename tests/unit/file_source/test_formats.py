"""JSON lines, JSON documents, text, Parquet; encodings and compression."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.file.json import Elements
from dataflow.errors import Rejected

Reading = Callable[..., Awaitable[Any]]


async def test_nested_values_stay_nested(tmp_path: Path, read: Reading) -> None:
    records = [
        {"id": 2**53 + 1, "who": {"name": "ann", "tags": ["a", "b"]}},
        {"id": 2, "x": 1.5},
        {"who": None, "x": 2},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    got = await read("t.jsonl", base=tmp_path)
    assert got.rows.schema == pl.Schema(
        {"id": pl.Int64(), "who": pl.Struct({"name": pl.String(), "tags": pl.List(pl.String())}), "x": pl.Float64()}
    )
    assert got.rows["id"].to_list() == [2**53 + 1, 2, None]
    assert got.rows["who"].to_list() == [{"name": "ann", "tags": ["a", "b"]}, None, None]


async def test_a_field_the_schema_does_not_know_is_an_error_unless_columns_are_chosen(
    tmp_path: Path, read: Reading
) -> None:
    first = "".join(f'{{"id":{n}}}\n' for n in range(20_000))
    (tmp_path / "t.jsonl").write_text(first + '{"id":20000,"late":1}\n')
    pin = (await read("t.jsonl", base=tmp_path, sample=64)).found.pin
    got = await read("t.jsonl", base=tmp_path, pin=pin)
    assert got.refused == [("t.jsonl:20001", "UNKNOWN_FIELD")]
    got = await read("t.jsonl", base=tmp_path, columns=["id"])
    assert got.rows["id"].to_list() == list(range(20_001))


async def test_declared_types(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_text(
        "id,day,at,z,price,n\n1,2024-01-02,2024-01-02 03:04,2024-01-02T03:04:05+02:00,1.10,7\n"
    )
    types = {
        "id": "text",
        "day": "date",
        "at": "timestamp",
        "z": "timestamptz",
        "price": "decimal(10, 2)",
        "n": "int32",
    }
    got = await read("t.csv", base=tmp_path, columns=types)
    assert got.rows.row(0)[:3] == ("1", dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4))
    assert got.rows["z"][0] == dt.datetime(2024, 1, 2, 1, 4, 5, tzinfo=dt.UTC)
    assert str(got.rows["price"][0]) == "1.10"
    assert got.rows.schema["n"] == pl.Int32()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


class Bytes:
    """A stream over bytes that gives few at a time."""

    def __init__(self, data: bytes, few: int) -> None:
        self._data, self._few = data, few

    def read(self, size: int) -> bytes:
        out, self._data = self._data[: min(size, self._few)], self._data[min(size, self._few) :]
        return out

    def skip(self, size: int) -> None:
        self._data = self._data[size:]

    def consumed(self) -> int:
        return 0

    def close(self) -> None:
        pass


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=6),
    st.sampled_from([None, 1, 4]),
    st.booleans(),
    st.integers(1, 50),
)
def test_elements_of_a_document_are_cut_out_whole(
    objects: list[dict[str, Any]], indent: int | None, ascii_only: bool, few: int
) -> None:
    document = json.dumps(objects, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    stream = Elements(Bytes(document, few), 10_000)
    out = b""
    while data := stream.read(7):
        out += data
    assert [json.loads(line) for line in out.split(b"\n")[:-1]] == objects


async def test_documents(tmp_path: Path, read: Reading) -> None:
    objects = [{"id": n, "deep": {"a": [{"b": n}]}, "s": '}]"{['} for n in range(500)]
    for name, text in {
        "pretty.json": json.dumps(objects, indent=2),
        "compact.json": json.dumps(objects, separators=(",", ":")),
        "lines.json": "\n".join(json.dumps(one) for one in objects),
    }.items():
        (tmp_path / name).write_text(text)
        whole = await read(name, base=tmp_path, chunk_rows=60)
        assert whole.rows["id"].to_list() == list(range(500)), name
        seen = 0
        for chunk in whole.chunks:
            seen += chunk.rows.height
            assert (await read(name, base=tmp_path, start=chunk.resume)).rows["id"].to_list() == list(range(seen, 500))
    (tmp_path / "one.json").write_text(json.dumps(objects[0], indent=4))
    assert (await read("one.json", base=tmp_path)).rows["s"].to_list() == ['}]"{[']


async def test_text_has_one_column(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\ntwo\r\n\n four\t\nfive")
    got = await read("t.txt", base=tmp_path)
    assert got.rows.rows() == [("one",), ("two",), ("",), (" four\t",), ("five",)]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis"]
)
async def test_encodings(encoding: str, tmp_path: Path, read: Reading) -> None:
    words = {"latin-1": "Zoë", "cp1252": "Zoë €", "shift_jis": "日本"}.get(encoding, "Zoë € 日本 😀")
    body = "id,name\n" + "".join(f'{n},"{words}, {n}"\n' for n in range(300))
    (tmp_path / "t.csv").write_bytes(body.encode(encoding))
    whole = await read("t.csv", base=tmp_path, encoding=encoding, chunk_rows=40)
    assert whole.rows.rows() == [(n, f"{words}, {n}") for n in range(300)]
    middle = whole.chunks[len(whole.chunks) // 2]
    rest = await read("t.csv", base=tmp_path, encoding=encoding, start=middle.resume)
    assert rest.rows.rows() == whole.rows.rows()[-rest.rows.height :]
    assert 0 < rest.rows.height < 300


async def test_utf16_without_saying_so_is_refused(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(Rejected, match="utf-16") as refused:
        await read("t.csv", base=tmp_path)
    assert refused.value.code == "BAD_ENCODING"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
async def test_compressed_files_of_several_members(suffix: str, tmp_path: Path, read: Reading) -> None:
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    parts = [f"{n},{'x' * (n % 50)}\n".encode() for n in range(5000)]
    path = tmp_path / f"t.csv{suffix}"
    path.write_bytes(pack(b"id,x\n" + b"".join(parts[:2000])) + pack(b"".join(parts[2000:])))
    whole = await read(path.name, base=tmp_path, chunk_rows=700)
    assert whole.rows["id"].to_list() == list(range(5000))
    assert whole.bytes_read == whole.found.total_bytes == path.stat().st_size
    seen = 0
    for chunk in whole.chunks:
        seen += chunk.rows.height
        rest = await read(path.name, base=tmp_path, start=chunk.resume)
        assert rest.rows["id"].to_list() == list(range(seen, 5000))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Rejected) as refused:
        await read(path.name, base=tmp_path)
    assert refused.value.code == "BAD_COMPRESSION"


async def test_parquet_by_batches(tmp_path: Path, read: Reading) -> None:
    rows = pl.DataFrame({"id": range(1000), "s": [{"x": [n]} for n in range(1000)], "d": [dt.date(2024, 1, 1)] * 1000})
    rows.write_parquet(tmp_path / "t.parquet", row_group_size=300)
    whole = await read("t.parquet", base=tmp_path, chunk_rows=170)
    assert whole.rows.equals(rows)
    assert whole.bytes_read == whole.found.total_bytes
    seen = 0
    for chunk in whole.chunks:
        seen += chunk.rows.height
        assert (await read("t.parquet", base=tmp_path, start=chunk.resume)).rows.equals(rows[seen:])
    only = await read("t.parquet", base=tmp_path, needed=["d"])
    assert only.chunks[0].rows.columns == ["d"]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(Rejected) as refused:
        await read("broken.parquet", base=tmp_path)
    assert refused.value.code == "BAD_PARQUET"


async def test_parquet_files_must_agree(tmp_path: Path, read: Reading) -> None:
    pl.DataFrame({"a": [1], "b": ["x"]}).write_parquet(tmp_path / "1.parquet")
    pl.DataFrame({"b": ["y"], "a": [2]}).write_parquet(tmp_path / "2.parquet")
    assert (await read(".", base=tmp_path)).rows.rows() == [(1, "x"), (2, "y")]
    pl.DataFrame({"a": [1.5], "b": ["x"]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(Rejected, match=r"3\.parquet: the column a is Float64") as refused:
        await read(".", base=tmp_path)
    assert refused.value.code == "SCHEMA_MISMATCH"
