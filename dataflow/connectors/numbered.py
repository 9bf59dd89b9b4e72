"""Positions of sources whose records are numbered: the number of the next record to read."""

from __future__ import annotations

import json

from dataflow.domain.flow import Position
from dataflow.errors import Corrupt


def position(offset: int) -> Position:
    """`{"v":1,"offset":N}`: the next record is the one of that number."""
    return Position(json.dumps({"v": 1, "offset": offset}, separators=(",", ":")))


def offset_of(text: Position) -> int:
    """The number in such a position. Raises `Corrupt` for anything else."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Corrupt(f"{text!r} is not a position with an offset") from error
    match found:
        case {"v": 1, "offset": int(offset)} if offset >= 0 and not isinstance(offset, bool):
            return offset
    raise Corrupt(f"{text!r} is not a position with an offset")
