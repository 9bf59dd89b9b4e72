"""Conformance kits: what every source, sink and transform must pass, public for authors of plug-ins.

Each kit is a function to call from a test with your component (`exercise_sink(make, read_rows, read_dead)`); it raises
AssertionError with what went wrong. They need the packages `hypothesis` and `polars`, and no test runner.
"""

from dataflow.testing.sink_kit import MOMENTS, exercise_sink
from dataflow.testing.source_kit import exercise_source
from dataflow.testing.transform_kit import exercise_transform

__all__ = ["MOMENTS", "exercise_sink", "exercise_source", "exercise_transform"]
