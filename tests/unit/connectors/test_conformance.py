"""Generator, memory and console keep the contract of the seams, under the kits that try to break it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataflow.connectors import console
from dataflow.connectors.console.sink import ConsoleConfig, ConsoleSink
from dataflow.connectors.generator import source as generator
from dataflow.connectors.generator.source import GeneratorConfig, GeneratorSource
from dataflow.connectors.memory import MemorySink, MemorySource, Store
from dataflow.seams import Context
from dataflow.testing.sink_kit import exercise_sink
from dataflow.testing.source_kit import exercise_source


def test_memory_sink() -> None:
    stores: dict[int, Store] = {}

    def make() -> MemorySink:
        kept = Store()
        sink = MemorySink(kept)
        stores[id(sink)] = kept
        held.append(sink)  # so that no id is given out again
        return sink

    held: list[MemorySink] = []
    exercise_sink(
        make,
        lambda sink: stores[id(sink)].rows.to_dicts(),
        lambda sink: stores[id(sink)].rejected.to_dicts(),
        examples=60,
        visible_at_once=True,
    )


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    console.redirect(None)


@pytest.mark.usefixtures("restored")
def test_console_sink(tmp_path: Path) -> None:
    numbers = count()
    screens: dict[int, tuple[io.StringIO, Path]] = {}
    held: list[ConsoleSink] = []

    def make() -> ConsoleSink:
        letters = tmp_path / f"dead-{next(numbers)}"
        context = Context(pipeline="kit", home=letters.with_suffix(".home"), dead_letters=letters)
        sink = ConsoleSink(ConsoleConfig(print_summary=False), context)
        screens[id(sink)] = io.StringIO(), letters
        console.redirect(screens[id(sink)][0])
        held.append(sink)
        return sink

    def read_rows(sink: Any) -> list[dict[str, Any]]:
        return [json.loads(line) for line in screens[id(sink)][0].getvalue().splitlines()]

    def read_dead(sink: Any) -> list[dict[str, Any]]:
        files = sorted(screens[id(sink)][1].glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    exercise_sink(make, read_rows, read_dead, examples=30)


@pytest.mark.parametrize("chunk_rows", [1, 7, 100])
def test_memory_source(chunk_rows: int) -> None:
    rows = pl.DataFrame({"n": range(40), "s": [None if n % 3 == 0 else str(n) for n in range(40)]})
    exercise_source(lambda: MemorySource({"a": rows, "b": rows.head(5), "c": rows.clear()}, chunk_rows=chunk_rows))


def generated(**options: object) -> Callable[[], GeneratorSource]:
    config = GeneratorConfig.model_validate(options)
    return lambda: GeneratorSource(config, Context(pipeline="p", parallelism=3, chunk_rows=50))


@pytest.mark.parametrize("kind", ["user", "event", "order", "sensor"])
def test_bounded_generator(kind: str) -> None:
    exercise_source(generated(kind=kind, rows=400, seed=9))


def test_empty_generator() -> None:
    exercise_source(generated(rows=0))


def test_endless_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CHUNK_ROWS", 33)
    exercise_source(generated(kind="order"), limit=500)
