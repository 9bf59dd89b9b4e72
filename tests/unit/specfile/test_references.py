"""References: found, resolved, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow import references
from dataflow.assembly import build_source, context_of
from dataflow.errors import InvalidSpec, Rejected
from dataflow.references import References
from dataflow.specfile import from_dict

ENVIRON = {"HOST": "db.example", "PORT": "5432", "DATAFLOW_SECRET_DB_PASS_WORD": "from variable"}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    (tmp_path / "db.pass-word").write_text("hünter2\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


def test_everywhere_in_a_value() -> None:
    found = References(ENVIRON).resolve(
        {"url": "pg://${env:HOST}:${env:PORT}/x", "deep": [{"a": "${env:PORT}"}], "n": 1}
    )
    assert found == {"url": "pg://db.example:5432/x", "deep": [{"a": "5432"}], "n": 1}


def test_what_stands_for_a_reference_is_not_looked_at_again() -> None:
    assert References({"A": "${env:B}", "B": "x"}).resolve("${env:A}") == "${env:B}"


def test_secrets_are_files_first_then_variables(secrets: Path) -> None:
    assert References(ENVIRON, secrets).resolve("${secret:db.pass-word}") == "hünter2"
    assert References(ENVIRON).resolve("${secret:db.pass-word}") == "from variable"


def test_of_this_process(monkeypatch: pytest.MonkeyPatch, secrets: Path) -> None:
    monkeypatch.setenv("DATAFLOW_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("DATAFLOW_TEST_HOST", "here")
    found = references.resolve({"a": "${env:DATAFLOW_TEST_HOST}", "b": "${secret:db.pass-word}"})
    assert found == {"a": "here", "b": "hünter2"}


@pytest.mark.parametrize("text", ["${env:NONE}", "${secret:none}", "${secret:binary}"])
def test_what_is_missing_is_named(text: str, secrets: Path) -> None:
    with pytest.raises(Rejected) as caught:
        References(ENVIRON, secrets).resolve({"password": text})
    assert caught.value.code == "UNRESOLVED_REFERENCE"
    name = text[2:-1].partition(":")[2]
    assert name in str(caught.value)
    assert not any(value in str(caught.value) for value in ENVIRON.values())


@given(st.text(max_size=20))
def test_malformed_and_well_formed_exclude_each_other(inner: str) -> None:
    text = "${" + inner + "}"
    if not set(inner) & set("${}"):
        assert bool(list(references.malformed(text))) != references.contains(text)


def test_a_wrong_value_behind_a_reference_is_not_shown() -> None:
    loaded = from_dict(
        {
            "name": "abc",
            "source": {"type": "generator", "kind": "order", "rows": "${env:ROWS}", "rate": "${secret:rate}"},
            "sink": {"type": "console"},
        }
    )
    context = context_of(loaded.spec, home=Path("home"))
    known = References({"ROWS": "many-secret-rows", "DATAFLOW_SECRET_RATE": "hunter2"})
    with pytest.raises(InvalidSpec) as caught:
        build_source(loaded.spec, context, known)
    assert "hunter2" not in str(caught.value) and "many-secret-rows" not in str(caught.value)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [
        ("source.rows", "what ${env:ROWS} stands for must be a whole number"),
        ("source.rate", "what ${secret:rate} stands for must be a number"),
    ]
    assert caught.value.__cause__ is None or "hunter2" not in repr(caught.value.__cause__)


def test_a_right_one_is_used() -> None:
    loaded = from_dict(
        {
            "name": "abc",
            "source": {"type": "generator", "kind": "order", "rows": "${env:ROWS}"},
            "sink": {"type": "console"},
        }
    )
    source = build_source(loaded.spec, context_of(loaded.spec, home=Path("home")), References({"ROWS": "7"}))
    assert source.bounded
    assert loaded.spec.stored()["source"]["rows"] == "${env:ROWS}"
