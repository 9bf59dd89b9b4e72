from pathlib import Path

import pytest

from dataflow.errors import InvalidSpec
from dataflow.settings import Settings


def problems(**overrides: object) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        Settings.load(**overrides)
    return [str(problem) for problem in caught.value.problems]


def test_nothing_set_is_embedded(settings: Settings) -> None:
    plain = Settings.load()
    assert plain.home == Path.cwd() / ".dataflow"
    assert plain.temporal_address is None
    assert plain.journal_url == f"sqlite:///{plain.home / 'journal.db'}"
    assert (plain.api_port, plain.metrics_port, plain.task_queue) == (8080, 9095, "dataflow")
    assert (plain.heartbeat_timeout, plain.segment_max) == (8.0, 60.0)
    assert plain.logs == plain.home / "logs"


def test_environment_wins_over_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dataflow.toml").write_text('api_port = 1\nmetrics_port = 2\nhome = "data"\n')
    monkeypatch.setenv("DATAFLOW_API_PORT", "3")
    monkeypatch.setenv("DATAFLOW_METRICS_PORT", "")  # empty is unset
    found = Settings.load()
    assert (found.api_port, found.metrics_port, found.home) == (3, 2, Path.cwd() / "data")


@pytest.mark.parametrize(("text", "value"), [("5", 5.0), ("5s", 5.0), ("1500ms", 1.5), ("1m", 60.0)])
def test_durations(settings: Settings, monkeypatch: pytest.MonkeyPatch, text: str, value: float) -> None:
    monkeypatch.setenv("DATAFLOW_HEARTBEAT_TIMEOUT", text)
    assert Settings.load().heartbeat_timeout == value


def test_bad_values_name_their_variable_or_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dataflow.toml").write_text('api_port = 70000\ntemporal_adress = "x:1"\nsegment_max = "soon"\n')
    monkeypatch.setenv("DATAFLOW_LOG_LEVEL", "loud")
    monkeypatch.setenv("DATAFLOW_TEMPORAL_ADDRESS", "nowhere")
    found = problems()
    assert len(found) == 5
    assert any(text.startswith("dataflow.toml: api_port: ") and "65535" in text for text in found)
    assert any(
        text.startswith("dataflow.toml: temporal_adress: unknown") and "temporal_address?" in text for text in found
    )
    assert any(text.startswith("dataflow.toml: segment_max: 'soon' is not a duration") for text in found)
    assert any(text.startswith("DATAFLOW_LOG_LEVEL: ") and "'warning'" in text for text in found)
    assert any(text.startswith("DATAFLOW_TEMPORAL_ADDRESS: 'nowhere' is not host:port") for text in found)


def test_a_broken_file_is_said_to_be_one(settings: Settings) -> None:
    Path("dataflow.toml").write_text("api_port = = 1\n")
    assert problems()[0].startswith("dataflow.toml: not TOML: ")


def test_segment_lengths_must_fit_together(settings: Settings) -> None:
    assert "segment_min (9 s) is more than segment_max (5 s)" in problems(segment_min=9, segment_max=5)[0]


def test_log_level_in_any_case(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLOW_LOG_LEVEL", "WARNING")
    assert Settings.load().log_level == "warning"


@pytest.mark.parametrize("address", ["temporal.example:7233", "[::1]:7233"])
def test_addresses(settings: Settings, address: str) -> None:
    assert Settings.load(temporal_address=address).temporal_address == address
