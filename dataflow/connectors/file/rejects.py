"""Records that could not be read, as rows of `REJECTS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from dataflow.seams import REJECTS

SHOWN = 64 * 1024  # of a record too long to be kept whole


@dataclass(frozen=True, slots=True)
class Refusal:
    """One unreadable record: a stable code, why, its line (or number), its raw bytes."""

    code: str
    message: str
    line: int
    record: bytes


def readable(record: bytes) -> str:
    """The text of a record; bytes that are not UTF-8 are shown as `\\xff`."""
    return record.decode("utf-8", "backslashreplace")


def frame(refusals: Iterable[Refusal], name: str, *, elements: bool = False) -> pl.DataFrame | None:
    """As a data frame, each located as `name:line`, or as `name[n]`, from 0, where elements are counted. None where
    there are none."""
    rows = [
        (
            "source",
            bad.code,
            bad.message,
            f"{name}[{bad.line - 1}]" if elements else f"{name}:{bad.line}",
            readable(bad.record),
        )
        for bad in refusals
    ]
    return pl.DataFrame(rows, schema=REJECTS, orient="row") if rows else None
