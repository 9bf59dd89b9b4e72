"""The plug-in of examples/plugin: under the kits, and found by its entry points without a change in the core."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataflow.embedded.temporal import Address
from dataflow.seams import Context
from dataflow.testing import exercise_sink, exercise_source, exercise_transform

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in's wheel, built as `pip install` builds it, and unpacked in a folder of its own."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheels")]
    done = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "wheels").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """`plugin("sink")`: a module of the plug-in, in this process."""
    import importlib

    monkeypatch.syspath_prepend(str(installed))
    yield lambda name: importlib.import_module(f"dataflow_sqlite.{name}")
    for name in [name for name in sys.modules if name.startswith("dataflow_sqlite")]:
        del sys.modules[name]


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]


def test_sink(plugin: Any, tmp_path: Path) -> None:
    module, numbers = plugin("sink"), count()

    def make() -> Any:
        config = module.SqliteSinkConfig(path=f"out-{next(numbers)}.db", table="t")
        return module.SqliteSink(config, Context(pipeline="kit", base=tmp_path))

    exercise_sink(
        make,
        lambda sink: rows_of(sink.path, "t"),  # type: ignore[attr-defined]
        lambda sink: rows_of(sink.path, "t_dead"),  # type: ignore[attr-defined]
        examples=25,
        visible_at_once=True,
    )


def fill(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE payments (id INTEGER, card TEXT, amount REAL)")
        values = [(n, None if n % 9 == 0 else f"4000 0000 0000 {n:04}", n / 10) for n in range(500)]
        connection.executemany("INSERT INTO payments VALUES (?, ?, ?)", values)
        connection.execute("DELETE FROM payments WHERE id % 7 = 3")  # rowids have gaps
        connection.commit()


def test_source(plugin: Any, tmp_path: Path) -> None:
    module = plugin("source")
    fill(tmp_path / "shop.db")
    config = module.SqliteSourceConfig(path="shop.db", table="payments")
    exercise_source(
        lambda: module.SqliteSource(config, Context(pipeline="kit", base=tmp_path, chunk_rows=37)), examples=15
    )


def test_transform(plugin: Any) -> None:
    module = plugin("mask")
    rows = pl.DataFrame({"card": ["1234567", "12", "", None] * 10, "n": range(40)})
    made = module.Mask(module.MaskConfig(columns=("card",)), Context(pipeline="kit"))
    assert made.apply(rows.head(4)).rows["card"].to_list() == ["***4567", "12", "", None]
    exercise_transform(lambda: module.Mask(module.MaskConfig(columns=("card",)), Context(pipeline="kit")), rows)


@pytest.mark.temporal
def test_the_core_finds_it_by_its_entry_points(installed: Path, tmp_path: Path, temporal: Address) -> None:
    fill(tmp_path / "shop.db")
    shutil.copy(PLUGIN / "payments.yaml", tmp_path)
    env = {name: value for name, value in os.environ.items() if not name.startswith("DATAFLOW_")}
    env |= {"DATAFLOW_HOME": str(tmp_path / "home"), "DATAFLOW_TEMPORAL_ADDRESS": temporal.target}
    env |= {"DATAFLOW_TASK_QUEUE": "plugin", "PYTHONPATH": str(installed)}

    def dataflow(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dataflow", *words]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    done = dataflow("run", "payments.yaml", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    wanted = [row for row in rows_of(tmp_path / "shop.db", "payments") if row["amount"] > 10]
    found = rows_of(tmp_path / "masked.db", "payments")
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    assert {row["card"] and row["card"][:-4] for row in found} == {None, "*" * 15}
    assert (result["status"], result["records_written"]) == ("completed", len(wanted))

    proof = dataflow("prove", "masked-payments")
    assert (proof.returncode, proof.stdout.splitlines()[-1]) == (0, "proved"), proof.stdout
    with closing(sqlite3.connect(tmp_path / "masked.db")) as connection:
        connection.execute("DELETE FROM payments WHERE id = 200")
        connection.commit()
    proof = dataflow("prove", "masked-payments")
    assert proof.returncode == 1 and "rows are there" in proof.stdout

    # Without it, the same file names a type that is not known.
    env["PYTHONPATH"] = ""
    refused = dataflow("validate", "payments.yaml")
    assert refused.returncode == 2 and "unknown source type 'sqlite'" in refused.stderr + refused.stdout
