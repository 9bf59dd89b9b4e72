"""Six formats, letter by letter: plain, and with colour, time and metadata."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.console.render import Format, Style, render

GOLDEN = Path(__file__).parent / "golden"
MOMENT = datetime(2024, 2, 29, 23, 59, 58, 4500, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": [1, None, 300],
        "note": ['say "hi", \x1b[31mred\n', None, ""],
        "amount": [1.5, None, 2.0],
        "ok": [True, False, None],
        "at": [MOMENT, None, MOMENT],
        "local": [MOMENT.replace(tzinfo=None), None, None],
        "day": [date(2024, 2, 29), None, None],
        "line": [{"sku": "a-1", "tags": ["x", None], "raw": b"\x00\xff"}, None, {"sku": None, "tags": [], "raw": None}],
        "long name": ["a" * 100, "b c", "e=f"],
    }
)
ABOUT = {"pipeline": "eu-orders", "generation": 1, "lane": "sink-0", "epoch": 3}
STYLES = {
    "plain": Style(width=20),
    "full": Style(width=24, colour=True, stamp="2026-01-01T00:00:00Z", metadata=ABOUT),
}
COLOURS = re.compile("\x1b\\[[0-9;]*m")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("form", Format)
def test_golden(form: Format, style: str) -> None:
    stored = GOLDEN / f"console-{form}-{style}.txt"
    assert render(ROWS, form, STYLES[style], first=7) == stored.read_text()


@pytest.mark.parametrize("form", Format)
def test_colour_changes_nothing_else(form: Format) -> None:
    plain, coloured = (render(ROWS, form, Style(colour=colour)) for colour in (False, True))
    assert COLOURS.sub("", coloured) == plain != coloured


@pytest.mark.parametrize("form", [Format.PRETTYJSON, Format.COMPACTJSON])
def test_json_is_json_and_never_cut(form: Format) -> None:
    text = render(ROWS, form, Style(width=1))
    decoder, found = json.JSONDecoder(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip("\n")
    assert found[0] == {
        "id": 1,
        "note": 'say "hi", \x1b[31mred\n',
        "amount": 1.5,
        "ok": True,
        "at": "2024-02-29T23:59:58.004500+00:00",
        "local": "2024-02-29T23:59:58.004500",
        "day": "2024-02-29",
        "line": {"sku": "a-1", "tags": ["x", None], "raw": "AP8="},
        "long name": "a" * 100,
    }
    assert found[1] == {"ok": False, "long name": "b c"} | dict.fromkeys(
        ["id", "note", "amount", "at", "local", "day", "line"]
    )
    assert list(found[2]) == ROWS.columns


def test_metadata_is_an_envelope_in_json() -> None:
    text = render(ROWS.select("id").head(1), Format.COMPACTJSON, Style(stamp="T", metadata=ABOUT))
    assert json.loads(text) == {"timestamp": "T", "metadata": ABOUT, "data": {"id": 1}}


TEXT = [form for form in Format if form not in (Format.PRETTYJSON, Format.COMPACTJSON)]


@pytest.mark.parametrize("form", TEXT)
@pytest.mark.parametrize("width", [1, 2, 80, 1000])
def test_fields_are_cut_to_their_width(form: Format, width: int) -> None:
    text = render(pl.DataFrame({"a": ["x" * 2000]}), form, Style(width=width))
    assert ("x" * (width - 1) + "…") in text and "x" * width not in text
    exact = render(pl.DataFrame({"a": ["x" * width]}), form, Style(width=width))
    assert "x" * width in exact and "…" not in exact


@pytest.mark.parametrize("form", Format)
def test_no_control_character_reaches_the_terminal(form: Format) -> None:
    nasty = "".join(chr(code) for code in [*range(0x20), *range(0x7F, 0xA0)])
    rows = pl.DataFrame({nasty: [nasty], "nested": [{"inner": nasty}]})
    text = render(rows, form, Style(width=1000))
    assert not set(text.replace("\n", "").replace("\t", "")) & set(nasty)
    assert text.count("\n") == len(text.splitlines())


@pytest.mark.parametrize("form", Format)
def test_every_type_has_a_text(form: Format) -> None:
    rows = pl.DataFrame(
        {
            "u": pl.Series([2**64 - 1], dtype=pl.UInt64),
            "i": pl.Series([-(2**100)], dtype=pl.Int128),
            "d": pl.Series([Decimal("12345678901234567890.10")], dtype=pl.Decimal(38, 2)),
            "t": [time(1, 2, 3)],
            "du": [timedelta(seconds=90)],
            "c": pl.Series(["x"], dtype=pl.Categorical),
            "e": pl.Series(["x"], dtype=pl.Enum(["x"])),
            "n": [None],
            "b": [b"\x00"],
            "a": pl.Series([[b"\x01", b"\x02"]], dtype=pl.Array(pl.Binary, 2)),
            "s": [[{"at": MOMENT, "c": 1}]],
        }
    )
    text = render(rows, form, Style())
    for part in ("18446744073709551615", "-1267650600228229401496703205376", "12345678901234567890.10", "2024-02-29T"):
        assert part in text
    for part in ("AA==", "AQ==", "Ag=="):
        assert part in text
    if form is Format.COMPACTJSON:
        assert json.loads(text)["s"] == [{"at": "2024-02-29T23:59:58.004500+00:00", "c": 1}]


@pytest.mark.parametrize("form", Format)
def test_no_rows_no_text_and_no_columns_no_failure(form: Format) -> None:
    assert render(ROWS.clear(), form, Style()) == ""
    assert render(pl.DataFrame(height=2), form, Style()).count("\n") == 2


def test_null_is_not_an_empty_text() -> None:
    rows = pl.DataFrame({"a": [None, "", "NULL"]})
    assert render(rows, Format.KEYVALUE, Style()) == 'a=\na=""\na=NULL\n'
    assert render(rows, Format.COMPACTJSON, Style()) == '{"a":null}\n{"a":""}\n{"a":"NULL"}\n'
    assert render(rows, Format.SIMPLE, Style()) == "NULL\n\nNULL\n"


def test_text_that_says_null_in_json_stays_text() -> None:
    rows = pl.DataFrame({"a": ["null", None]})
    assert render(rows, Format.COMPACTJSON, Style()) == '{"a":"null"}\n{"a":null}\n'


printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.none() | printable, st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=6))
def test_compact_json_and_simple_round_trip(values: list[tuple[str | None, int | None]]) -> None:
    rows = pl.DataFrame(values, schema={"s": pl.String, "n": pl.Int64}, orient="row")
    lines = render(rows, Format.COMPACTJSON, Style()).removesuffix("\n").split("\n")
    assert [tuple(json.loads(line).values()) for line in lines] == values
    table = render(rows, Format.SIMPLE, Style(width=1000)).removesuffix("\n").split("\n")
    read = [tuple(row) for row in csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert read == [("NULL" if s is None else s, "NULL" if n is None else str(n)) for s, n in values]
