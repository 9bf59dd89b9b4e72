"""How splits become lanes, and how more of them join."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from activities.plan import cut, widen

SPLITS = [f"s{n}" for n in range(30)]


def test_new_splits_get_new_lanes_first() -> None:
    lanes = cut(["a", "b"], ("sink",), 4)
    wider = widen(lanes, ["a", "b", "c", "d", "e"], ("sink",), 4)
    assert [(lane.name, lane.splits) for lane in wider] == [
        ("sink-0", ("a", "e")),
        ("sink-1", ("b",)),
        ("sink-2", ("c",)),
        ("sink-3", ("d",)),
    ]


@given(
    st.integers(1, 10), st.integers(1, 6), st.integers(1, 6), st.integers(0, 20), st.sampled_from([("x",), ("x", "y")])
)
def test_lanes_keep_what_they_have(first: int, most: int, later: int, more: int, sinks: tuple[str, ...]) -> None:
    before = cut(SPLITS[:first], sinks, most)
    after = widen(before, SPLITS[: first + more], sinks, later)
    for sink in sinks:
        assert sorted(split for lane in after if lane.sink == sink for split in lane.splits) == sorted(
            SPLITS[: first + more]
        )
        assert len([lane for lane in after if lane.sink == sink]) <= max(most, later)
    known = {lane.name: lane.splits for lane in after}
    assert len(known) == len(after)
    for lane in before:
        assert known[lane.name][: len(lane.splits)] == lane.splits
