"""Talking to DataFlow from Python."""

from dataflow.sdk.client import Client
from dataflow.sdk.ingest import Ingested
from dataflow.sdk.progress import Progress
from dataflow.sdk.system import Cluster, System

__all__ = ["Client", "Cluster", "Ingested", "Progress", "System"]
