"""What the transforms share: rows that failed as dead letters, and the hints for the original's option names."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import polars as pl
from pydantic_core import PydanticCustomError

from dataflow.errors import InvalidSpec, Problem
from dataflow.expressions import Failures, nearest
from dataflow.seams import REJECTS


def rejects(failures: Failures | None) -> pl.DataFrame | None:
    """Failed rows in the columns of `REJECTS`; the chain fills in the stage, the row itself is one JSON object.

    This is the slow path: it costs Python for every bad row, and nothing for good ones."""
    if failures is None:
        return None
    records = [encoded(row) for row in failures.rows.iter_rows(named=True)]
    return failures.reasons.select(
        pl.lit("").alias("stage"), "code", "message", pl.lit("").alias("where"), pl.Series("record", records, pl.String)
    ).cast(REJECTS)


def encoded(row: Mapping[str, Any]) -> str:
    """A row as one JSON object. Decimals and spans become text, bytes base64; NaN and infinities become null."""
    return orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()


def within(path: str, refused: InvalidSpec) -> Iterable[Problem]:
    """The problems of an expression, as those of the option it was written in."""
    return [replace(problem, path=path) for problem in refused.problems]


def unknown(path: str, name: str, schema: Iterable[str], *, hint: str = "") -> Problem:
    """A column that is not there, with the nearest one that is."""
    known = list(schema)
    listed = "columns: " + ", ".join(known[:12]) if known else "there are no columns"
    return Problem(path, f"unknown column {name!r}", code="unknown_column", hint=hint or nearest(name, known) or listed)


def old_options(options: object, advice: Mapping[str, Callable[[object], str]]) -> None:
    """Refuse option names of the original platform, saying what to write instead of the value they have."""
    if not isinstance(options, Mapping):
        return
    for old, instead in advice.items():
        if old in options:
            context = {"old": old, "instead": instead(options[old])}
            raise PydanticCustomError("old_spelling", "{old} is no option here: {instead}", context)


def on_error(value: object) -> str:
    """What the original's `errorHandling` is now."""
    wanted = {"skip": "skip", "fail": "fail", "deadletter": "dead_letter", "dead-letter": "dead_letter"}
    return f"write on_error: {wanted.get(str(value).lower(), 'skip, fail or dead_letter')}"


def _plain(value: object) -> object:
    if isinstance(value, Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
