"""What the projector's workflow and its activity say to each other. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectOrder:
    """Follow the journal for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectReport:
    """How each projection was doing at the end, as in a heartbeat: position, events, degraded, lags."""

    projections: Mapping[str, Any] = field(default_factory=dict)
