"""What is wrong with an expression is found when the pipeline is validated, with its place and what to do."""

from __future__ import annotations

import polars as pl
import pytest

from dataflow.errors import InvalidSpec, Problem
from dataflow.expressions import columns, compile
from dataflow.expressions.syntax import DEEPEST, LONGEST, NESTED

SCHEMA = pl.Schema(
    {
        "amount": pl.Int64(),
        "price": pl.Float64(),
        "country": pl.String(),
        "active": pl.Boolean(),
        "ts": pl.Datetime("us"),
        "day": pl.Date(),
        "zoned": pl.Datetime("us", "UTC"),
        "tags": pl.List(pl.String()),
        "user": pl.Struct({"age": pl.Int64(), "address": pl.Struct({"city": pl.String()})}),
        "from": pl.Int64(),
    }
)


def refused(text: str) -> Problem:
    with pytest.raises(InvalidSpec) as caught:
        compile(text, SCHEMA, want="boolean")
    (problem,) = caught.value.problems
    assert problem.path == ""
    return problem


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        # syntax
        ("amount == 5 junk", 1, 13, "unexpected 'junk'", ""),
        ("amount >", 1, 9, "something is missing after '>'", ""),
        ("amount > 5 AND", 1, 15, "something is missing after 'AND'", ""),
        ("(amount > 5", 1, 12, "')' is missing", ""),
        ("amount > 5)", 1, 11, "unexpected ')'", ""),
        ("amount > 5,", 1, 11, "unexpected ','", ""),
        ("country = 'US", 1, 11, "the text that begins here is not closed", "add '"),
        ('"country = 5', 1, 1, "the name that begins here is not closed", 'add "'),
        ("amount > 5; TRUE", 1, 11, "unexpected ';'", ""),
        ("", 1, 1, "the expression is empty", ""),
        ("   ", 1, 1, "the expression is empty", ""),
        ("day > 2024-01-31", 1, 7, "is a subtraction", "write DATE '2024-01-31'"),
        ("from > 5", 1, 1, "unexpected 'from'", 'write "from" in double quotes'),
        # names
        ("amuont > 5", 1, 1, "unknown column 'amuont'", "did you mean 'amount'?"),
        ("amount > 5\n  AND contry = 'x'", 2, 7, "unknown column 'contry'", "did you mean 'country'?"),
        ("Amount > 5", 1, 1, "unknown column 'Amount'", "did you mean 'amount'?"),
        ('country = "US"', 1, 11, "unknown column 'US'", "single quotes: 'US'"),
        ("zzz > 5", 1, 1, "unknown column 'zzz'", "columns: amount, price"),
        ("user.agee > 5", 1, 1, "unknown field 'agee'", "did you mean 'age'?"),
        ("$.user.adress.city = 'x'", 1, 3, "unknown field 'adress'", "did you mean 'address'?"),
        ("amount.x > 5", 1, 1, "BIGINT has no field 'x'", ""),
        ("uper(country) = 'US'", 1, 1, "unknown function 'uper'", "did you mean 'upper'?"),
        # types
        ("'abc' > 5", 1, 1, "VARCHAR > BIGINT cannot be compared", "compare it with a number"),
        ("amount > '5'", 1, 1, "BIGINT > VARCHAR", "write 5 without quotes"),
        ("country > 5", 1, 1, "VARCHAR > BIGINT", "CAST(... AS DOUBLE)"),
        ("active = 'true'", 1, 1, "BOOLEAN = VARCHAR", "without quotes"),
        ("country + 1 > 2", 1, 1, "+ needs numbers, this is VARCHAR", "CONCAT"),
        ("amount > 1 AND price", 1, 16, "AND needs a condition, this is DOUBLE", ""),
        ("NOT amount", 1, 5, "NOT needs a condition", ""),
        ("country || 'x'", 1, 1, "OR needs a condition", "CONCAT(a, b) joins text"),
        ("amount", 1, 1, "a filter needs a condition, this is BIGINT", ""),
        ("amount < price < 5", 1, 1, "comparisons do not chain", "a < b AND b < c"),
        ("ts > 'yesterday'", 1, 6, "'yesterday' is not a TIMESTAMP", "such as"),
        ("ts > zoned", 1, 1, "cannot be compared", "time zone"),
        ("tags = 'x'", 1, 1, "VARCHAR[] = VARCHAR", ""),
        ("amount IN (1, 'x')", 1, 1, "BIGINT = VARCHAR", ""),
        ("length(amount) > 1", 1, 8, "LENGTH needs text or a list here, this is BIGINT", "LENGTH(sized)"),
        ("substr(country) = 'x'", 1, 1, "SUBSTR takes 2 to 3 arguments", ""),
        ("CAST(active AS DATE) = day", 1, 6, "BOOLEAN cannot be cast to DATE", ""),
        ("CAST(amount AS TIMESTAMP) = ts", 1, 6, "cannot be cast", "EPOCH_MS"),
        ("CAST(country AS strnig) = 'x'", 1, 6, "unknown type", ""),
        ("CASE WHEN active THEN 1 ELSE 'x' END = 1", 1, 11, "CASE needs values of one type", ""),
        ("regexp_matches(country, '(')", 1, 25, "no regular expression: unclosed group", ""),
        ("strptime(country, 'x') = ts", 1, 19, "no date format", ""),
        ("strptime(country, '%d.%m.%Y %H') = ts", 1, 19, "no timestamp can be read", "a whole date"),
        ("price // 2 = 1", 1, 1, "// divides integers", "FLOOR"),
        ("99999999999999999999 > amount", 1, 1, "does not fit into 64 bits", ""),
        # not in the language
        ("sum(amount) > 5", 1, 1, "SUM is an aggregate", "GREATEST"),
        ("amount IN (SELECT 1)", 1, 1, "IN is followed by values", ""),
        ("(SELECT amount)", 1, 9, "a subquery is not allowed", ""),
        ("row_number() OVER () > 1", 1, 1, "a window function is not allowed", ""),
        ("*", 1, 1, "* (all columns) is not allowed", ""),
        ("now() > ts", 1, 1, "unknown function 'now'", "reads no clock"),
        ("current_date > day", 1, 1, "unknown column 'current_date'", "reads no clock"),
        ("amount ^ 2 > 4", 1, 1, "not part of the language", "POWER"),
    ],
)
def test_refused(text: str, line: int, column: int, message: str, hint: str) -> None:
    problem = refused(text)
    assert message in problem.message
    assert hint in problem.hint
    assert (problem.line, problem.column) == (line, column)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 3000 + "active" + ")" * 3000,
        "NOT " * 3000 + "active",
        "NOT (" * 16 + "active" + ")" * 16 + " AND " + "(" * 31 + "active" + ")" * 31,
        "amount > " + "CASE WHEN active THEN " * 31 + "1" + " END" * 31,
        "amount[" * 31 + "0" + "]" * 31 + " > 1",
    ],
)
def test_nesting_is_bounded(text: str) -> None:
    assert f"nested deeper than {NESTED}" in refused(text).message


def test_nesting_up_to_the_bound_is_fine() -> None:
    assert compile("(" * NESTED + "active" + ")" * NESTED, SCHEMA).dtype == pl.Boolean()
    assert compile("amount" + " + 1" * (DEEPEST - 5), SCHEMA).dtype == pl.Int64()


def test_depth_and_length_are_bounded() -> None:
    assert f"more than {DEEPEST} levels" in refused("amount" + " + 1" * 500 + " > 0").message
    assert "longer than" in refused("TRUE" + " " * LONGEST).message


def test_a_long_chain_is_no_depth() -> None:
    text = " OR ".join(f"amount = {n}" for n in range(1000))
    compiled = compile(text, SCHEMA, want="boolean")
    rows = pl.DataFrame({"amount": [5, 5000]})
    assert rows.select(compiled.expr.alias("r"))["r"].to_list() == [True, False]


def test_columns_before_a_schema_is_known() -> None:
    assert columns("$.user.age > 5 AND upper(country) = 'amount' OR \"my col\" IS NULL") == {
        "user",
        "country",
        "my col",
    }
    assert compile("user.age > 5 AND active", SCHEMA).columns == {"user", "active"}
