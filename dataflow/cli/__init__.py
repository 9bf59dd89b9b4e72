"""The command line. `dataflow --help` tells the rest.

Exit codes: 0 done (for `run`: the pipeline is completed), 1 failed, 2 an invalid pipeline file, setting or command
line, 130 interrupted (SIGINT; 143 for SIGTERM) after stopping the pipeline at an epoch boundary.

Standard output carries the result and nothing else, with `--json` one JSON object; progress and messages go to standard
error. What is heavy (Polars, Temporal, SQLAlchemy) is imported inside the commands that need it.
"""

from dataflow.cli.app import main

__all__ = ["main"]
