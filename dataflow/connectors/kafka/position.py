"""Where reading of a partition goes on, and how splits are named."""

from __future__ import annotations

import json
import re

from dataflow.domain.flow import Position
from dataflow.errors import Corrupt

_SPLIT = re.compile(r"([A-Za-z0-9._-]{1,249})-(\d+)")


def split_name(topic: str, partition: int) -> str:
    """`orders-3`: the same partition always."""
    return f"{topic}-{partition}"


def split_of(split: str) -> tuple[str, int]:
    """The topic and the partition that a split names. Raises `Corrupt` for a split of anything else."""
    found = _SPLIT.fullmatch(split)
    if not found:
        raise Corrupt(f"{split!r} is not a split of a Kafka source")
    return found[1], int(found[2])


def position(offset: int) -> Position:
    """`{"v":1,"offset":N}`: the offset of the next record to read."""
    return Position(json.dumps({"v": 1, "offset": offset}, separators=(",", ":")))


def offset_of(text: Position) -> int:
    """The offset of a position. Raises `Corrupt` where it is none of a Kafka source."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Corrupt(f"{text!r} is not a position of a Kafka source") from error
    match found:
        case {"v": 1, "offset": int(offset)} if offset >= 0 and not isinstance(offset, bool):
            return offset
    raise Corrupt(f"{text!r} is not a position of a Kafka source")
