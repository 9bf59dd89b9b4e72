"""The file sink under the conformance kit: every format, parts and single files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from dataflow.connectors.file.sink import SINK, FileSink
from dataflow.seams import Context, Sink
from dataflow.testing import exercise_sink


def make_in(folder: Path, name: str, **options: Any) -> Callable[[], Sink]:
    def make() -> Sink:
        base = Path(tempfile.mkdtemp(dir=folder))
        return SINK.build(SINK.config(path=name, **options), Context(pipeline="kit", base=base))

    return make


def plain(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data


def parsed(path: Path) -> list[dict[str, Any]]:
    """With readers that share nothing with the encoders."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(".parquet"):
        return pl.read_parquet(path).to_dicts()
    text = plain(path).decode()
    if name.endswith(".csv"):
        return [{"lane": int(row["lane"]), "n": int(row["n"])} for row in csv.DictReader(io.StringIO(text, newline=""))]
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    pairs = [line.split("/") for line in text.splitlines()]
    return [{"lane": int(lane), "n": int(n)} for lane, n in pairs]


def read_rows(sink: Sink) -> list[dict[str, Any]]:
    assert isinstance(sink, FileSink)
    if sink.path.is_file():
        return parsed(sink.path)
    return [row for path in sorted(sink.path.glob("*")) for row in parsed(path)]


def read_dead(sink: Sink) -> list[dict[str, Any]]:
    assert isinstance(sink, FileSink)
    return [row for path in sorted(sink.dead_letters.glob("*")) for row in parsed(path)]


@pytest.mark.parametrize(
    "name", ["o.csv", "o.jsonl", "o.json", "o.parquet", "o.csv.gz", "o.json.gz", "o.jsonl.zst", "o.txt"]
)
def test_single_file(quick: Path, name: str) -> None:
    options = {"columns": ("text",)} if name == "o.txt" else {}
    exercise_sink(make_in(quick, name, **options), read_rows, read_dead, examples=20)


@pytest.mark.parametrize(
    "options",
    [{"format": "parquet"}, {"format": "jsonl", "compression": "gzip"}, {"format": "csv", "rotate_size": "40B"}],
    ids=["parquet", "jsonl.gz", "csv, rotated"],
)
def test_parts(quick: Path, options: dict[str, Any]) -> None:
    exercise_sink(make_in(quick, "o", **options), read_rows, read_dead, examples=20, visible_at_once=True)
