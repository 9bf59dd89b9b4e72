"""The shape of CSV records, worked out from bits, against one that goes byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataflow.connectors.file import csv_shape
from dataflow.connectors.file.csv_records import Dialect
from dataflow.connectors.file.csv_shape import Shape, shape

Told = tuple[int, int, int] | None  # records, lines, bytes of the longest record


def slowly(data: bytes, dialect: Dialect, wide: int) -> Told:
    """The same by looking at each byte; quotes may stand at either end of a field and, doubled, inside a quoted one."""
    delimiter, quote, end = (part[0] if part else -1 for part in (dialect.delimiter, dialect.quote, dialect.end))
    fields, records, longest, begin, at = 1, 0, 0, 0, 0
    fresh = True  # at the beginning of a field
    while at < len(data):
        byte = data[at]
        if byte == quote:
            if not fresh:
                return None
            at += 1
            while at < len(data) and (data[at] != quote or data[at : at + 2] == bytes([quote, quote])):
                at += 1 if data[at] != quote else 2
            if at >= len(data) or data[at + 1 : at + 2] not in (dialect.delimiter, dialect.end):
                return None
            fresh = False
        elif byte == delimiter:
            fields, fresh = fields + 1, True
        elif byte == end:
            if fields != wide:
                return None
            fields, fresh, records = 1, True, records + 1
            longest, begin = max(longest, at + 1 - begin), at + 1
        else:
            fresh = False
        at += 1
    return records, data.count(dialect.end), longest


def quickly(data: bytes, dialect: Dialect, wide: int) -> Told:
    found: Shape | None = shape(data, dialect, wide)
    if found is None:
        return None
    assert (found.ascii, found.returns) == (data.isascii(), b"\r" in data)
    return found.records, found.lines, found.longest()


tokens = st.sampled_from(
    ["a", "bb", "é", "\r", ",", '"', '""', "\n", '"x"', '",', '\n"', ",\n", "1,2\n", '1,"2,\n3"\n']
)


@settings(max_examples=400, deadline=None)
@given(st.lists(tokens, max_size=200).map("".join), st.integers(2, 4), st.integers(1, 4))
@example('a,"b\n', 2, 1)
@example("a\nb,c,d\n", 2, 1)
@example('a,b"c"\n', 2, 1)
@example("a,b\n\n", 2, 1)
def test_it_is_what_looking_at_each_byte_finds(text: str, wide: int, words: int) -> None:
    data = text.encode() + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_shape, "_BLOCK", words)  # ends of words and blocks fall everywhere
        assert quickly(data, Dialect(), wide) == slowly(data, Dialect(), wide)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["", "1", 'say "hi"', "a,b", "two\nlines"]), min_size=3, max_size=3)))
def test_records_that_are_written_well_have_it(rows: list[list[str]]) -> None:
    quoted = [",".join('"' + field.replace('"', '""') + '"' for field in row) + "\n" for row in rows]
    data = ("".join(quoted) or "1,2,3\n").encode()
    assert quickly(data, Dialect(), 3) == slowly(data, Dialect(), 3) != None  # noqa: E711


@pytest.mark.parametrize("where", [0, 1, 62, 63, 64, 65, 127, 128, 129, 8191])
def test_a_quote_is_found_out_wherever_it_stands(where: int) -> None:
    text = bytearray(b"abc,def\n" * 1200)
    assert quickly(bytes(text), Dialect(), 2) == (1200, 1200, 8)
    text[where] = ord('"')
    assert quickly(bytes(text), Dialect(), 2) is None


@pytest.mark.parametrize("byte", [b"\r", b"\xff"])
def test_a_byte_of_interest_is_found_wherever_it_stands(byte: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_shape, "_BLOCK", 1)
    for where in range(150):
        text = b"a" * where + byte + b"a" * (160 - where) + b",b\n"
        assert quickly(text, Dialect(), 2) == (1, 1, len(text))


@pytest.mark.parametrize("stray", [b'a,"%s"c\n', b'a,%sc"d"\n'])
def test_text_beside_a_quote_is_found_out_at_ends_of_blocks(stray: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_shape, "_BLOCK", 1)
    for length in range(130):
        assert quickly(stray % (b"b" * length), Dialect(), 2) is None


def test_without_quotes_a_quote_is_a_letter() -> None:
    assert quickly(b'a,"b\n', Dialect(quote=b""), 2) == (1, 1, 5)


def test_other_bytes_take_the_parts() -> None:
    assert quickly(b"a;'b;\r'\rc;d\r", Dialect(b";", b"'", b"\r"), 2) == (2, 3, 8)
