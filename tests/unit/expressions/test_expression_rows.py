"""Rows that cannot be computed are told apart from the others, once each, with the value in the message."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.expressions import Program, compile

BIG = 2**63 - 1


def run(text: str, rows: pl.DataFrame) -> tuple[list[object], list[tuple[object, ...]]]:
    done = Program({"r": compile(text, rows.schema)}, {"r": "r"}).run(rows)
    reasons = done.failures.reasons.rows() if done.failures else []
    assert done.rows.height + len(reasons) == rows.height
    return done.rows["r"].to_list(), reasons


def test_a_failing_cast_takes_only_its_row() -> None:
    rows = pl.DataFrame({"s": ["1", "x", None, " 4 ", "1.5", ""]})
    good, bad = run("CAST(s AS INT)", rows)
    assert good == [1, None, 4]
    assert bad == [
        ("CAST_FAILED", "r: 'x' is not a BIGINT"),
        ("CAST_FAILED", "r: '1.5' is not a BIGINT"),
        ("CAST_FAILED", "r: '' is not a BIGINT"),
    ]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("k = 'n' AND CAST(s AS INT) > 0", [True, False]),
        ("k <> 'n' OR CAST(s AS INT) > 0", [True, True]),
        ("CASE WHEN k = 'n' THEN CAST(s AS INT) > 0 ELSE FALSE END", [True, False]),
        ("IF(k = 'n', CAST(s AS INT), 0) > 0", [True, False]),
        ("COALESCE(k = 'n', CAST(s AS INT) > 0)", [True, False]),
    ],
)
def test_what_is_not_reached_cannot_fail(text: str, good: list[bool]) -> None:
    rows = pl.DataFrame({"k": ["n", "t"], "s": ["5", "text"]})
    assert run(text, rows) == (good, [])


def test_what_is_reached_fails() -> None:
    rows = pl.DataFrame({"k": ["n", "n"], "s": ["5", "text"]})
    good, bad = run("k = 'n' AND CAST(s AS INT) > 0", rows)
    assert good == [True]
    assert bad == [("CAST_FAILED", "r: 'text' is not a BIGINT")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("strptime(s, '%Y-%m-%d')", "STRPTIME_FAILED"),
        ("CAST(s AS DATE)", "CAST_FAILED"),
        ("CAST(s AS BOOLEAN)", "CAST_FAILED"),
        ("CAST(s AS DECIMAL(4, 2))", "CAST_FAILED"),
        ("CAST(s AS TIME)", "CAST_FAILED"),
        ("CAST(s AS TIMESTAMPTZ)", "CAST_FAILED"),
        ("CAST(CAST(s AS DOUBLE) AS INT)", "CAST_FAILED"),
    ],
)
def test_every_strict_conversion_reports(text: str, code: str) -> None:
    good, bad = run(text, pl.DataFrame({"s": ["{} no", None]}))
    assert good == [None]
    assert [(c, "{} no" in str(m)) for c, m in bad] == [(code, True)]


def test_numbers_that_do_not_fit_are_errors() -> None:
    assert run("CAST(n AS TINYINT)", pl.DataFrame({"n": [1, 300]})) == (
        [1],
        [("CAST_FAILED", "r: 300 is not a TINYINT")],
    )
    assert run("epoch_ms(n)", pl.DataFrame({"n": [BIG]}))[1] == [("CAST_FAILED", f"r: {BIG} is no TIMESTAMP")]


@pytest.mark.parametrize(
    ("text", "a", "b"),
    [
        ("a + b", BIG, 1),
        ("a - b", -BIG, 2),
        ("a * b", 2**32, 2**31),
        ("a * b", -(2**40), 2**40),
        ("a * b", 2**40, -(2**40)),
        ("-a", -BIG - 1, 0),
        ("abs(a)", -BIG - 1, 0),
        ("a // b", -BIG - 1, -1),
        ("a + b - b", BIG, 1),
        ("(a * b) * 0", BIG, BIG),
    ],
)
def test_integers_never_wrap(text: str, a: int, b: int) -> None:
    good, bad = run(text, pl.DataFrame({"a": [1, a, None], "b": [1, b, 1]}, schema={"a": pl.Int64, "b": pl.Int64}))
    assert len(good) == 2
    assert [code for code, _ in bad] == ["OVERFLOW"]
    assert "does not fit into 64 bits" in str(bad[0][1])


def test_unsigned_numbers_beyond_the_range_are_errors() -> None:
    rows = pl.DataFrame({"u": pl.Series([1, 2**64 - 1], dtype=pl.UInt64)})
    good, bad = run("u + 0", rows)
    assert good == [1]
    assert [code for code, _ in bad] == ["OVERFLOW"]
    assert run("u", rows) == ([1, 2**64 - 1], [])
    assert run("u > 5", rows) == ([False, True], [])


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(*[st.none() | st.integers(-BIG - 1, BIG) | st.integers(-5, 5)] * 2), min_size=1, max_size=6
    ),
    text=st.sampled_from(["a + b * a", "a - b - 7", "a * b // 3", "-(a % 7) * b", "abs(a) + b"]),
)
def test_arithmetic_is_pythons_or_an_error(pairs: list[tuple[int | None, int | None]], text: str) -> None:
    def exact(a: int | None, b: int | None) -> int | None:
        """The value over unbounded integers; raises where a step leaves 64 bits. Rounds towards zero."""

        def fits(n: int) -> int:
            if not -BIG - 1 <= n <= BIG:
                raise OverflowError
            return n

        if a is None or b is None:
            return None
        rest = abs(a) % 7 * (1 if a >= 0 else -1)
        steps = {
            "a + b * a": lambda: fits(a + fits(b * a)),
            "a - b - 7": lambda: fits(fits(a - b) - 7),
            "a * b // 3": lambda: (lambda n: abs(n) // 3 * (1 if n >= 0 else -1))(fits(a * b)),
            "-(a % 7) * b": lambda: fits(fits(-rest) * b),
            "abs(a) + b": lambda: fits(fits(abs(a)) + b),
        }
        return steps[text]()

    expected: list[int | None] = []
    for a, b in pairs:
        try:
            expected.append(exact(a, b))
        except OverflowError:
            continue
    rows = pl.DataFrame(pairs, schema={"a": pl.Int64, "b": pl.Int64}, orient="row")
    good, bad = run(text, rows)
    assert good == expected
    assert {code for code, _ in bad} <= {"OVERFLOW"}


def test_a_row_is_reported_once_with_its_first_error() -> None:
    rows = pl.DataFrame({"s": ["x", "2"], "t": ["y", "z"]})
    program = Program({n: compile(f"CAST({n} AS INT)", rows.schema) for n in "st"}, {"s": "first", "t": "second"})
    done = program.run(rows)
    assert done.rows.is_empty()
    assert done.failures is not None
    assert done.failures.rows.equals(rows)
    assert done.failures.reasons["message"].to_list() == ["first: 'x' is not a BIGINT", "second: 'z' is not a BIGINT"]


def test_what_polars_refuses_at_run_time_is_narrowed_down_to_its_rows() -> None:
    """No expression is known to do this: the narrowing is tried with a strict cast that the compiler never makes."""
    from dataclasses import replace

    rows = pl.DataFrame({"s": ["1", "2", "x", "4", "y"]})
    strict = replace(compile("TRY_CAST(s AS INT)", rows.schema), expr=pl.col("s").cast(pl.Int64, strict=True))
    done = Program({"r": strict}).run(rows)
    assert done.rows["r"].to_list() == [1, 2, 4]
    assert done.failures is not None
    assert done.failures.rows["s"].to_list() == ["x", "y"]
    assert set(done.failures.reasons["code"]) == {"EVALUATION_FAILED"}


def test_an_empty_batch() -> None:
    rows = pl.DataFrame({"a": [1]}).clear()
    assert run("a * a + 9223372036854775807", rows) == ([], [])
