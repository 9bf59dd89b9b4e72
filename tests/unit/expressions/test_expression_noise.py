"""Whatever is written, the answer is a compiled expression that runs, or an `InvalidSpec` with a place in the text."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.errors import InvalidSpec
from dataflow.expressions import Program, compile
from dataflow.expressions.functions import TABLE

ROWS = pl.DataFrame(
    {"a": [1, None], "s": ["x", None], "ok": [True, None], "tags": [["x"], None], "user": [{"age": 1}, None]}
)
WORDS = [
    *(
        "a",
        "s",
        "ok",
        "tags",
        "user",
        ".age",
        "$.",
        "1",
        "2.5",
        "'x'",
        "''",
        '"a"',
        "NULL",
        "TRUE",
        "DATE '2024-01-31'",
    ),
    *("(", ")", "[", "]", ",", ".", ";", ":", "::", "=", "==", "<>", "<", ">", "+", "-", "*", "/", "//", "%", "^", "~"),
    *("!", "&&", "||", "AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "CASE", "WHEN", "THEN", "ELSE", "END", "AS"),
    *(
        "CAST(",
        "TRY_CAST(",
        "INT",
        "VARCHAR",
        "DATE",
        "INTERVAL",
        "DAY",
        "EXTRACT(",
        "FROM",
        "SELECT",
        "OVER",
        "->",
        "@",
    ),
    *("'", '"', "{", "}", "?", "#", "--", "/*", "\n", "é", "\\"),
]


def survives(text: str) -> None:
    try:
        compiled = compile(text, ROWS.schema)
    except InvalidSpec as refused:
        (problem,) = refused.problems
        lines = text.split("\n")
        assert problem.message
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        return
    done = Program({"r": compiled}).run(ROWS)
    failed = done.failures.rows.height if done.failures else 0
    assert done.rows.height + failed == ROWS.height
    assert done.rows.schema["r"] == compiled.dtype


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join) | st.text(max_size=12))
def test_noise(text: str) -> None:
    survives(text)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(TABLE)),
    st.lists(
        st.sampled_from(
            ["a", "s", "ok", "tags", "user", "1", "-1", "2.5", "'x'", "'%Y-%m-%d'", "'year'", "NULL", "'('"]
        ),
        max_size=4,
    ),
)
def test_any_function_with_any_arguments(name: str, arguments: list[str]) -> None:
    survives(f"{name}({', '.join(arguments)})")
