"""Text to values and places."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dataflow.errors import InvalidSpec
from dataflow.specfile.document import MAX_VALUES, Document, dotted, parse, undotted

KEYS = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=12)
NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def refused(text: str, **options: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse(text, **options)
    return str(caught.value.problems[0])


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.sampled_from([None, 1, 4]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_json_reads_as_json_reads_it(data: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    document = parse(text, strict_json=True)
    assert document.data == json.loads(text)
    assert not document.problems


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.sampled_from([True, False, None]))
@settings(max_examples=40, deadline=None)
def test_yaml_reads_what_yaml_wrote(data: dict[str, Any], flow: bool | None) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    out = StringIO()
    yaml.dump(data, out)
    try:
        again = yaml.load(out.getvalue())
    except YAMLError:
        reject()
    if again != data:
        reject()  # ruamel writes "?0" in a list as it is, which is a key
    document = parse(out.getvalue())
    assert document.data == data
    every_place_is_the_values_own(document, out.getvalue())


def every_place_is_the_values_own(document: Document, text: str) -> None:
    lines = text.split("\n")
    for path, scalar in document.scalars.items():
        line, column = document.values[path]
        written = lines[line - 1][column - 1 :]
        assert written.startswith(scalar.style or scalar.text.split(" ")[0][:1])


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=30), st.data())
@settings(max_examples=200, deadline=None)
def test_positions_inside_of_quoted_values_point_at_the_character(value: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(value) - 1))
    single = "where:   '" + value.replace("'", "''") + "'\n"
    line, column = parse(single).inside(("where",), 1, at + 1)
    assert line == 1 and single[column - 1] == value[at]
    double = f"where: {json.dumps(value)}\n"
    line, column = parse(double).inside(("where",), 1, at + 1)
    shown = double[column - 1]
    assert line == 1 and (shown == value[at] or shown == "\\")


@pytest.mark.parametrize(
    ("text", "inside", "place"),
    [
        ("where: amount > 1\n", (1, 10), (1, 17)),
        ("a:\n  where: 'x = ''y'' AND z'\n", (1, 13), (2, 25)),
        ('where: "a\\tb"\n', (1, 3), (1, 12)),
        ('where: "\\u00e9b"\n', (1, 2), (1, 15)),
        ("where: |\n  amount > 1\n    AND b\n", (2, 7), (3, 9)),
        ("where: |2\n    amount\n  b\n", (1, 3), (2, 5)),
        ("where: >\n  amount\n  b\n", (1, 3), (1, 8)),
        ("where: amount\n  AND b\n", (1, 3), (1, 8)),
        ("where: &anchor 'x y'\n", (1, 3), (1, 8)),
    ],
)
def test_positions_in_every_style(text: str, inside: tuple[int, int], place: tuple[int, int]) -> None:
    document = parse(text)
    [path] = [path for path in document.scalars if path[-1] == "where"]
    assert document.inside(path, *inside) == place


def test_yaml_1_2_and_nothing_older() -> None:
    data = parse("a: yes\nb: NO\nc: 1:30\nd: 010\ne: 0x1f\nf: 0o17\ng: 2026-01-31\nh: 1_000\ni: ~\nj: 1e3\n").data
    assert data == {
        "a": "yes", "b": "NO", "c": "1:30", "d": 10, "e": 31, "f": 15, "g": "2026-01-31", "h": 1000,
        "i": None, "j": 1e3,
    }  # fmt: skip


def test_keys_are_text() -> None:
    assert parse("1: a\nno: b\nnull: c\n2026-01-31: d\n").data == {"1": "a", "no": "b", "null": "c", "2026-01-31": "d"}


def test_aliases_and_merges_unfold() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\nmore: {<<: [*b, {x: 9, z: 4}]}\nagain: *b\n"
    document = parse(text)
    assert not document.problems
    assert document.data["one"] == {"x": 1, "y": 3}
    assert document.data["more"] == {"x": 1, "y": 2, "z": 4}
    assert document.data["again"] == document.data["base"]


def test_what_contains_itself_is_refused() -> None:
    [problem] = parse("a: &x [1, *x]\n").problems
    assert "contains itself" in problem.message


def test_a_small_file_cannot_unfold_into_a_huge_one() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert f"more than {MAX_VALUES} values" in refused(bomb)


@pytest.mark.parametrize("strict", [False, True])
def test_deep_nesting_is_refused(strict: bool) -> None:
    assert "nested too deeply" in refused("[" * 1_200 + "]" * 1_200, strict_json=strict)


def test_every_duplicate_is_told() -> None:
    problems = parse("a: 1\na: 2\nb: {c: 1, c: 2}\na: 3\n").problems
    assert [(p.path, p.line, p.column, p.hint) for p in problems] == [
        ("a", 2, 1, "first: line 1"),
        ("b.c", 3, 11, "first: line 3"),
        ("a", 4, 1, "first: line 1"),
    ]


def test_surrogate_pairs_are_one_character() -> None:
    assert parse('{"a": "\\ud83d\\ude00"}', strict_json=True).data == {"a": "😀"}
    [problem] = parse('a: "\\ud83d"').problems
    assert problem.code == "bad_value"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_without_json_form(number: str) -> None:
    assert f"{number} is not JSON" in refused(f'{{"a": {number}}}', strict_json=True)


@pytest.mark.parametrize("text", ["a: .nan\n", "a: -.inf\n", "a: 1e999\n"])
def test_floats_without_json_form(text: str) -> None:
    [problem] = parse(text).problems
    assert (problem.path, problem.code) == ("a", "bad_value")


def test_places_fall_back_to_the_parent_key() -> None:
    document = parse("source:\n  type: file\n")
    assert document.place(("source", "path")) == (1, 1)
    assert document.place(("source", "type")) == (2, 9)
    assert document.place(("source", "type"), key=True) == (2, 3)
    assert document.place(("sink",)) == (1, 1)


@given(st.lists(st.from_regex(r"[a-z_]{1,6}", fullmatch=True) | st.integers(0, 99), min_size=1, max_size=5))
def test_paths_and_their_text(steps: list[str | int]) -> None:
    path = ("root", *steps)
    assert undotted(dotted(path)) == path


def test_carriage_returns_and_byte_order_mark(tmp_path: Path) -> None:
    from dataflow import specfile

    file = tmp_path / "dos.yaml"
    text = "name: dos\r\nsource: {type: generator, kind: order, rows: 1}\r\nsink: {type: consle}\r\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    with pytest.raises(InvalidSpec) as caught:
        specfile.load(file)
    [problem] = caught.value.problems
    assert (problem.line, problem.column) == (3, 14)
