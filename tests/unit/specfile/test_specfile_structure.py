"""Plain data to a definition, or to all that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from dataflow import registry, specfile
from dataflow.components import Component, Config, Kind
from dataflow.errors import InvalidSpec, Problem
from dataflow.specfile.phrases import keys_at, problems, shown

GOOD: dict[str, Any] = {
    "name": "orders",
    "source": {"type": "generator", "kind": "order", "rows": 10},
    "sink": {"type": "console"},
}


def wrong(data: dict[str, Any]) -> list[Problem]:
    with pytest.raises(InvalidSpec) as caught:
        specfile.from_dict(data)
    return list(caught.value.problems)


def paths(data: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem.path, problem.code) for problem in wrong(data)]


def test_the_short_form() -> None:
    spec = specfile.from_dict(GOOD).spec
    assert spec.pipeline_id == "orders" and spec.sink_names() == ("sink",)
    assert spec.transforms == ()  # row 33: an empty list is a pass-through
    assert specfile.from_dict({**GOOD, "transforms": []}).spec == spec
    assert specfile.from_dict({**GOOD, "transforms": None, "checkpoint": None}).spec == spec


def test_stored_form_reads_back() -> None:
    spec = specfile.from_dict(GOOD, base="/data").spec
    assert specfile.from_dict(spec.stored()).spec == spec
    assert spec.base == "/data"


def test_base_is_the_files_folder(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("name: abc\nsource: {type: generator, kind: order}\nsink: {type: console}\n")
    assert specfile.load(file).spec.base == str(tmp_path)
    file.write_text("base: in\nname: abc\nsource: {type: generator, kind: order}\nsink: {type: console}\n")
    assert specfile.load(file).spec.base == str(tmp_path / "in")


@pytest.mark.parametrize(("length", "fits"), [(2, False), (3, True), (100, True), (101, False)])
def test_name_lengths(length: int, fits: bool) -> None:
    data = {**GOOD, "name": "n" * length}
    if fits:
        assert specfile.from_dict(data).spec.name == "n" * length
    else:
        assert paths(data) == [("name", "bad_value")]


@pytest.mark.parametrize(("length", "fits"), [(500, True), (501, False)])
def test_description_lengths(length: int, fits: bool) -> None:
    data = {**GOOD, "description": "d" * length}
    if fits:
        assert specfile.from_dict(data).spec.description == "d" * length
    else:
        assert paths(data) == [("description", "out_of_range")]


@pytest.mark.parametrize("end", ["source", "sink"])
@pytest.mark.parametrize(("size", "fits"), [(0, False), (1, True), (10_000, True), (10_001, False)])
def test_batch_sizes(end: str, size: int, fits: bool) -> None:
    data = {**GOOD, end: {**GOOD[end], "batch_size": size}}
    if fits:
        specfile.from_dict(data)
    else:
        assert paths(data) == [(f"{end}.batch_size", "out_of_range")]


@pytest.mark.parametrize(("interval", "fits"), [("0s", True), ("3600s", True), ("3601s", False), ("-1s", False)])
def test_poll_interval(interval: str, fits: bool) -> None:
    data = {**GOOD, "source": {**GOOD["source"], "poll_interval": interval}}
    if fits:
        specfile.from_dict(data)
    else:
        assert [path for path, _ in paths(data)] == ["source.poll_interval"]


def test_all_at_once_wherever_they_are() -> None:
    found = paths(
        {
            "name": "x",
            "source": {"type": "generator", "kind": "order", "rows": "ten", "sede": 1},
            "transforms": [{"type": "nothing"}, {"type": "filter"}, 7],
            "sinks": [{"type": "console", "max_field_width": 0}, {"kind": "console"}],
            "parallelism": 0,
            "retry": {"max_attempt": 3},
        }
    )
    assert sorted(found) == sorted(
        [
            ("name", "bad_value"),
            ("transforms[2]", "wrong_type"),
            ("parallelism", "out_of_range"),
            ("retry.max_attempt", "unknown_key"),
            ("source.rows", "wrong_type"),
            ("source.sede", "unknown_key"),
            ("transforms[0].type", "unknown_type"),
            ("transforms[1].where", "missing_key"),
            ("sinks[0].max_field_width", "out_of_range"),
            ("sinks[1].type", "missing_key"),
        ]
    )


class Inner(Config):
    user: str
    port: int = Field(1, ge=1)


class Options(Config):
    count: int = 1
    columns: list[str] | dict[str, str] = Field(default_factory=list)
    auth: Inner | None = None
    where: str = Field("", alias="from")


@pytest.fixture
def fancy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A source type `fancy` with all kinds of options."""
    made = Component(Kind.SOURCE, "fancy", Options, lambda config, context: None)
    known = registry.component

    def found(kind: Kind, name: str) -> Component:
        return made if (kind, name) == (Kind.SOURCE, "fancy") else known(kind, name)

    monkeypatch.setattr("dataflow.specfile.structure.component", found)
    yield


