"""The functions of the language, by name: see docs/expressions.md."""

from __future__ import annotations

from dataflow.expressions.functions import conditional, nested, number, text, time
from dataflow.expressions.functions.table import TABLE, Call, Function

__all__ = ["TABLE", "Call", "Function", "conditional", "nested", "number", "text", "time"]
