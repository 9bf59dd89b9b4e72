"""The expressions of filters and maps: SQL expressions, checked against a schema and compiled once to Polars.

`compile` parses, checks and compiles one expression. `Program` runs compiled expressions over batches, and says which
rows cannot be evaluated. The language is described in docs/expressions.md.
"""

from dataflow.expressions.compiled import Compiled, column, compile
from dataflow.expressions.program import Failures, Outcome, Program
from dataflow.expressions.syntax import columns
from dataflow.expressions.types import NAMES as TYPE_NAMES
from dataflow.expressions.types import name as type_name
from dataflow.expressions.types import named as type_named
from dataflow.expressions.values import Check, nearest

__all__ = [
    "TYPE_NAMES",
    "Check",
    "Compiled",
    "Failures",
    "Outcome",
    "Program",
    "column",
    "columns",
    "compile",
    "nearest",
    "type_name",
    "type_named",
]
