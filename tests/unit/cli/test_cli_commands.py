"""Commands as programs run them: exit codes, one JSON object, nothing else on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dataflow.cli.app import app
from dataflow.cli.look import _place
from dataflow.domain import commands as c
from dataflow.domain.events import seal
from dataflow.domain.pipeline import decide, fold
from dataflow.domain.state import PipelineState
from dataflow.journal import open_journal

GOOD = """\
name: orders
source: {type: generator, kind: order, rows: 100, seed: 1}
transforms:
  - {type: filter, where: "amount > 50"}
sinks:
  - {type: console}
  - {type: console, where: "quantity > 3"}
"""
BAD = GOOD.replace("kind: order", "kind: ordr").replace("amount > 50", "amout > 50")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATAFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATAFLOW_TEMPORAL_ADDRESS", raising=False)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path / "home"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def object_of(result: Result) -> dict[str, Any]:
    """Standard output is one JSON object on one line."""
    assert result.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_validate_tells_what_each_pair_gives() -> None:
    result = call("validate", "good.yaml")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "good.yaml: orders is valid",
        "  generator -> sink1 (console): at least once",
        "  generator -> sink2 (console): at least once",
    ]


def test_validate_json() -> None:
    found = object_of(call("validate", "good.yaml", "--json"))
    assert (found["status"], found["pipeline_id"], found["problems"]) == ("valid", "orders", [])
    assert found["columns"]["amount"] == "float64"
    assert [pair["delivery"] for pair in found["deliveries"]] == ["at_least_once", "at_least_once"]


@pytest.mark.parametrize("command", ["validate", "run", "preview", "submit"])
def test_an_invalid_file_is_exit_2_everywhere(command: str, home: Path) -> None:
    result = call(command, "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "bad.yaml:2:33: source.kind: must be one of user, event, order, sensor, not 'ordr'" in result.stderr
    assert not (home / "temporal.json").exists()
    found = object_of(call(command, "bad.yaml", "--json"))
    assert found["status"] == "invalid"
    problem = found["problems"][0]
    assert (problem["line"], problem["column"], problem["path"], problem["code"]) == (2, 33, "source.kind", "bad_value")
    assert problem["hint"] == "did you mean 'order'?"


def test_validate_many_is_as_bad_as_the_worst() -> None:
    result = call("validate", "good.yaml", "bad.yaml", "--json")
    assert result.exit_code == 2
    found = object_of(result)
    assert found["status"] == "invalid"
    assert [one["status"] for one in found["files"]] == ["valid", "invalid"]


def test_validate_offline_asks_nobody() -> None:
    Path("off.yaml").write_text(
        GOOD.replace("{type: generator, kind: order, rows: 100, seed: 1}", "{type: file, path: no.csv}")
    )
    assert call("validate", "off.yaml").exit_code == 2
    assert call("validate", "off.yaml", "--offline").exit_code == 0


def test_preview_shows_every_stage() -> None:
    result = call("preview", "good.yaml", "--rows", "50", "--json")
    assert result.exit_code == 0
    stages = object_of(result)["stages"]
    assert [stage["stage"] for stage in stages] == ["source", "transforms[0]", "sinks[1].where"]
    assert len(stages[0]["rows"]) == 50
    assert 0 < len(stages[1]["rows"]) < 50
    assert all(row["amount"] > 50 for row in stages[1]["rows"])
    assert stages[1]["filtered"] == 50 - len(stages[1]["rows"])
    assert all(row["quantity"] > 3 for row in stages[2]["rows"])
    assert "order_id" in call("preview", "good.yaml").stdout


def test_preview_of_what_json_has_no_words_for() -> None:
    Path("nan.yaml").write_text(
        "name: nan\nsource: {type: file, path: n.csv, columns: {a: DOUBLE}}\nsink: {type: console}\n"
    )
    Path("n.csv").write_text("a\nNaN\ninf\n1.5\n")
    [stage] = object_of(call("preview", "nan.yaml", "--json"))["stages"]
    assert [row["a"] for row in stage["rows"]] == ["nan", "inf", 1.5]


def test_connectors() -> None:
    listed = call("connectors")
    assert listed.exit_code == 0 and "generator" in listed.stdout
    found = object_of(call("connectors", "filter", "--json"))["connectors"]
    assert [one["kind"] for one in found] == ["transform"]
    assert found[0]["schema"]["required"] == ["where"]
    assert "where" in call("connectors", "filter").stdout
    missing = call("connectors", "filtr")
    assert missing.exit_code == 1 and "did you mean 'filter'?" in missing.stderr


def test_a_bad_setting_is_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_API_PORT", "many")
    result = call("doctor")
    assert result.exit_code == 2 and "DATAFLOW_API_PORT" in result.stderr


def test_a_bad_command_line_is_exit_2() -> None:
    assert call("run").exit_code == 2
    assert call("nothing").exit_code == 2


async def history(home: Path) -> PipelineState:
    """A pipeline that was created, started and stopped, in the journal."""
    from dataflow import specfile

    state = PipelineState.empty("orders")
    home.mkdir()
    async with open_journal(f"sqlite:///{home / 'journal.db'}") as journal:
        spec = specfile.loads(GOOD).spec
        for n, given in enumerate(
            (c.CreatePipeline(spec=spec.stored()), c.StartPipeline(), c.StopPipeline(reason="enough"))
        ):
            records = seal(
                decide(state, given),
                stream="orders",
                after_sequence=state.version,
                previous_hash=state.last_hash,
                time=datetime(2026, 1, 31, 12, n, tzinfo=UTC),
                actor="test",
            )
            await journal.append("orders", state.version, records)
            state = fold(state, records)
    return state


class TestTheJournalAlone:
    """Without a server nothing is started to answer what the journal knows."""

    @pytest.fixture(autouse=True)
    async def past(self, home: Path) -> PipelineState:
        return await history(home)

    @pytest.fixture(autouse=True)
    def nothing_is_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*args: object, **named: object) -> None:
            raise AssertionError("a server was started")

        monkeypatch.setattr("dataflow.cli.look.session", refuse)

    def test_list(self) -> None:
        found = object_of(call("list", "--json"))
        assert found["total"] == 1
        assert found["pipelines"][0] == {
            "id": "orders", "name": "orders", "status": "stopped", "source": "generator",
            "sink": "console", "owner": "",
        }  # fmt: skip
        assert "orders" in call("list").stdout
        assert object_of(call("list", "--status", "running", "--json"))["total"] == 0

    def test_status(self) -> None:
        found = object_of(call("status", "orders", "--json"))
        assert (found["pipeline_id"], found["status"], found["records_read"]) == ("orders", "stopped", 0)
        assert "reason:     enough" in call("status", "orders").stdout
        missing = call("status", "nobody", "--json")
        assert missing.exit_code == 1
        assert object_of(missing)["error"]["code"] == "NOT_FOUND"

    def test_events(self) -> None:
        found = object_of(call("events", "orders", "--json"))
        assert [event["type"] for event in found["events"]] == ["PipelineCreated", "PipelineStarted", "PipelineStopped"]
        assert found["events"][0]["time"] == "2026-01-31T12:00:00.000Z"
        assert found["next"] is None
        page = object_of(call("events", "orders", "--limit", "2", "--json"))
        rest = object_of(call("events", "orders", "--limit", "2", "--after", page["next"], "--json"))
        assert [event["sequence"] for event in (*page["events"], *rest["events"])] == [1, 2, 3]
        lines = call("events", "--type", "PipelineStopped").stdout.splitlines()
        assert len(lines) == 2 and "reason=enough" in lines[1]
        assert call("events", "nobody").exit_code == 1
        assert call("events", "--since", "yesterday").exit_code == 2

    @pytest.mark.parametrize(
        ("at", "status"),
        [("1", "configured"), ("2", "running"), ("2026-01-31T12:01:30Z", "running"), ("2026-01-31 12:02", "stopped")],
    )
    def test_state_at(self, at: str, status: str) -> None:
        assert object_of(call("state", "orders", "--at", at, "--json"))["status"] == status

    def test_state_at_an_event_id(self) -> None:
        events = object_of(call("events", "orders", "--json"))["events"]
        assert object_of(call("state", "orders", "--at", events[1]["id"], "--json"))["status"] == "running"
        assert call("state", "orders", "--at", "nothing").exit_code == 1
        assert call("state", "orders", "--at", "9").exit_code == 1

    def test_doctor_verifies_the_chain(self, home: Path) -> None:
        found = object_of(call("doctor", "--json"))
        journal = next(one for one in found["findings"] if one["name"] == "journal")
        assert journal["verdict"] == "ok" and "3 events in 1 streams" in journal["detail"]


def test_places_in_time() -> None:
    assert _place("") is None
    assert _place("17") == 17
    assert _place("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert _place("0190c0de-0000") == "0190c0de-0000"


def test_nothing_heavy_is_imported_for_help() -> None:
    """Help comes at once because Polars and Temporal stay out of it."""
    code = (
        "import sys\nimport dataflow.cli.app\n"
        "heavy = {'polars', 'temporalio', 'sqlalchemy', 'pyarrow', 'fastapi', 'pydantic', 'rich', 'ruamel'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert out.stdout.strip() == "[]"


def test_every_command_has_help_and_json() -> None:
    help_text = call("--help").stdout
    looking = ["validate", "preview", "list", "status", "events", "state", "connectors", "doctor"]
    changing = ["run", "submit", "start", "stop", "pause", "resume", "reset", "delete", "up", "worker"]
    for name in looking + changing:
        assert f"\n  {name} " in help_text
        assert "--json" in call(name, "--help").stdout
