"""Files as a source and as a sink: csv, jsonl, json, text, parquet; gzip and zstd; folders, globs, many files.

`SOURCE` and `SINK` are loaded when first asked for, so that reading does not pay for writing and the other way round.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataflow.components import Component

    SOURCE: Component
    SINK: Component

__all__ = ["SINK", "SOURCE"]

_HOMES = {"SOURCE": "dataflow.connectors.file.source", "SINK": "dataflow.connectors.file.sink"}


def __getattr__(name: str) -> Component:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: Component = getattr(import_module(_HOMES[name]), name)
    return found
