"""The HTTP API: health and a first look at the pipelines."""

from dataflow.api.app import create_app

__all__ = ["create_app"]
