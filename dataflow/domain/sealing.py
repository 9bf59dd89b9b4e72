"""Events in and out of their envelopes, for the aggregates that have a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from dataflow.domain.record import EventRecord, event_id, hashed
from dataflow.errors import Corrupt

E = TypeVar("E")

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Catalogue(Generic[E]):
    """The event types of one aggregate. Each has a `schema_version`; `upcasters` holds (type, schema version n) -> the
    payload as version n + 1 has it; `tags` gives the tags of an event."""

    def __init__(
        self,
        types: Mapping[str, type[E]],
        upcasters: Mapping[tuple[str, int], Upcaster],
        tags: Callable[[E], tuple[str, ...]],
    ) -> None:
        self.types = types
        self._upcasters = upcasters
        self._tags = tags
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def seal(
        self,
        events: Iterable[E],
        *,
        stream: str,
        after_sequence: int,
        previous_hash: str,
        time: datetime,
        actor: str = "system",
        correlation_id: str = "",
        causation_id: str = "",
    ) -> tuple[EventRecord, ...]:
        """Put events into envelopes that follow `after_sequence`, chained to `previous_hash`. The same arguments give
        the same records, ids and hashes included. `time` must be aware (ValueError)."""
        records: list[EventRecord] = []
        for sequence, event in enumerate(events, after_sequence + 1):
            name = type(event).__name__
            record = hashed(
                EventRecord(
                    id=event_id(stream, sequence),
                    stream=stream,
                    sequence=sequence,
                    type=name,
                    schema_version=_version(type(event)),
                    time=time,
                    actor=actor,
                    correlation_id=correlation_id,
                    causation_id=causation_id,
                    tags=self._tags(event),
                    payload=self._adapter(name).dump_python(event, mode="json"),
                    previous_hash=previous_hash,
                )
            )
            records.append(record)
            previous_hash = record.hash
        return tuple(records)

    def unseal(self, record: EventRecord) -> E:
        """The event inside, brought up to today's schema version. `Corrupt` where the type or version is not known
        here or the payload does not fit. The hash is not checked: `record.verify` does that for whole streams."""
        where = f"{record.stream}/{record.sequence}"
        cls = self.types.get(record.type)
        if cls is None:
            raise Corrupt(f"event type {record.type!r} is not known to this version of DataFlow", where=where)
        known = _version(cls)
        if record.schema_version > known:
            raise Corrupt(
                f"{record.type} has schema version {record.schema_version}, this version of DataFlow knows {known}",
                where=where,
                hint="it was written by a newer DataFlow: upgrade this one",
            )
        payload = dict(record.payload)
        for version in range(record.schema_version, known):
            upcast = self._upcasters.get((record.type, version))
            if upcast is None:
                raise Corrupt(f"there is no upcaster for {record.type} of schema version {version}", where=where)
            payload = upcast(payload)
        try:
            event: E = self._adapter(record.type).validate_python(payload)
        except ValidationError as error:
            raise Corrupt(f"the payload of {record.type} does not fit: {error}", where=where) from error
        return event

    def _adapter(self, name: str) -> TypeAdapter[Any]:
        """Made when first asked for: all of them take longer than most programs wait for their start."""
        if name not in self._adapters:
            self._adapters[name] = TypeAdapter(self.types[name])
        return self._adapters[name]


def _version(cls: type) -> int:
    version: int = cls.schema_version  # type: ignore[attr-defined]
    return version
