"""The console sink: what is printed, where, and what a restart remembers."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from dataflow.components import Kind
from dataflow.connectors import console
from dataflow.connectors.console.ledger import Ledger
from dataflow.connectors.console.sink import ConsoleConfig, ConsoleSink
from dataflow.domain.flow import Counters, Delivery, Lane, Position, Receipt
from dataflow.errors import Corrupt, Fenced, Rejected, Retryable
from dataflow.registry import component
from dataflow.seams import REJECTS, Context

ROWS = pl.DataFrame({"n": [1, 2], "s": ["a", None]})
PRINTED = '{"n":1,"s":"a"}\n{"n":2,"s":null}\n'
BAD = pl.DataFrame([["source", "BAD", "no", "x:1", "?"]], schema=REJECTS, orient="row")


def lane(generation: int = 1, number: int = 0) -> Lane:
    return Lane(pipeline="p", generation=generation, sink="sink", number=number, splits=("all",))


def receipt(epoch: int, written: int = 0, dead: int = 0, generation: int = 1) -> Receipt:
    return Receipt(
        pipeline="p",
        generation=generation,
        lane="sink-0",
        epoch=epoch,
        positions={"all": Position(f"at {epoch}")},
        counters=Counters(read=written + dead, written=written, failed=dead, dead_lettered=dead),
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / ".dataflow"


def sink(home: Path, **options: object) -> ConsoleSink:
    clock = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    config = ConsoleConfig.model_validate(options)
    return ConsoleSink(config, Context(pipeline="p", home=home), clock=lambda: clock)


async def put(to: ConsoleSink, epoch: int, rows: pl.DataFrame = ROWS, written: int = 2) -> None:
    async with to.open(lane(), rows.schema) as writer:
        await writer.write(rows)
        await writer.commit(receipt(epoch, written))


async def test_nothing_is_printed_before_commit(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with sink(home).open(lane(), ROWS.schema) as writer:
        await writer.write(ROWS.head(1))
        await writer.write(ROWS.tail(1))
        assert capsys.readouterr().out == ""
        await writer.commit(receipt(1, 2))
        assert capsys.readouterr().out == PRINTED
        await writer.write(ROWS)
    assert capsys.readouterr() == ("", "")


async def test_a_restart_finds_its_receipt_and_prints_nothing_again(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(sink(home), 1)
    async with sink(home).open(lane(), ROWS.schema) as writer:
        assert await writer.last_receipt() == receipt(1, 2)
        with pytest.raises(Fenced):
            await writer.write(ROWS)
            await writer.commit(receipt(1, 2))
    assert capsys.readouterr().out == PRINTED


async def test_one_receipt_is_kept_for_each_lane(home: Path) -> None:
    for epoch in (1, 2, 3):
        await put(sink(home), epoch)
    names = sorted(path.name for path in (home / "console/p/g1/sink-0").iterdir())
    assert names == ["attempt", "epoch-3.json"]


async def test_printed_but_not_kept_is_printed_again(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between printing and keeping the receipt an attempt may die: at least once, as the sink declares."""
    assert ConsoleSink.delivery is Delivery.AT_LEAST_ONCE

    def die(self: Ledger, receipt: Receipt) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(Retryable) as raised:
        patched.setattr(Ledger, "keep", die)
        await put(sink(home), 1)
    assert raised.value.code == "RESOURCE_EXHAUSTED"
    await put(sink(home), 1)
    assert capsys.readouterr().out == PRINTED * 2


async def test_an_attempt_that_was_overtaken_prints_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = sink(home)
    async with to.open(lane(), ROWS.schema) as late:
        await late.write(ROWS)
        async with sink(home).open(lane(), ROWS.schema):
            with pytest.raises(Fenced):
                await late.commit(receipt(1, 2))
    assert capsys.readouterr().out == ""


async def test_an_epoch_commits_only_on_its_predecessor(home: Path) -> None:
    with pytest.raises(Fenced):
        await put(sink(home), 2)
    await put(sink(home), 1)
    with pytest.raises(Fenced):
        await put(sink(home), 3)


def test_who_slept_inside_a_commit_leaves_no_receipt_behind(home: Path) -> None:
    """The late attempt checked, slept, and keeps its receipt after others have committed two epochs."""
    slow, quick = Ledger(home, lane()), Ledger(home, lane())
    slow.open()
    slow.check(receipt(1))
    quick.open()
    for epoch in (1, 2):
        quick.check(receipt(epoch))
        quick.keep(receipt(epoch))
    with pytest.raises(Fenced):
        slow.keep(receipt(1))
    assert quick.last() == receipt(2)
    assert sorted(path.name for path in (home / "g1/sink-0").iterdir()) == ["attempt", "epoch-2.json"]


async def test_a_new_generation_replaces_the_old_one_and_fences_it(home: Path) -> None:
    to = sink(home)
    async with to.open(lane(), ROWS.schema) as old:
        await old.reject(BAD)
        await old.commit(receipt(1, 0, 1))
        letters = home / "dead-letters/p"
        assert [path.name for path in letters.iterdir()] == ["dead-p-g1-sink-0-00000001-000.jsonl"]
        (letters / "dead-other-g1-sink-0-00000001-000.jsonl").touch()  # a folder may be shared
        await to.prepare(ROWS.schema, [lane(2)])
        with pytest.raises(Fenced):
            await old.commit(receipt(2))
    assert [path.name for path in letters.iterdir()] == ["dead-other-g1-sink-0-00000001-000.jsonl"]
    async with to.open(lane(2), ROWS.schema) as new:
        assert await new.last_receipt() is None
    with pytest.raises(Fenced):
        await to.prepare(ROWS.schema, [lane(1)])


