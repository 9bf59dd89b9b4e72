"""Events of every released format still read, still fold, still verify."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from dataflow.domain.coordinator.events import CATALOGUE, EVENT_TYPES
from dataflow.domain.coordinator.evolution import evolve, fold
from dataflow.domain.coordinator.state import CoordinatorState
from dataflow.domain.record import EventRecord, hashed, verify
from dataflow.errors import Corrupt

FILES = sorted((Path(__file__).parents[2] / "fixtures" / "events").glob("coordinator-v*.json"))
STORED = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
RECORDS = {name: TypeAdapter(list[EventRecord]).validate_python(doc["records"]) for name, doc in STORED.items()}
EMPTY = CoordinatorState.empty("coordinator/dataflow")
LATEST = RECORDS[FILES[-1].stem]


def test_every_event_type_of_today_is_stored_in_its_version() -> None:
    stored = {(record.type, record.schema_version) for records in RECORDS.values() for record in records}
    assert {(name, cls.schema_version) for name, cls in EVENT_TYPES.items()} <= stored


@pytest.mark.parametrize("name", STORED)
def test_it_still_folds_to_the_same_state_and_verifies(name: str) -> None:
    now = TypeAdapter(CoordinatorState).dump_python(fold(EMPTY, RECORDS[name]), mode="json")
    then = STORED[name]["state"]
    assert {key: now[key] for key in then} == then, "fields may be added, none may change"
    assert verify(RECORDS[name]) is None


def test_what_cannot_have_happened_is_corrupt() -> None:
    first = LATEST[0]
    for broken, why in (
        (replace(first, sequence=2), "is expected next"),
        (replace(first, previous_hash="1" * 64), "not linked"),
        (replace(first, type="PipelineExploded"), "not known"),
        (replace(first, schema_version=9), "newer DataFlow"),
        (replace(first, payload={"limits": 3}), "does not fit"),
    ):
        with pytest.raises(Corrupt, match=why):
            evolve(EMPTY, broken)
    known = {record.type: record for record in reversed(LATEST)}
    for kind in ("PipelineUnregistered", "PipelineStatusUpdated", "AdmissionGranted", "AdmissionQueued"):
        alone = hashed(replace(known[kind], sequence=1, previous_hash=EMPTY.last_hash))
        with pytest.raises(Corrupt, match="is not registered"):
            evolve(EMPTY, alone)
    gone = hashed(replace(known["WorkerRemoved"], sequence=1, previous_hash=EMPTY.last_hash))
    with pytest.raises(Corrupt, match="was not there"):
        evolve(EMPTY, gone)


def test_an_event_comes_out_of_its_envelope_as_it_went_in() -> None:
    for record in LATEST:
        (again,) = CATALOGUE.seal(
            [CATALOGUE.unseal(record)],
            stream=record.stream,
            after_sequence=record.sequence - 1,
            previous_hash=record.previous_hash,
            time=record.time,
            actor=record.actor,
            correlation_id=record.correlation_id,
            causation_id=record.causation_id,
        )
        assert again == record
