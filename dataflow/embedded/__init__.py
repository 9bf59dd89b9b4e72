"""The Temporal dev server inside DataFlow: found or built, started at most once per home, never left behind.

`dataflow.embedded.temporal.temporal_server` is the way in. This package and what its keeper process imports stay
within the standard library: the keeper must be up in a blink.
"""
