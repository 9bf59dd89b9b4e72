"""`console`: prints records on the terminal, in six formats.

`redirect` sends what is meant for standard output elsewhere in this process: a program whose own result goes there
(`dataflow run --json`) redirects the records to standard error.
"""

from dataflow.connectors.console.output import redirect
from dataflow.connectors.console.sink import SINK

__all__ = ["SINK", "redirect"]
