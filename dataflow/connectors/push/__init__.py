"""`push`: records that callers push, over HTTP, from Python or from the command line."""

from dataflow.connectors.push.source import SOURCE

__all__ = ["SOURCE"]