async def test_dead_letters_are_json_lines_where_the_definition_says(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    context = Context(pipeline="p", base=tmp_path, home=tmp_path / "home", dead_letters=Path("bad"))
    async with ConsoleSink(ConsoleConfig(), context).open(lane(), ROWS.schema) as writer:
        await writer.reject(BAD)
        await writer.reject(BAD)
        assert not folder.exists()
        await writer.commit(receipt(1, 0, 2))
    (written,) = folder.iterdir()
    found = pl.read_ndjson(written)
    assert found.select(REJECTS.names()).to_dicts() == BAD.to_dicts() * 2
    assert found.select("pipeline", "generation", "lane", "epoch").unique().row(0) == ("p", 1, "sink-0", 1)


async def test_summary_is_printed_once_on_stderr(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with sink(home).open(lane(), ROWS.schema) as writer:
        await writer.write(ROWS)
        await writer.reject(BAD)
        await writer.commit(receipt(1, 2, 1))
    expected = {"records": 2, "failed": 1, "dead_letters": 1, "dead_letter_folder": str(home / "dead-letters/p")}
    assert await sink(home).complete([lane()]) == expected
    assert await sink(home).complete([lane()]) == expected
    out, err = capsys.readouterr()
    assert out == PRINTED
    assert err == f"2 records printed, 1 failed, 1 dead letters in {home / 'dead-letters/p'}\n"


async def test_summary_can_be_left_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await put(sink(home), 1)
    assert await sink(home, print_summary=False).complete([lane()]) == {"records": 2, "failed": 0, "dead_letters": 0}
    assert capsys.readouterr().err == ""


async def test_stderr(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await put(sink(home, stream="stderr"), 1)
    assert capsys.readouterr() == ("", PRINTED)


@pytest.fixture
def elsewhere() -> Iterator[Terminal]:
    terminal = Terminal()
    console.redirect(terminal)
    yield terminal
    console.redirect(None)


async def test_standard_output_can_be_redirected(
    home: Path, elsewhere: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(sink(home, colour="off"), 1)
    assert elsewhere.getvalue() == PRINTED and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("colour", "environment", "expected"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("on", {"NO_COLOR": "1"}, True),
        ("off", {}, False),
        (True, {"TERM": "dumb"}, True),
        (False, {}, False),
    ],
)
async def test_colour_on_a_terminal(
    home: Path,
    elsewhere: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    colour: object,
    environment: dict[str, str],
    expected: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    await put(sink(home, colour=colour), 1)
    assert ("\x1b[" in elsewhere.getvalue()) is expected


async def test_no_colour_in_a_pipe(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await put(sink(home, colour="auto"), 1)
    assert "\x1b[" not in capsys.readouterr().out


async def test_timestamp_and_metadata(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await put(sink(home, show_timestamp=True, show_metadata=True), 1, ROWS.head(1), written=1)
    assert json.loads(capsys.readouterr().out) == {
        "timestamp": "2026-01-02T03:04:05Z",
        "metadata": {"pipeline": "p", "generation": 1, "lane": "sink-0", "epoch": 1},
        "data": {"n": 1, "s": "a"},
    }


async def test_records_are_numbered_through_the_epochs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await put(sink(home, format="structured"), 1, written=2)
    await put(sink(home, format="structured"), 2, written=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("--")] == [f"-- record {n}" for n in (1, 2, 3, 4)]


async def test_characters_the_encoding_lacks_are_escaped(home: Path) -> None:
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii")
    console.redirect(ascii_only)
    try:
        await put(sink(home), 1, pl.DataFrame({"é": ["ü"]}), written=1)
    finally:
        console.redirect(None)
    assert raw.getvalue() == b'{"\\xe9":"\\xfc"}\n'


async def test_a_closed_pipe_is_final(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = io.TextIOWrapper(io.FileIO(writer, "w"), encoding="utf-8", write_through=True)
    console.redirect(out)
    try:
        with pytest.raises(Rejected) as raised:
            await put(sink(home), 1)
    finally:
        console.redirect(None)
        out.detach().close()
    assert raised.value.code == "OUTPUT_CLOSED"


async def test_a_home_that_cannot_be_written_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(Rejected):
        await put(sink(tmp_path / "home"), 1)


async def test_a_torn_receipt_is_corrupt(home: Path) -> None:
    await put(sink(home), 1)
    (home / "console/p/g1/sink-0/epoch-1.json").write_text('{"pipeline":')
    async with sink(home).open(lane(), ROWS.schema) as writer:
        with pytest.raises(Corrupt):
            await writer.last_receipt()


async def test_columns_without_text_are_refused_when_planned(home: Path) -> None:
    with pytest.raises(Rejected):
        await sink(home).prepare(pl.Schema({"o": pl.Object}), [lane()])


def test_registered_with_its_options() -> None:
    found = component(Kind.SINK, "console")
    assert found.config is ConsoleConfig and found.build is ConsoleSink
    for wrong in ({"format": "xml"}, {"max_field_width": 0}, {"max_field_width": 1001}, {"path": "x"}):
        with pytest.raises(ValueError, match="validation error"):
            ConsoleConfig.model_validate(wrong)
