"""`dataflow audit`, `events` by actor and `--follow`, `search`: on the embedded default."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from dataflow.cli.app import app
from dataflow.domain.commands import CreatePipeline, PausePipeline, StartPipeline
from dataflow.domain.events import seal
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.state import EPOCH, PipelineState
from dataflow.journal import open_journal

COMMANDS = {"ann": StartPipeline(), "bob": PausePipeline(reason="lunch at noon")}


def write(home: Path, name: str, *actors: str) -> None:
    spec = {"name": name, "description": "of the north", "source": {"type": "generator"}}

    async def run() -> None:
        async with open_journal(f"sqlite:///{home}/journal.db") as journal:
            records = [record async for record in journal.read(name)]
            state = fold(PipelineState.empty(name), records)
            for actor in actors:
                command = COMMANDS[actor] if state.version else CreatePipeline(spec={**spec, "sinks": [SINK]})
                events = decide(state, command)
                sealed = seal(
                    events,
                    stream=name,
                    after_sequence=state.version,
                    previous_hash=state.last_hash,
                    time=EPOCH,
                    actor=actor,
                )
                await journal.append(name, state.version, sealed)
                state = fold(state, sealed)

    asyncio.run(run())


SINK = {"type": "console"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    monkeypatch.setenv("DATAFLOW_HOME", str(home))
    for name in ("JOURNAL_URL", "READMODEL_URL", "SEARCH_URL", "REDIS_URL", "TEMPORAL_ADDRESS"):
        monkeypatch.delenv(f"DATAFLOW_{name}", raising=False)
    for name in ("orders", "sensors"):
        write(home, name, "ann", "ann", "bob")
    return home


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def test_verify_names_the_event_in_which_a_byte_was_changed(home: Path) -> None:
    assert told("audit", "verify") == {"status": "whole", "broken": []}
    assert "3 events: whole" in call("audit", "verify", "orders").stdout
    with closing(sqlite3.connect(home / "journal.db")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        changed = "UPDATE journal_events SET payload = replace(payload, 'noon', 'moon') WHERE stream = 'sensors'"
        connection.execute(changed)
    result = call("audit", "verify")
    assert result.exit_code == 1
    assert "sensors/3: the event is not what its hash was taken of" in result.stdout
    [broken] = told("audit", "verify", "sensors", code=1)["broken"]
    assert (broken["stream"], broken["sequence"]) == ("sensors", 3)
    assert told("audit", "verify", "orders")["status"] == "whole"
    assert call("audit", "verify", "nobody").exit_code == 1


def test_exports_can_be_checked_without_us(tmp_path: Path) -> None:
    assert told("audit", "export", "--output", "all.jsonl")["events"] == 6
    for line in (tmp_path / "all.jsonl").read_text().splitlines():
        record = json.loads(line)
        found = record.pop("hash")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(text.encode()).hexdigest() == found
    assert told("audit", "export", "orders", "--format", "parquet", "--output", "some/orders.parquet")["events"] == 3
    rows = pl.read_parquet(tmp_path / "some/orders.parquet")
    assert rows["actor"].to_list() == ["ann", "ann", "bob"]
    assert told("audit", "export", "--format", "parquet", "-o", "all.parquet")["events"] == 6
    assert pl.read_parquet(tmp_path / "all.parquet")["position"].to_list() == [1, 2, 3, 4, 5, 6]
    lines = call("audit", "export", "orders", "--output", "-").stdout.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [1, 2, 3]
    assert call("audit", "export").exit_code == 2


def test_an_archive_is_a_journal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("audit", "archive")["events"] == 6
    events = told("events")["events"]
    state = told("state", "orders", "--at", "2")
    monkeypatch.setenv("DATAFLOW_JOURNAL_URL", f"archive:{home}/archive")
    (home / "journal.db").unlink()
    assert told("events")["events"] == events
    assert told("state", "orders", "--at", "2") == state
    assert told("audit", "verify")["status"] == "whole"


def test_events_of_an_actor_in_pages() -> None:
    first = told("events", "--actor", "ann", "--limit", "3")
    rest = told("events", "--actor", "ann", "--limit", "3", "--after", first["next"])
    found = [(one["stream"], one["sequence"]) for one in (*first["events"], *rest["events"])]
    assert found == [("orders", 1), ("orders", 2), ("sensors", 1), ("sensors", 2)]
    assert told("events", "--actor", "nobody")["events"] == []
    assert call("events", "--follow", "--last").exit_code == 2


def test_follow_goes_on_with_new_events(home: Path) -> None:
    arguments = [sys.executable, "-m", "dataflow", "events", "--follow", "--json", "--limit", "2"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env={**os.environ}) as following:
        assert following.stdout is not None
        seen = [json.loads(following.stdout.readline())["position"] for _ in range(2)]
        assert seen == [5, 6]
        write(home, "late", "ann", "ann")
        assert [json.loads(following.stdout.readline())["stream"] for _ in range(2)] == ["late", "late"]
        following.send_signal(signal.SIGINT)
    assert following.returncode == 130


def test_search_in_the_read_models() -> None:
    call("projector", "run", "--once")
    found = told("search", "north", "sensors")
    assert [hit["pipeline"] for hit in found["parts"]["pipelines"]["hits"]] == ["sensors"]
    assert found["status"] == "ok"
    result = call("search", "lunch")
    assert "event     sensors  1970-01-01T00:00:00.000000Z  PipelinePaused  reason=lunch at noon" in result.stdout
    assert "nothing found" in call("search", "no such word").stdout
    assert "known: pipelines, events, errors" in call("search", "x", "--kind", "cats").output


def test_search_says_degraded_where_elasticsearch_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_SEARCH_URL", "http://127.0.0.1:9")
    call("projector", "run", "--once")
    found = told("search", "north")
    assert found["status"] == "degraded" and "127.0.0.1:9" in found["degraded"]
    assert found["parts"]["pipelines"]["total"] == 2
    result = call("search", "north")
    assert result.exit_code == 0 and "degraded: " in result.stderr
