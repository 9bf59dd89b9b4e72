"""`generator`: made-up but realistic records. `records` says what they are, `source` how they are read."""

from dataflow.connectors.generator.source import SOURCE

__all__ = ["SOURCE"]
