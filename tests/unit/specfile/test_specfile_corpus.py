"""Fifty and more broken pipeline files: each is refused, and each problem is where it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataflow import specfile
from dataflow.errors import InvalidSpec, Problem
from dataflow.validation import check

CORPUS = Path(__file__).parents[2] / "corpus" / "specs"
EXPECTED: dict[str, list[list[object]]] = json.loads((CORPUS / "expected.json").read_text())
FILES = sorted(path.name for path in CORPUS.iterdir() if path.name != "expected.json")


async def found(path: Path, home: Path) -> tuple[Problem, ...]:
    try:
        loaded = specfile.load(path)
    except InvalidSpec as refused:
        return refused.problems
    report = await check(loaded, home=home)
    return (*report.problems, *report.unresolved)


def test_every_file_has_its_expectation() -> None:
    assert sorted(EXPECTED) == FILES
    assert len(FILES) >= 50


@pytest.mark.parametrize("name", FILES)
async def test_broken_file_is_located(name: str, tmp_path: Path) -> None:
    problems = await found(CORPUS / name, tmp_path)
    assert [[p.line, p.column, p.path, p.code] for p in problems] == EXPECTED[name]
    assert all(p.message and p.line >= 1 and p.column >= 1 for p in problems)


@pytest.mark.parametrize("name", FILES)
async def test_messages_are_for_people(name: str, tmp_path: Path) -> None:
    for problem in await found(CORPUS / name, tmp_path):
        text = str(problem)
        assert "pydantic" not in text.lower() and "Input should" not in text and "<unicode string>" not in text
        assert "\n" not in text and len(text) < 400


NEAREST = {
    "27-unknown-top-key.yaml": "transforms",
    "28-unknown-option.yaml": "rows",
    "29-unknown-nested-key.yaml": "interval",
    "30-unknown-transform-key.yaml": "set",
    "31-unknown-sink-key.yaml": "format",
    "34-unknown-source-type.yaml": "generator",
    "35-unknown-transform-type.yaml": "filter",
    "36-unknown-sink-type.yaml": "console",
    "45-bad-choice.yaml": "dead_letter",
    "46-bad-format.yaml": "parquet",
    "54-unknown-column.yaml": "amount",
}


@pytest.mark.parametrize("name", NEAREST)
async def test_the_nearest_is_named(name: str, tmp_path: Path) -> None:
    [problem] = await found(CORPUS / name, tmp_path)
    assert problem.hint == f"did you mean {NEAREST[name]!r}?"
