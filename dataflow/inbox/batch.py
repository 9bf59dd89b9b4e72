"""A pushed batch as it is stored: checked, as JSON lines, with a digest that tells whether a repeat is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from dataflow.domain.validation import MAX_BATCH, MAX_BATCH_ID
from dataflow.errors import InvalidSpec, Problem, Rejected

MAX_BYTES = 8 * 2**20
"""Size of a batch at most, its records as JSON."""

_SHOWN = 20  # problems of one batch at most


@dataclass(frozen=True, slots=True)
class Batch:
    """`lines` holds one JSON object a line; `digest` is the same for equal records, in whatever order their keys."""

    id: str
    records: int
    lines: bytes
    digest: str
    source_offset: int = 0

    @classmethod
    def of(cls, batch_id: str, records: Sequence[Mapping[str, Any]], source_offset: int = 0) -> Batch:
        """Raises `InvalidSpec` with what is wrong with id, number and records, and `Rejected` (TOO_LARGE)."""
        problems = [*_about(batch_id, records, source_offset)]
        lines: list[bytes] = []
        digest, size = sha256(), 0
        for index, record in enumerate(records if not problems else ()):
            try:
                line, canonical = _encoded(record)
            except (ValueError, TypeError) as error:
                problems.append(Problem(f"records[{index}]", str(error), code="bad_record"))
                if len(problems) == _SHOWN:
                    break
                continue
            size += len(line) + 1
            if size > MAX_BYTES:
                raise too_large()
            lines.append(line)
            digest.update(canonical + b"\n")
        if problems:
            raise InvalidSpec(problems)
        return cls(batch_id, len(lines), b"\n".join(lines), digest.hexdigest(), source_offset)


def too_large() -> Rejected:
    """The error for a batch above the limit."""
    return Rejected(
        f"the batch is larger than {MAX_BYTES // 2**20} MiB", code="TOO_LARGE", hint="push it in smaller batches"
    )


def _about(batch_id: object, records: object, source_offset: object) -> Iterator[Problem]:
    if not isinstance(batch_id, str) or not batch_id.strip():
        yield Problem("batch_id", "is missing: a text that is the same when the batch is sent again")
    elif len(batch_id) > MAX_BATCH_ID:
        yield Problem("batch_id", f"is {len(batch_id)} characters long, more than {MAX_BATCH_ID}")
    elif not batch_id.isprintable():
        yield Problem("batch_id", "holds characters that cannot be shown")
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        yield Problem("records", "is not a list of JSON objects")
    elif not 1 <= len(records) <= MAX_BATCH:
        yield Problem("records", f"holds {len(records)} records, not 1 to {MAX_BATCH}")
    if not isinstance(source_offset, int) or isinstance(source_offset, bool) or not 0 <= source_offset < 2**63:
        yield Problem("source_offset", f"is {source_offset!r}, not a whole number from 0 on")


def _encoded(record: object) -> tuple[bytes, bytes]:
    """The record as JSON, as given and with its keys in order."""
    if not isinstance(record, Mapping):
        raise ValueError(f"is {_kind(record)}, not a JSON object")
    if odd := [key for key in record if not isinstance(key, str)]:
        raise ValueError(f"has the key {odd[0]!r}, which is no text")
    given = record if isinstance(record, dict) else dict(record)
    try:
        return _json(given), _json(given, ordered=True)
    except UnicodeEncodeError:
        raise ValueError("holds text that is not Unicode") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _json(record: dict[str, Any], *, ordered: bool = False) -> bytes:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=ordered)
    return text.encode()


def _kind(value: object) -> str:
    names = {str: "text", list: "a list", bool: "a truth value", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