def options(**given: Any) -> dict[str, Any]:
    return {**GOOD, "source": {"type": "fancy", **given}}


@pytest.mark.usefixtures("fancy")
class TestReferences:
    def test_stand_for_any_value(self) -> None:
        data = options(count="${env:N}", columns="${env:C}", auth={"user": "${secret:u}", "port": "${env:P}"})
        spec = specfile.from_dict(data).spec
        assert spec.stored()["source"] == data["source"]  # verbatim

    def test_their_keys_are_checked(self) -> None:
        assert paths(options(cuont="${env:N}")) == [("source.cuont", "unknown_key")]
        assert paths(options(auth={"usr": "${secret:u}"})) == [
            ("source.auth.user", "missing_key"),
            ("source.auth.usr", "unknown_key"),
        ]

    def test_what_stands_beside_them_is_checked(self) -> None:
        assert paths(options(count="${env:N}", auth={"user": "${secret:u}", "port": 0})) == [
            ("source.auth.port", "out_of_range")
        ]

    @pytest.mark.parametrize("text", ["${N}", "${env:}", "${vault:x}", "${env:N", "a ${ENV:N} b", "${env:1N}"])
    def test_malformed_ones_are_told_once(self, text: str) -> None:
        assert paths(options(count=text)) == [("source.count", "bad_reference")]

    @pytest.mark.parametrize("key", ["name", "id", "owner"])
    def test_not_where_nothing_resolves_them(self, key: str) -> None:
        assert paths({**GOOD, key: "${env:N}"}) == [(key, "bad_reference")]

    def test_not_as_a_type(self) -> None:
        assert paths({**GOOD, "source": {"type": "${env:T}"}}) == [("source.type", "bad_reference")]


@pytest.mark.usefixtures("fancy")
class TestPhrases:
    def test_a_union_is_one_problem(self) -> None:
        [problem] = wrong(options(columns=5))
        assert problem.message == "must be a list or a mapping (key: value), not 5"

    def test_of_a_union_the_member_that_fits_best_speaks(self) -> None:
        [problem] = wrong(options(columns={"id": 5}))
        assert (problem.path, problem.message) == ("source.columns.id", "must be text, not 5")
        assert problem.hint == 'quote it: "5"'

    def test_nested_unknown_keys_get_their_own_neighbours(self) -> None:
        found = {problem.path: problem.hint for problem in wrong(options(auth={"user": "x", "prt": 1}))}
        assert found == {"source.auth.prt": "did you mean 'port'?"}

    def test_aliases_are_the_keys_people_write(self) -> None:
        [problem] = wrong(options(fron="x"))
        assert problem.hint == "did you mean 'from'?"

    def test_nothing_near_lists_what_there_is(self) -> None:
        [problem] = wrong(options(zzz=1))
        assert problem.hint == "known keys: count, columns, auth, from, batch_size, poll_interval"

    def test_nothing_is_called_empty(self) -> None:
        [problem] = wrong(options(count=None))
        assert problem.message == "must be a whole number, not empty"


def test_words_for_values() -> None:
    assert [shown(v) for v in (None, True, "x", {}, [], 1.5)] == ["empty", "true", "'x'", "a mapping", "a list", "1.5"]
    assert len(shown("x" * 100)) < 50


def test_keys_at_any_depth() -> None:
    class Deep(BaseModel):
        many: list[Inner] = []
        named: dict[str, Inner] = {}

    assert keys_at(Deep, ("many", 0)) == ["user", "port"]
    assert keys_at(Deep, ("named", "any")) == ["user", "port"]
    with pytest.raises(ValidationError) as caught:
        Deep.model_validate({"named": {"any": {"user": "x", "prot": 1}}})
    [problem] = problems(caught.value.errors(), {"named": {"any": {"user": "x", "prot": 1}}}, Deep)
    assert (problem.path, problem.hint) == ("named.any.prot", "did you mean 'port'?")


def test_a_missing_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.yaml", "there is no such file"), (tmp_path, "this is a folder")):
        with pytest.raises(InvalidSpec) as caught:
            specfile.load(path)
        assert caught.value.problems[0].code == "unreadable"
        assert words in str(caught.value)
