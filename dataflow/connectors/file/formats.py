"""What a file's name says about its format and its compression."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePath


class FileFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"
    TEXT = "text"
    PARQUET = "parquet"


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_FORMATS = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".tab": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSON,
    ".txt": FileFormat.TEXT,
    ".text": FileFormat.TEXT,
    ".log": FileFormat.TEXT,
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
}
_CODECS = {".gz": Compression.GZIP, ".gzip": Compression.GZIP, ".zst": Compression.ZSTD, ".zstd": Compression.ZSTD}
TABBED = frozenset({".tsv", ".tab"})


def suffixes(name: str) -> tuple[str, Compression]:
    """The suffix that tells the format (empty where there is none), and the compression behind it."""
    path = PurePath(name)
    codec = _CODECS.get(path.suffix.lower())
    inner = PurePath(path.stem).suffix if codec else path.suffix
    return inner.lower(), codec or Compression.NONE


def format_of(name: str) -> FileFormat | None:
    """The format its suffix names; None where it names none."""
    return _FORMATS.get(suffixes(name)[0])


def compression_of(name: str) -> Compression:
    return suffixes(name)[1]
