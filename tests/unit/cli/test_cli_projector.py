"""`dataflow projector` on the embedded default."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from dataflow.cli.app import app
from dataflow.domain.commands import CreatePipeline, StartPipeline
from dataflow.domain.events import seal
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.state import EPOCH, PipelineState
from dataflow.journal import open_journal

SPEC = {"name": "orders", "source": {"type": "generator"}, "sinks": [{"type": "console"}]}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    monkeypatch.setenv("DATAFLOW_HOME", str(home))
    for name in ("JOURNAL_URL", "READMODEL_URL", "SEARCH_URL", "REDIS_URL"):
        monkeypatch.delenv(f"DATAFLOW_{name}", raising=False)

    async def write() -> None:
        state = PipelineState.empty("orders")
        async with open_journal(f"sqlite:///{home}/journal.db") as journal:
            for command in (CreatePipeline(spec=SPEC), StartPipeline()):
                records = seal(
                    decide(state, command),
                    stream="orders",
                    after_sequence=state.version,
                    previous_hash=state.last_hash,
                    time=EPOCH,
                    actor="ann",
                )
                await journal.append("orders", state.version, records)
                state = fold(state, records)

    asyncio.run(write())
    return home


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["projector", *arguments])


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def test_run_once_brings_all_up() -> None:
    before = told("status")
    assert (before["status"], before["end"]) == ("behind", 2)
    assert {one["behind"] for one in before["projections"]} == {2} and before["projections"][0]["lag"] > 1e8
    after = told("run", "--once")
    assert after["status"] == "current"
    assert {one["position"] for one in after["projections"]} == {2}


def test_check_finds_and_repairs(home: Path) -> None:
    call("run", "--once")
    assert told("check")["status"] == "identical"
    engine = sa.create_engine(f"sqlite:///{home}/readmodels.db")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE pipeline_status_a SET status = 'failed'"))
    engine.dispose()
    result = call("check")
    assert result.exit_code == 1
    assert "pipeline_status orders: status 'failed', should be 'running'" in result.stdout
    assert told("check", "status", code=1)["status"] == "different"
    assert told("check", "status", "--repair")["status"] == "repaired"
    assert told("check")["status"] == "identical"


def test_rebuild_needs_a_name() -> None:
    call("run", "--once")
    assert "rebuild which?" in call("rebuild").output
    assert "known: status, metrics, audit" in call("rebuild", "nothing").output
    [one] = told("rebuild", "audit")["read_models"]
    assert (one["rows"], one["different"], one["swapped"]) == (2, 0, True)


def test_a_store_that_is_down_is_degraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_READMODEL_URL", "postgresql://nobody@127.0.0.1:9/none")
    found = told("status", code=1)
    assert found["status"] == "degraded"
    assert all("127.0.0.1" in one["degraded"] for one in found["projections"])
