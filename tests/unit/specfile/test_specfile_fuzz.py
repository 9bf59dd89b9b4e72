"""Whatever is in the file: a definition, or problems with places. Never another error."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow import specfile
from dataflow.errors import InvalidSpec

TEXT = """\
name: orders
description: "with 'quotes'"
source: {type: generator, kind: order, rows: 100, seed: 1, poll_interval: 1s}
transforms:
  - type: filter
    where: amount > 50 AND country <> 'US'
    on_error: skip
  - {type: map, set: {total: "amount * quantity"}, rename: {ts: at}, drop: [note]}
sinks:
  - &out {type: console, format: simple}
  - <<: *out
    name: two
    where: |
      total > 5
checkpoint: {interval: 1s, max_rows: 100000, max_bytes: 64MiB}
errors: {on_record: dead_letter}
retry: {max_attempts: 3, codes: [X]}
"""
WORDS = [
    *"{}[],:-\n\t'\"|>!%@#~1é😀\x00\u2028",
    ": ",
    "- ",
    "  ",
    "&a",
    "*a",
    "*out",
    "<<: ",
    "? ",
    "null",
    "true",
    ".nan",
]
WORDS += ["-1", "${env:X}", "${", "type", "name"]
EDITS = st.lists(
    st.tuples(st.integers(0, len(TEXT)), st.integers(0, 12), st.sampled_from(WORDS)), min_size=1, max_size=4
)


def edited(edits: list[tuple[int, int, str]]) -> str:
    text = TEXT
    for at, gone, new in edits:
        text = text[:at] + new + text[at + gone :]
    return text


def examined(text: str, **options: Any) -> None:
    try:
        loaded = specfile.loads(text, **options)
    except InvalidSpec as refused:
        assert refused.problems
        lines = text.split("\n")
        for problem in refused.problems:
            assert problem.message and problem.code
            assert 1 <= problem.line <= len(lines) + 1 and problem.column >= 1, problem
    else:
        stored = loaded.spec.stored()
        assert specfile.from_dict(stored).spec == loaded.spec


def test_the_text_itself_is_good() -> None:
    assert specfile.loads(TEXT).spec.sink_names() == ("sink1", "two")


@given(EDITS)
@settings(max_examples=200, deadline=None)
def test_edited_files(edits: list[tuple[int, int, str]]) -> None:
    examined(edited(edits))


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    examined(text)
    examined(text, strict_json=True)


KEYS = st.sampled_from(
    ["name", "source", "sink", "sinks", "transforms", "type", "where", "set", "errors", "retry", "x", ""]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(
    ["generator", "console", "filter", "map", "orders", "amount > 1", "${env:X}", "${x", "", "1s"]
)  # fmt: skip
DATA = st.recursive(LEAVES, lambda i: st.lists(i, max_size=3) | st.dictionaries(KEYS, i, max_size=5), max_leaves=20)


@given(st.dictionaries(KEYS, DATA, max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_data(data: dict[str, Any]) -> None:
    try:
        specfile.from_dict(data)
    except InvalidSpec as refused:
        assert refused.problems and all(problem.message for problem in refused.problems)
