"""Talking to DataFlow from Python."""

from dataflow.sdk.client import Client
from dataflow.sdk.progress import Progress

__all__ = ["Client", "Progress"]
