"""`dataflow migrate` on the embedded default: what it says, what it leaves, and that asking creates nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from dataflow.cli.app import app
from dataflow.journal import open_journal
from dataflow.testing.journal_kit import Writing


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATAFLOW_HOME", str(tmp_path / "home"))
    for name in ("DATAFLOW_TEMPORAL_ADDRESS", "DATAFLOW_JOURNAL_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["migrate", *arguments])


def journal_of(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    [one] = [one for one in json.loads(result.stdout)["stores"] if one["store"] == "journal"]
    return one


def test_status_looks_and_creates_nothing(home: Path) -> None:
    assert journal_of("status", code=1)["state"] == "behind"
    assert not home.exists()


def test_up_down_up(home: Path) -> None:
    one = journal_of("up")
    assert (one["was"], one["found"], one["state"]) == ("", "0001", "current")
    assert journal_of("up")["was"] == "0001"
    assert journal_of("status")["state"] == "current"
    one = journal_of("down", "--yes")
    assert (one["was"], one["found"], one["state"]) == ("0001", "", "behind")
    assert journal_of("down", "--yes")["was"] == ""
    assert journal_of("up")["state"] == "current"


def test_down_without_yes_changes_nothing() -> None:
    call("up")
    for arguments in (("down",), ("down", "--json")):
        result = call(*arguments)
        assert result.exit_code == 2
        assert "--yes" in result.output
    assert journal_of("status")["found"] == "0001"


def test_up_leaves_events_alone(home: Path) -> None:
    url = f"sqlite:///{home}/journal.db"
    records = Writing("s").some(5)

    async def append() -> None:
        async with open_journal(url) as journal:
            await journal.append("s", 0, records)

    async def found() -> list[Any]:
        async with open_journal(url) as journal:
            return [record async for record in journal.read("s")]

    asyncio.run(append())
    assert call("up").exit_code == 0
    assert asyncio.run(found()) == list(records)


def test_a_newer_schema_is_left_alone(home: Path) -> None:
    call("up")
    engine = sa.create_engine(f"sqlite:///{home}/journal.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert journal_of("status", code=1)["state"] == "newer"
    for arguments in (("up",), ("down", "--yes")):
        one = journal_of(*arguments, code=1)
        assert one["state"] == "failed"
        assert "9999" in one["detail"]


def test_a_damaged_store_is_told_and_the_others_go_on(home: Path) -> None:
    home.mkdir()
    (home / "journal.db").write_text("no database " * 1000)
    result = call("up")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("read models") and "0002; was empty" in lines[1]
    assert "failed: " in lines[0]
    assert lines[2].startswith("inbox") and "0001; was empty" in lines[2]
    assert lines[3].startswith("temporal (embedded)")


def test_in_plain_words() -> None:
    assert "empty; 0001 is wanted: dataflow migrate up" in call("status").stdout
    assert "0001; was empty" in call("up").stdout
    assert "0001, as it was" in call("up").stdout
