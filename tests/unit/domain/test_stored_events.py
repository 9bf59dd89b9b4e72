"""Events of every released format still read, still fold, still verify, also by a reader that knows only the text of
`dataflow.domain.record`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dataflow.domain import events as e
from dataflow.domain.pipeline import fold
from dataflow.domain.record import GENESIS, event_id, hashed, verify
from dataflow.domain.state import PipelineState
from dataflow.errors import Corrupt

FILES = sorted((Path(__file__).parents[2] / "fixtures" / "events").glob("v*.json"))
STORED = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
RECORDS = {name: TypeAdapter(list[e.EventRecord]).validate_python(doc["records"]) for name, doc in STORED.items()}
LATEST = RECORDS[max(RECORDS, key=lambda name: int(name[1:]))]


def test_every_event_type_of_today_is_stored_in_its_version() -> None:
    stored = {(record.type, record.schema_version) for records in RECORDS.values() for record in records}
    assert {(name, cls.schema_version) for name, cls in e.EVENT_TYPES.items()} <= stored


@pytest.mark.parametrize("name", STORED)
def test_it_still_folds_to_the_same_state(name: str) -> None:
    state = fold(PipelineState.empty("eu-orders"), RECORDS[name])
    now = TypeAdapter(PipelineState).dump_python(state, mode="json")
    then = STORED[name]["state"]
    assert {key: now[key] for key in then} == then, "fields may be added, none may change"


@pytest.mark.parametrize("name", STORED)
def test_it_still_verifies(name: str) -> None:
    assert verify(RECORDS[name]) is None


def independent(value: Any) -> str:
    """Canonical JSON after the words of the record module, with nothing of its code."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(map(independent, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{independent(k)}:{independent(value[k])}" for k in sorted(value)) + "}"
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    text = ""
    for char in value:
        if char in short:
            text += short[char]
        elif " " <= char <= "~":
            text += char
        else:
            units = char.encode("utf-16-be")
            text += "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
    return f'"{text}"'


@pytest.mark.parametrize("name", STORED)
def test_an_independent_reader_finds_the_same_hashes(name: str) -> None:
    previous = "0" * 64
    for record in STORED[name]["records"]:
        document = {key: value for key, value in record.items() if key != "hash"}
        time = datetime.fromisoformat(record["time"]).astimezone(UTC)
        document["time"] = f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond:06}Z"
        assert document["previous_hash"] == previous
        previous = hashlib.sha256(independent(document).encode("ascii")).hexdigest()
        assert previous == record["hash"]


TAMPERED = {
    "payload": {"reason": "nothing happened"},
    "time": datetime(2020, 1, 1, tzinfo=UTC),
    "actor": "mallory",
    "correlation_id": "x",
    "causation_id": "x",
    "tags": (),
    "type": "PipelineDeleted",
    "schema_version": 2,
    "id": "x",
    "stream": "x",
    "hash": "0" * 64,
    "previous_hash": "0" * 64,
    "sequence": 99,
}


@pytest.mark.parametrize("field", TAMPERED)
def test_a_change_to_any_field_is_found_where_it_is(field: str) -> None:
    records = list(LATEST)
    records[9] = replace(records[9], **{field: TAMPERED[field]})
    assert verify(records) == records[9].sequence


def test_a_removed_a_doubled_and_a_swapped_event_are_found() -> None:
    records = list(LATEST)
    assert verify(records[:4] + records[5:]) == 6
    assert verify([*records[:5], records[4], *records[5:]]) == 5
    assert verify([*records[:4], records[5], records[4], *records[6:]]) == 6
    assert verify(records[1:]) == 2
    assert verify(records[1:], records[0].hash) is None


def test_a_rehashed_forgery_breaks_the_next_link() -> None:
    records = list(LATEST)
    records[9] = hashed(replace(records[9], actor="mallory"))
    assert verify(records) == records[10].sequence


def test_a_gap_is_found_even_where_the_links_were_forged() -> None:
    first = LATEST[0]
    forged = hashed(replace(LATEST[2], previous_hash=first.hash))
    assert verify([first, forged]) == 3
    assert verify([first, hashed(replace(forged, sequence=2))]) is None


def test_an_unknown_type_version_or_payload_is_corrupt() -> None:
    record = LATEST[0]
    for broken, why in (
        (replace(record, type="PipelineExploded"), "PipelineExploded"),
        (replace(record, schema_version=99), "newer DataFlow"),
        (replace(record, schema_version=0), "no upcaster"),
        (replace(record, payload={"name": "x"}), "does not fit"),
    ):
        with pytest.raises(Corrupt, match=why) as refused:
            e.unseal(broken)
        assert refused.value.where == "eu-orders/1"


def test_an_older_version_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e.PipelinePaused, "schema_version", 3)
    monkeypatch.setitem(e.UPCASTERS, ("PipelinePaused", 1), lambda old: {"why": old["because"]})
    monkeypatch.setitem(e.UPCASTERS, ("PipelinePaused", 2), lambda old: {"reason": old["why"].upper()})
    record = replace(LATEST[0], type="PipelinePaused", schema_version=1, payload={"because": "lunch"})
    assert e.unseal(record) == e.PipelinePaused(reason="LUNCH")


def test_a_field_added_later_does_not_disturb_an_older_reader() -> None:
    record = replace(LATEST[0], type="PipelinePaused", payload={"reason": "lunch", "mood": "good"})
    assert e.unseal(record) == e.PipelinePaused(reason="lunch")


def test_sealing_is_deterministic() -> None:
    def sealed() -> tuple[e.EventRecord, ...]:
        return e.seal(
            [e.PipelinePaused(reason="a"), e.PipelineResumed()],
            stream="orders",
            after_sequence=7,
            previous_hash=GENESIS,
            time=datetime(2026, 1, 1, tzinfo=UTC),
            actor="anna",
            correlation_id="c",
            causation_id="d",
        )

    first, second = sealed()
    assert sealed() == (first, second)
    assert (first.sequence, second.sequence) == (8, 9)
    assert second.previous_hash == first.hash
    assert first.id == event_id("orders", 8) == "5e8ac646-ad47-588c-a5a9-19c458ddfb35"
    assert {(r.actor, r.correlation_id, r.causation_id) for r in (first, second)} == {("anna", "c", "d")}


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        e.seal(
            [e.PipelineResumed()],
            stream="orders",
            after_sequence=0,
            previous_hash=GENESIS,
            time=datetime(2026, 1, 1),
        )
