"""What follows from a path, and which options contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dataflow.connectors.file.sink_config import FileSinkConfig


@pytest.mark.parametrize(
    ("path", "kind", "codec"),
    [
        ("a.csv", "csv", "none"),
        ("a.TSV", "csv", "none"),
        ("a.jsonl.gz", "jsonl", "gzip"),
        ("a.ndjson.zst", "jsonl", "zstd"),
        ("a.b.json", "json", "none"),
        ("a.txt", "text", "none"),
        ("a.parquet", "parquet", "zstd"),
    ],
)
def test_format_and_compression_follow_from_the_suffix(path: str, kind: str, codec: str) -> None:
    config = FileSinkConfig(path=path)
    assert (config.file_format, config.codec, config.single) == (kind, codec, True)


def test_a_folder_names_its_format() -> None:
    assert FileSinkConfig(path="out", format="jsonl", compression="gzip").part_suffix == ".jsonl.gz"
    assert FileSinkConfig(path="out", format="parquet").part_suffix == ".parquet"
    assert not FileSinkConfig(path="out.d/", format="csv").single
    assert FileSinkConfig(path="x.tsv").delimiter == "\t"
    assert FileSinkConfig(path="x.tsv", delimiter=";").delimiter == ";"


@pytest.mark.parametrize(
    "options",
    [
        {"path": "out"},
        {"path": "out.xyz"},
        {"path": ""},
        {"path": "a.csv", "delimiter": "::"},
        {"path": "a.csv", "delimiter": '"'},
        {"path": "a.csv", "encoding": "no-such"},
        {"path": "a.csv", "encoding": "base64"},
        {"path": "a.csv", "rotate_size": "1MiB"},
        {"path": "out", "format": "csv", "rotate_size": 0},
        {"path": "a.json", "delimiter": ";"},
        {"path": "a.jsonl", "encoding": "latin-1"},
        {"path": "a.csv", "columns": ["a", "a"]},
        {"path": "a.csv", "columns": []},
        {"path": "a.csv", "compression_level": 3},
        {"path": "a.csv.gz", "compression_level": 10},
        {"path": "a.csv", "delimeter": ";"},
        {"path": "a.csv", "format": "xml"},
    ],
    ids=str,
)
def test_contradictions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FileSinkConfig(**options)
