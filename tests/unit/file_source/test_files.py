"""Which files are read, in which order, by which split; what has changed since; what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from dataflow.connectors.file.config import FileSourceConfig
from dataflow.connectors.file.formats import FileFormat
from dataflow.connectors.file.pin import Pin, pinned
from dataflow.connectors.file.position import Place, place
from dataflow.domain.flow import Position
from dataflow.errors import Corrupt, NotFound, Rejected

Reading = Callable[..., Awaitable[Any]]


def fill(folder: Path, count: int, rows: int = 3) -> None:
    for number in range(count):
        path = folder / f"{'sub/' if number % 2 else ''}part-{number:03}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,x\n" + "".join(f"{number * 1000 + row},v\n" for row in range(rows)))


async def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path, read: Reading) -> None:
    fill(tmp_path / "in", 6)
    (tmp_path / "in" / "_SUCCESS").write_text("")
    (tmp_path / "in" / ".hidden.csv").write_text("other\n1\n")
    got = await read("in", base=tmp_path)
    assert got.rows["id"].to_list() == [n * 1000 + row for n in (0, 2, 4, 1, 3, 5) for row in range(3)]
    assert len(got.chunks) == 1  # small files share a chunk
    assert (await read("in/*.csv", base=tmp_path)).rows["id"].to_list() == [
        n * 1000 + r for n in (0, 2, 4) for r in range(3)
    ]
    assert (await read("in/**/part-00[13].csv", base=tmp_path)).rows.height == 6
    assert (await read(tmp_path / "in" / "part-000.csv")).rows.height == 3


async def test_every_position_in_a_folder_resumes_exactly(tmp_path: Path, read: Reading) -> None:
    fill(tmp_path / "in", 9, rows=50)
    (tmp_path / "in" / "part-004.csv").write_text("")
    (tmp_path / "in" / "part-006.csv").write_text("id,x\n")
    whole = await read("in", base=tmp_path, chunk_rows=20)
    ids = whole.rows["id"].to_list()
    assert len(ids) == 7 * 50
    assert whole.bytes_read == whole.found.total_bytes
    seen = 0
    for chunk in whole.chunks:
        seen += chunk.rows.height
        rest = await read("in", base=tmp_path, start=chunk.resume)
        assert rest.rows["id"].to_list() == ids[seen:]


@pytest.mark.parametrize("count", [2, 5, 16])
async def test_splits_cover_every_file_once(count: int, tmp_path: Path, read: Reading) -> None:
    fill(tmp_path / "in", 12)
    whole = await read("in", base=tmp_path, parallelism=count)
    assert len(whole.found.splits) == min(count, 12)
    assert sorted(whole.rows["id"]) == sorted(n * 1000 + row for n in range(12) for row in range(3))
    before = (await read("in", base=tmp_path, parallelism=count, split=whole.found.splits[1])).rows
    (tmp_path / "in" / "part-000.csv").unlink()  # another file does not move those that stay
    after = (await read("in", base=tmp_path, parallelism=count, split=whole.found.splits[1])).rows
    assert set(after["id"]) >= {n for n in before["id"] if n >= 1000}


async def test_columns_in_another_order_are_mapped_and_other_columns_refused(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("b,a\ny,2\n")
    assert (await read("*.csv", base=tmp_path)).rows.rows() == [(1, "x"), (2, "y")]
    (tmp_path / "3.csv").write_text("a,c\n3,z\n")
    with pytest.raises(Rejected, match=r"3\.csv: the file lacks b and has also c") as refused:
        await read("*.csv", base=tmp_path)
    assert refused.value.code == "HEADER_MISMATCH"
    assert (await read("*.csv", base=tmp_path, columns=["a"])).rows.rows() == [(1,), (2,), (3,)]


async def test_names_without_a_header(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_text("1;x\n2;y\n")
    got = await read("t.csv", base=tmp_path, header=False, delimiter=";")
    assert got.rows.schema == pl.Schema({"field1": pl.Int64(), "field2": pl.String()})
    got = await read("t.csv", base=tmp_path, header=False, delimiter=";", columns=["n", "s"])
    assert got.rows.rows(named=True) == [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]
    with pytest.raises(Rejected, match="columns names 1 columns"):
        await read("t.csv", base=tmp_path, header=False, delimiter=";", columns=["n"])


@pytest.mark.parametrize(
    ("data", "columns"), [(b"", []), (b"id,name\n", ["id", "name"]), (b"\xef\xbb\xbfid", ["id"]), (b"\n\n", [])]
)
async def test_an_empty_file_has_no_rows(data: bytes, columns: list[str], tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    got = await read("t.csv", base=tmp_path)
    assert got.rows.height == 0
    assert got.found.schema.names() == columns
    assert got.bytes_read == len(data)
    again = await read("t.csv", base=tmp_path, start=got.chunks[-1].resume)
    assert again.chunks == []


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.txt"])
async def test_other_empty_files(name: str, tmp_path: Path, read: Reading) -> None:
    (tmp_path / name).write_bytes(b"")
    assert (await read(name, base=tmp_path)).rows.height == 0


async def test_what_is_not_there(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("none.csv", "empty", "*.csv", "none/none.csv"):
        with pytest.raises(NotFound) as missing:
            await read(path, base=tmp_path, format="csv")
        assert missing.value.code == "NOT_FOUND"
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(Rejected) as refused:
        await read("pipe.csv", base=tmp_path)
    assert refused.value.code == "NOT_A_FILE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_may_not_be_read(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    (tmp_path / "t.csv").chmod(0)
    with pytest.raises(Rejected) as refused:
        await read("t.csv", base=tmp_path)
    assert refused.value.code == "PERMISSION_DENIED"


async def test_a_format_that_cannot_be_told(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a":1}\n')
    with pytest.raises(Rejected) as refused:
        await read(".", base=tmp_path)
    assert refused.value.code == "MIXED_FORMATS"
    (tmp_path / "c.dat").write_text("x")
    with pytest.raises(Rejected) as refused:
        await read("c.dat", base=tmp_path)
    assert refused.value.code == "UNKNOWN_FORMAT"


async def halfway(tmp_path: Path, read: Reading, name: str = "t.csv") -> Position:
    chunks = (await read(name, base=tmp_path, chunk_rows=500)).chunks
    assert len(chunks) > 2
    resume: Position = chunks[1].resume
    return resume


async def test_a_file_that_changed_is_noticed(tmp_path: Path, read: Reading) -> None:
    path = tmp_path / "t.csv"
    lines = ["id,x", *(f"{n},some text" for n in range(3000))]
    path.write_text("\n".join(lines))
    at = await halfway(tmp_path, read)
    path.write_text("\n".join([*lines, "3000,appended"]))
    assert (await read("t.csv", base=tmp_path, start=at)).rows["id"].to_list()[-1] == 3000
    for changed in (lines[:-1], ["id,x", "9,y", *lines[3:], "x" * 50]):
        path.write_text("\n".join(changed))
        with pytest.raises(Corrupt) as found:
            await read("t.csv", base=tmp_path, start=at)
        assert found.value.code == "FILE_CHANGED"
    path.unlink()
    (tmp_path / "u.csv").write_text("id,x\n1,y\n")
    with pytest.raises(Corrupt, match="gone"):
        await read("*.csv", base=tmp_path, start=at)


async def test_text_in_front_of_a_position_that_changed_is_noticed(tmp_path: Path, read: Reading) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,x\n" + "".join(f"{n},some text\n" for n in range(3000)))
    at = await halfway(tmp_path, read)
    offset = place(at).offset
    data = bytearray(path.read_bytes())
    data[offset - 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="another one"):
        await read("t.csv", base=tmp_path, start=at)


def test_a_position_is_versioned() -> None:
    text = Place("a.csv", 10, 3, 10, 20, (10, 1), (10, 2)).text()
    assert json.loads(text)["v"] == 1
    assert place(text) == Place("a.csv", 10, 3, 10, 20, (10, 1), (10, 2))
    for foreign in ("", "{}", '{"v":2}', "[1]", text.replace('"offset"', '"where"')):
        with pytest.raises(Corrupt):
            place(Position(foreign))


def test_a_pin_keeps_every_type() -> None:
    schema = pl.Schema(
        {
            "i": pl.Int32(),
            "d": pl.Decimal(10, 2),
            "t": pl.Datetime("us", "UTC"),
            "s": pl.Struct({"x": pl.List(pl.Date())}),
        }
    )
    pin = Pin(FileFormat.PARQUET, schema, 12)
    assert pinned(pin.text()) == pin
    with pytest.raises(Corrupt):
        pinned("{}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a.csv", "delimiter": ";;"}, "one ASCII character"),
        ({"path": "a.csv", "encoding": "base64"}, "encoding"),
        ({"path": "a.csv", "encoding": "nope"}, "unknown encoding"),
        ({"path": "a.jsonl", "header": False}, "header has no meaning for jsonl"),
        ({"path": "a.csv", "columns": []}, "at least one column"),
        ({"path": "a.csv", "columns": ["a", "a"]}, "named twice"),
        ({"path": "a.csv", "columns": {"a": "INTT"}}, "did you mean INT"),
        ({"path": "a.csv", "quote": ",", "delimiter": ","}, "same character"),
        ({"path": "a.csv", "ragged": "drop"}, "ragged"),
        ({"path": "a.csv", "max_record": 0}, "max_record"),
        ({"path": "a.csv", "formatt": "csv"}, "formatt"),
        ({"path": "a.txt", "columns": ["x"]}, "columns has no meaning for text"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FileSourceConfig.model_validate(options)


def test_a_tsv_is_delimited_by_tabs() -> None:
    assert FileSourceConfig(path="a.tsv.gz").delimiter == "\t"
    assert FileSourceConfig(path="a.tsv", delimiter=",").delimiter == ","


async def test_a_sample_holds_one_record_at_least(tmp_path: Path, read: Reading) -> None:
    (tmp_path / "t.csv").write_text("n,x\n" + f"1,{'y' * 300_000}\n" * 3)
    got = await read("t.csv", base=tmp_path, sample=1)
    assert got.found.schema == pl.Schema({"n": pl.Int64(), "x": pl.String()})
    assert got.rows["n"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
async def test_rows_are_counted_where_no_column_is_needed(name: str, tmp_path: Path, read: Reading) -> None:
    frame = pl.DataFrame({"a": [1, 2, 3]})
    frame.write_csv(tmp_path / name) if name == "t.csv" else frame.write_parquet(tmp_path / name)
    got = await read(name, base=tmp_path, needed=[])
    assert sum(chunk.rows.height for chunk in got.chunks) == 3
