"""The file source under the kit that every source must pass: good and broken files, every format, small chunks."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from dataflow.connectors.file import SOURCE
from dataflow.seams import Context, Source
from dataflow.testing.source_kit import exercise_source

BROKEN = Path(__file__).parents[2] / "corpus" / "broken"
EXPECTED = json.loads((BROKEN / "expected.json").read_text())


def prepare(folder: Path, kind: str) -> str:
    rows = [{"id": n, "name": f'say "{n}",\nplease' if n % 7 else None, "x": n / 4} for n in range(400)]
    frame = pl.DataFrame(rows)
    if kind == "csv":
        frame.write_csv(folder / "t.csv")
    elif kind == "csv.gz":
        (folder / "t.csv.gz").write_bytes(gzip.compress(frame.write_csv().encode()))
    elif kind == "jsonl":
        frame.write_ndjson(folder / "t.jsonl")
    elif kind == "json":
        (folder / "t.json").write_text(json.dumps(rows))
    elif kind == "txt":
        (folder / "t.txt").write_text(frame.write_csv())
    elif kind == "parquet":
        frame.write_parquet(folder / "t.parquet", row_group_size=90)
    else:
        for number in range(7):
            frame.slice(number * 50, 50).write_csv(folder / f"part-{number}.csv")
        return "*.csv"
    return f"t.{kind}"


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "json", "txt", "parquet", "folder"])
def test_every_format(kind: str, parallelism: int, tmp_path: Path) -> None:
    path = prepare(tmp_path, kind)

    def make() -> Source:
        context = Context(pipeline="kit", base=tmp_path, chunk_rows=37, parallelism=parallelism)
        source: Source = SOURCE.build(SOURCE.config.model_validate({"path": path}), context)
        return source

    exercise_source(make, resumes=8)


@pytest.mark.parametrize("name", EXPECTED)
def test_broken_files(name: str) -> None:
    def make() -> Source:
        config = SOURCE.config.model_validate({"path": name, **EXPECTED[name]["options"]})
        source: Source = SOURCE.build(config, Context(pipeline="kit", base=BROKEN, chunk_rows=1))
        return source

    exercise_source(make)
