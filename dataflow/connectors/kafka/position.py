"""How splits are named."""

from __future__ import annotations

import re

from dataflow.errors import Corrupt

_SPLIT = re.compile(r"([A-Za-z0-9._-]{1,249})-(\d+)")


def split_name(topic: str, partition: int) -> str:
    """`orders-3`: the same partition always."""
    return f"{topic}-{partition}"


def split_of(split: str) -> tuple[str, int]:
    """The topic and the partition that a split names. Raises `Corrupt` for a split of anything else."""
    found = _SPLIT.fullmatch(split)
    if not found:
        raise Corrupt(f"{split!r} is not a split of a Kafka source")
    return found[1], int(found[2])
