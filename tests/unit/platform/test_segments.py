"""What CPU the segments of a worker took: shared out among those that ran at the same time, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from activities import presence
from activities.presence import Segments
from dataflow.domain.flow import Lane
from dataflow.domain.orders import SegmentOrder
from dataflow.domain.state import Plan


@pytest.fixture
def burn(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The process takes so many seconds of CPU."""
    clock = [0.0]
    monkeypatch.setattr(presence.time, "process_time", lambda: clock[0])

    def more(seconds: float) -> None:
        clock[0] += seconds

    return more


def order(pipeline: str) -> SegmentOrder:
    lane = Lane(pipeline=pipeline, generation=1, sink="main", number=0, splits=())
    return SegmentOrder(lane=lane, spec={}, plan=Plan(number=1, generation=1, lanes=()), seconds=1.0)


def test_each_segment_is_told_what_it_took(burn: Callable[[float], None]) -> None:
    segments = Segments()
    burn(5.0)  # before any: nobody's
    with segments.counted(order("one")) as first:
        burn(1.0)
        with segments.counted(order("two")) as second, segments.counted(order("two")) as third:
            assert (segments.running, sorted(segments.pipelines)) == (3, ["one", "two"])
            burn(3.0)
        burn(0.5)
    burn(5.0)
    assert [segment.cpu for segment in (first, second, third)] == pytest.approx([2.5, 1.0, 1.0])
    assert (segments.running, segments.pipelines) == (0, ())
    used = segments.usage()
    assert used["one"] / used["two"] == pytest.approx(2.5 / 2.0, rel=0.02)
    assert segments.usage() == {}
