"""Where a file source goes on, as JSON text: version 1.

`file` is the name in the worklist, `offset` counts bytes of the file's UTF-8 stream (decompressed and decoded), `line`
the line that begins there, from 1, `read` the bytes of the file itself that are accounted for. `head` and `tail` are
length and CRC-32 of the file's first bytes and of the stream's last bytes before `offset`: another file under the same
name is noticed. `skip` says that `offset` lies inside a record that was already refused; `done` that the file has
ended. A Parquet file counts rows: `line` is the number of the next row, from 0, and `offset` is not used.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

from dataflow.connectors.file.streams import head
from dataflow.domain.flow import Position
from dataflow.errors import Corrupt

MARK = 1024  # bytes that a fingerprint looks at


@dataclass(frozen=True, slots=True)
class Place:
    file: str
    offset: int = 0
    line: int = 1
    read: int = 0
    size: int = 0
    head: tuple[int, int] = (0, 0)
    tail: tuple[int, int] = (0, 0)
    skip: bool = False
    done: bool = False

    def text(self) -> Position:
        return Position(json.dumps({"v": 1, **asdict(self)}, separators=(",", ":")))


def place(position: Position) -> Place:
    """What a position says; `Corrupt` where it is none of ours."""
    try:
        fields = json.loads(position)
        if fields.pop("v") != 1:
            raise ValueError("another version")
        return Place(**{**fields, "head": tuple(fields["head"]), "tail": tuple(fields["tail"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Corrupt(f"not a position of a file source: {position[:200]!r}") from error


def mark(data: bytes) -> tuple[int, int]:
    return len(data), crc32(data)


def verify(at: Place, path: Path, size: int) -> None:
    """Raise `Corrupt` where the file is plainly not the one that was read up to `at`."""
    if size < at.size:
        message = f"the file has shrunk from {at.size} to {size} bytes since it was read up to line {at.line}"
        raise Corrupt(message, code="FILE_CHANGED", hint="restore it, or reset the pipeline", where=at.file)
    if mark(head(path, at.head[0], at.file)) != at.head:
        raise changed(at)


def changed(at: Place) -> Corrupt:
    message = f"the file is another one than was read up to line {at.line}"
    return Corrupt(message, code="FILE_CHANGED", hint="restore it, or reset the pipeline", where=at.file)
