"""What expressions give: a table of expressions over one frame, with their types."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from dataflow.expressions import Program, compile, type_name

T = dt.datetime(2024, 1, 31, 10, 30, 15)
ROWS = pl.DataFrame(
    {
        "a": [7, -7, None],
        "i32": pl.Series([1, 2, 3], dtype=pl.Int32),
        "u64": pl.Series([1, 2, 3], dtype=pl.UInt64),
        "f": [2.5, -0.5, None],
        "m": [Decimal("1.25"), Decimal("2.50"), None],
        "s": ["a,b", "Héllo World", None],
        "ok": [True, False, None],
        "ts": [T, T, None],
        "d": [dt.date(2024, 1, 31), dt.date(2024, 2, 29), None],
        "z": pl.Series([T, T, None]).dt.replace_time_zone("UTC"),
        "tags": [["x", "y"], [], None],
        "user": [{"age": 21, "first name": "Ann"}, {"age": None, "first name": "Bo"}, None],
        "cat": pl.Series(["x", "y", None], dtype=pl.Categorical),
        "a.b": [1, 2, 3],
        "my col": [1, 2, 3],
        "nothing": [None, None, None],
        "blob": [b"x", b"y", None],
    }
)


def values(text: str) -> tuple[str, list[Any]]:
    done = Program({"r": compile(text, ROWS.schema)}).run(ROWS)
    assert done.failures is None
    return type_name(done.rows.schema["r"]), done.rows["r"].to_list()


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        # the original's spellings; quotes are respected
        ("a == 7 && ok", "BOOLEAN", [True, False, None]),
        ("a == 7 || ok", "BOOLEAN", [True, False, None]),
        ("!(a == 7)", "BOOLEAN", [False, True, None]),
        ("a != 7", "BOOLEAN", [False, True, None]),
        ("s = 'a && b || c == d'", "BOOLEAN", [False, False, None]),
        ("$.user.age >= 21", "BOOLEAN", [True, None, None]),
        # AND binds closer than OR, NOT closer than AND
        ("TRUE OR FALSE AND FALSE", "BOOLEAN", [True] * 3),
        ("NOT FALSE AND FALSE", "BOOLEAN", [False] * 3),
        ("(TRUE OR FALSE) AND FALSE", "BOOLEAN", [False] * 3),
        # integers stay integers, in 64 bits
        ("a * 2 + 1", "BIGINT", [15, -13, None]),
        ("i32 + 1", "BIGINT", [2, 3, 4]),
        ("u64 - 5", "BIGINT", [-4, -3, -2]),
        ("a // 2", "BIGINT", [3, -3, None]),
        ("a % 3", "BIGINT", [1, -1, None]),
        ("a / 2", "DOUBLE", [3.5, -3.5, None]),
        ("a / 0", "DOUBLE", [None] * 3),
        ("a // 0", "BIGINT", [None] * 3),
        ("a % 0", "BIGINT", [None] * 3),
        ("f % 0", "DOUBLE", [None] * 3),
        ("f / 0.0", "DOUBLE", [None] * 3),
        ("-9223372036854775808", "BIGINT", [-(2**63)] * 3),
        ("m * 2", "DECIMAL(38, 2)", [Decimal("2.50"), Decimal("5.00"), None]),
        ("1.5", "DOUBLE", [1.5] * 3),
        ("nothing + 1", "BIGINT", [None] * 3),
        # NULL
        ("a = NULL", "BOOLEAN", [None] * 3),
        ("a IS NULL", "BOOLEAN", [False, False, True]),
        ("a IS NOT NULL", "BOOLEAN", [True, True, False]),
        ("ok IS TRUE", "BOOLEAN", [True, False, False]),
        ("ok IS NOT TRUE", "BOOLEAN", [False, True, True]),
        ("a IN (7, NULL)", "BOOLEAN", [True, None, None]),
        ("a NOT IN (7, 8)", "BOOLEAN", [False, True, None]),
        ("exists(user.age)", "BOOLEAN", [True, False, False]),
        ("coalesce(a, 0)", "BIGINT", [7, -7, 0]),
        ("nullif(a, 7)", "BIGINT", [None, -7, None]),
        ("if(ok, 'yes', 'no')", "VARCHAR", ["yes", "no", "no"]),
        ("CASE WHEN a > 0 THEN 'p' WHEN a < 0 THEN 'n' END", "VARCHAR", ["p", "n", None]),
        ("CASE a WHEN 7 THEN 1 ELSE 2.5 END", "DOUBLE", [1.0, 2.5, 2.5]),
        ("greatest(a, 0)", "BIGINT", [7, 0, 0]),
        # names
        ('"my col" + 1', "BIGINT", [2, 3, 4]),
        ('"a.b" + 1', "BIGINT", [2, 3, 4]),
        ('user."first name"', "VARCHAR", ["Ann", "Bo", None]),
        ("user['age']", "BIGINT", [21, None, None]),
        ("tags[0]", "VARCHAR", ["x", None, None]),
        ("tags[-1]", "VARCHAR", ["y", None, None]),
        ("length(tags)", "BIGINT", [2, 0, None]),
        ("contains(tags, 'x')", "BOOLEAN", [True, False, None]),
        ("cat = 'x'", "BOOLEAN", [True, False, None]),
        ("cat", "VARCHAR", ["x", "y", None]),
        # text
        ("s LIKE '%,_'", "BOOLEAN", [True, False, None]),
        ("s ILIKE 'h%'", "BOOLEAN", [False, True, None]),
        ("s NOT LIKE '%o%'", "BOOLEAN", [True, False, None]),
        ("'50%' LIKE '50!%' ESCAPE '!'", "BOOLEAN", [True] * 3),
        ("'x.y' LIKE 'x_y' AND NOT 'xzy' LIKE 'x.y'", "BOOLEAN", [True] * 3),
        ("'it''s'", "VARCHAR", ["it's"] * 3),
        ("concat(s, '-', a)", "VARCHAR", ["a,b-7", "Héllo World--7", "-"]),
        ("length(s)", "BIGINT", [3, 11, None]),
        ("regexp_matches(s, '^h', 'i')", "BOOLEAN", [False, True, None]),
        ("regexp_replace(s, '([a-z])', '<\\1>')", "VARCHAR", ["<a>,b", "Hé<l>lo World", None]),
        ("regexp_replace(s, 'l', '$', 'g')", "VARCHAR", ["a,b", "Hé$$o Wor$d", None]),
        ("regexp_extract(s, '(\\w+) (\\w+)', 2)", "VARCHAR", [None, "World", None]),
        ("split_part(s, ',', 2)", "VARCHAR", ["b", "", None]),
        ("split(s, ',')", "VARCHAR[]", [["a", "b"], ["Héllo World"], None]),
        ("instr(s, 'l')", "BIGINT", [0, 3, None]),
        ("left(s, 2)", "VARCHAR", ["a,", "Hé", None]),
        ("json_extract_string('{\"a\": {\"b\": 1}}', '$.a.b')", "VARCHAR", ["1"] * 3),
        ("to_json(user)", "VARCHAR", ['{"age":21,"first name":"Ann"}', '{"age":null,"first name":"Bo"}', None]),
        ("array_to_string(tags, '+')", "VARCHAR", ["x+y", "", None]),
        # time
        ("ts > '2024-01-31'", "BOOLEAN", [True, True, None]),
        ("d BETWEEN '2024-01-01' AND '2024-01-31'", "BOOLEAN", [True, False, None]),
        ("z >= '2024-01-31 10:30:15'", "BOOLEAN", [True, True, None]),
        ("ts > d", "BOOLEAN", [True, False, None]),
        ("d = DATE '2024-01-31'", "BOOLEAN", [True, False, None]),
        ("ts + INTERVAL '1 month'", "TIMESTAMP", [T.replace(month=2, day=29)] * 2 + [None]),
        ("d - INTERVAL 1 DAY", "DATE", [dt.date(2024, 1, 30), dt.date(2024, 2, 28), None]),
        ("d - DATE '2024-01-01'", "BIGINT", [30, 59, None]),
        ("date_trunc('hour', ts)", "TIMESTAMP", [T.replace(minute=0, second=0)] * 2 + [None]),
        ("extract(month FROM ts)", "BIGINT", [1, 1, None]),
        ("date_part('minute', ts)", "BIGINT", [30, 30, None]),
        ("dayofweek(d)", "BIGINT", [3, 4, None]),
        ("hour(d)", "BIGINT", [0, 0, None]),
        ("date_diff('month', d, ts)", "BIGINT", [0, -1, None]),
        ("strftime(d, '%d.%m.%Y')", "VARCHAR", ["31.01.2024", "29.02.2024", None]),
        ("strptime('31.01.2024 10:30', '%d.%m.%Y %H:%M')", "TIMESTAMP", [T.replace(second=0)] * 3),
        ("strptime('31.01.2024', '%d.%m.%Y')", "TIMESTAMP", [dt.datetime(2024, 1, 31)] * 3),
        ("epoch_ms(ts)", "BIGINT", [1706697015000] * 2 + [None]),
        ("epoch_ms(1706697015000)", "TIMESTAMP", [T] * 3),
        # casts
        ("CAST('12' AS INT)", "BIGINT", [12] * 3),
        ("' 12 '::INT", "BIGINT", [12] * 3),
        ("TRY_CAST(s AS INT)", "BIGINT", [None] * 3),
        ("TRY_CAST(' 5' AS INT)", "BIGINT", [5] * 3),
        ("CAST(f AS INT)", "BIGINT", [3, -1, None]),
        ("CAST(a AS DECIMAL(10, 2))", "DECIMAL(10, 2)", [Decimal("7.00"), Decimal("-7.00"), None]),
        ("CAST(ok AS INT)", "BIGINT", [1, 0, None]),
        ("CAST('yes' AS BOOLEAN)", "BOOLEAN", [True] * 3),
        ("CAST(ts AS VARCHAR)", "VARCHAR", ["2024-01-31 10:30:15"] * 2 + [None]),
        ("CAST(concat('2024-01-31T10:30:15', 'Z') AS TIMESTAMP)", "TIMESTAMP", [T] * 3),
        ("CAST(concat('2024-01-31T12:30:15', '+02:00') AS TIMESTAMP)", "TIMESTAMP", [T] * 3),
        ("CAST(concat('2024-01-31', ' 10:30:15.5') AS TIMESTAMP)", "TIMESTAMP", [T.replace(microsecond=500_000)] * 3),
        ("CAST(ts AS DATE)", "DATE", [T.date(), T.date(), None]),
        ("blob", "BLOB", [b"x", b"y", None]),
    ],
)
def test_value(text: str, dtype: str, expected: list[Any]) -> None:
    assert values(text) == (dtype, expected)


@pytest.mark.parametrize("name", ROWS.columns)
def test_a_column_keeps_its_type(name: str) -> None:
    """Row 184: an expression that is only a column changes nothing (categories become text)."""
    compiled = compile(f'"{name}"', ROWS.schema)
    expected = pl.String() if name == "cat" else ROWS.schema[name]
    assert compiled.dtype == expected
    assert ROWS.select(compiled.expr.alias("r"))["r"].to_list() == ROWS[name].to_list()


@pytest.mark.parametrize("text", ["TRUE AND ok", "ok AND TRUE", "NULL AND FALSE", "NULL OR TRUE", "NOT NULL"])
def test_null_decides_nothing(text: str) -> None:
    expected = {"NULL AND FALSE": [False] * 3, "NULL OR TRUE": [True] * 3, "NOT NULL": [None] * 3}
    assert values(text)[1] == expected.get(text, [True, False, None])
