"""`kafka`: topics as sources and sinks, exactly once by transactions.

A partition is a split. A sink's lane writes each epoch in one transaction: rows, dead letters and the receipt, which
lives on a compacted topic beside the output. `docs/decisions` says why the receipts are not group offsets.
"""

from dataflow.connectors.kafka.sink import SINK
from dataflow.connectors.kafka.source import SOURCE

__all__ = ["SINK", "SOURCE"]
