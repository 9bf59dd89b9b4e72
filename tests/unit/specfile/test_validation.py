"""Definitions tried out: assembly, deep validation, preview."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dataflow import specfile
from dataflow.assembly import build_chain, build_sink, build_source, build_stages, context_of
from dataflow.components import Component, Config, Kind
from dataflow.connectors import memory
from dataflow.domain.flow import Delivery, OnRecord
from dataflow.errors import InvalidSpec, Rejected, Retryable
from dataflow.preview import preview
from dataflow.validation import check

ROWS = pl.DataFrame({"id": [1, 2, 3, 4], "amount": [10.0, 20.0, None, 40.0], "country": ["DE", "US", "FR", "DE"]})


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    memory.provide("rows", ROWS)
    yield
    memory.forget("rows")


def loaded(**changes: Any) -> specfile.LoadedSpec:
    data: dict[str, Any] = {
        "name": "orders",
        "source": {"type": "memory", "name": "rows"},
        "transforms": [
            {"type": "filter", "where": "amount > 15", "on_error": "fail"},
            {"type": "map", "set": {"double": "amount * 2"}},
        ],
        "sinks": [
            {"type": "memory", "name": "all"},
            {"type": "memory", "name": "german", "where": "country = 'DE' AND double > 50"},
        ],
    }
    return specfile.from_dict(data | changes)


async def test_what_every_pair_gives(tmp_path: Path) -> None:
    report = await check(loaded(), home=tmp_path)
    assert not report.problems and not report.unreachable
    assert [(pair.sink, pair.type, pair.delivery) for pair in report.pairs] == [
        ("all", "memory", Delivery.EXACTLY_ONCE),
        ("german", "memory", Delivery.EXACTLY_ONCE),
    ]
    assert dict(report.pairs[1].schema) == {
        "id": "int64",
        "amount": "float64",
        "country": "string",
        "double": "float64",
    }
    assert report.discovery is not None and report.discovery.schema == ROWS.schema


def test_the_sinks_own_filter_is_the_last_stage(tmp_path: Path) -> None:
    spec = loaded().spec
    context = context_of(spec, home=tmp_path)
    names = [[stage.name for stage in build_stages(spec, index, context)] for index in (0, 1)]
    assert names == [["transforms[0]", "transforms[1]"], ["transforms[0]", "transforms[1]", "sinks[1].where"]]
    chain = build_chain(spec, 1, context)
    chain.bind(ROWS.schema)
    assert chain.apply(ROWS).rows["id"].to_list() == [4]
    assert build_stages(spec, 0, context)[0].transform.on_error is OnRecord.FAIL
    assert build_stages(spec, 0, context)[1].transform.on_error is None


def test_context_of_a_definition(tmp_path: Path) -> None:
    spec = specfile.from_dict(loaded(errors={"dead_letters": "bad", "on_record": "skip"}).spec.stored(), tmp_path).spec
    context = context_of(spec, generation=3, home=tmp_path / "home")
    assert (context.pipeline, context.generation, context.base) == ("orders", 3, tmp_path)
    assert context.dead_letters == tmp_path / "bad" and context.on_record is OnRecord.SKIP


def test_problems_of_a_build_have_absolute_paths(tmp_path: Path) -> None:
    spec = loaded().spec
    broken = spec.model_copy(update={"sinks": (spec.sinks[0], spec.sinks[1].model_copy(update={"type": "memry"}))})
    with pytest.raises(InvalidSpec) as caught:
        build_sink(broken, 1, context_of(spec, home=tmp_path))
    assert caught.value.problems[0].path == "sinks[1].type"


async def test_a_wrong_filter_does_not_hide_what_comes_behind(tmp_path: Path) -> None:
    wrong = loaded(
        transforms=[{"type": "filter", "where": "amuont > 1"}, {"type": "map", "set": {"x": "cuontry"}}],
        sinks=[{"type": "memory", "name": "all", "where": "idd = 1"}, {"type": "memory", "name": "b"}],
    )
    report = await check(wrong, home=tmp_path)
    assert sorted({problem.path for problem in report.problems}) == ["transforms[0].where", "transforms[1].set.x"]
    fixed = loaded(transforms=[], sinks=[{"type": "memory", "name": "all", "where": "idd = 1"}])
    [problem] = (await check(fixed, home=tmp_path)).problems
    assert (problem.path, problem.hint) == ("sinks[0].where", "did you mean 'id'?")


@pytest.mark.parametrize(
    ("demanded", "problems"),
    [("exactly_once", ["delivery"]), ("effectively_once", ["delivery"]), ("at_least_once", []), (None, [])],
)
async def test_delivery_that_cannot_be_had_is_refused(
    demanded: str | None, problems: list[str], tmp_path: Path
) -> None:
    changes = {"delivery": demanded} if demanded else {}
    report = await check(
        loaded(sinks=[{"type": "memory", "name": "all"}, {"type": "console"}], **changes), home=tmp_path
    )
    assert [problem.code for problem in report.problems] == problems
    for problem in report.problems:
        assert "console" in problem.message and "at_least_once" in problem.message


async def test_more_lanes_than_the_sink_takes(tmp_path: Path) -> None:
    one = loaded(parallelism=2, sinks=[{"type": "file", "path": str(tmp_path / "out.csv")}])
    [problem] = (await check(one, home=tmp_path)).problems
    assert (problem.path, problem.code) == ("parallelism", "parallelism")
    many = loaded(parallelism=2, sinks=[{"type": "file", "path": str(tmp_path / "out"), "format": "csv"}])
    assert not (await check(many, home=tmp_path)).problems


class Nothing(Config):
    path: str = "there"


def source_that(error: Exception) -> Component:
    """A source type whose discovery ends in this error."""

    class Source:
        bounded = True

        async def __aenter__(self) -> Source:
            return self

        async def __aexit__(self, *exc: object) -> None:
            return None

        async def discover(self) -> None:
            raise error

    return Component(Kind.SOURCE, "odd", Nothing, lambda config, context: Source())


def with_source(monkeypatch: pytest.MonkeyPatch, made: Component) -> specfile.LoadedSpec:
    from dataflow.registry import component

    def found(kind: Kind, name: str) -> Component:
        return made if name == "odd" else component(kind, name)

    monkeypatch.setattr("dataflow.specfile.structure.component", found)
    monkeypatch.setattr("dataflow.assembly.component", found)
    return loaded(source={"type": "odd", "path": "over/there"})


async def test_a_source_that_is_away_is_no_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = with_source(monkeypatch, source_that(Retryable("nobody answers", code="CONNECTION_FAILED")))
    report = await check(odd, home=tmp_path)
    assert not report.problems and report.unreachable == "nobody answers"


async def test_a_source_that_refuses_is_told_at_its_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    odd = with_source(monkeypatch, source_that(Rejected("there is no over/there", code="NOT_FOUND", hint="make it")))
    report = await check(odd, home=tmp_path)
    [problem] = report.problems
    assert (problem.path, problem.code, problem.hint) == ("source.path", "source", "make it")
    assert report.refused() == ()
    assert not (await check(odd, home=tmp_path, discover=False)).problems


async def test_unset_references_are_told_apart(tmp_path: Path) -> None:
    one = loaded(sinks=[{"type": "file", "path": "${env:DATAFLOW_TEST_NOT_SET}/out"}, {"type": "console"}])
    report = await check(one, home=tmp_path)
    assert not report.problems
    [problem] = report.unresolved
    assert (problem.path, problem.code) == ("sinks[0].path", "unresolved_reference")


async def test_preview_before_and_after_every_stage(tmp_path: Path) -> None:
    views = await preview(loaded().spec, 3, home=tmp_path)
    assert [(view.name, view.label, view.rows.height) for view in views] == [
        ("source", "memory", 3),
        ("transforms[0]", "filter", 1),
        ("transforms[1]", "map", 1),
        ("sinks[1].where", "filter", 0),
    ]
    assert views[2].rows.to_dicts() == [{"id": 2, "amount": 20.0, "country": "US", "double": 40.0}]
    assert memory.store("all").rows.is_empty()


async def test_preview_shows_refused_records(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"sinks": [{"type": "memory", "name": "all"}]}
    spec = loaded(transforms=[{"type": "map", "set": {"n": "CAST(country AS INTEGER)"}}], **changes).spec
    views = await preview(spec, 2, home=tmp_path)
    assert views[1].rows.height + views[1].rejected.height == 2
    assert views[1].rejected["stage"].to_list() == ["transforms[0]"] * views[1].rejected.height


async def test_building_is_repeatable(tmp_path: Path) -> None:
    spec = loaded().spec
    context = context_of(spec, home=tmp_path)
    async with build_source(spec, replace(context), None) as source:
        assert (await source.discover()).total_rows in (4, None)
