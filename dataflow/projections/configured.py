"""The projections that the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dataflow.journal.base import Journal
from dataflow.projections.base import Projection
from dataflow.projections.models import MODELS
from dataflow.projections.projector import Projector
from dataflow.projections.store import Store, TableProjection
from dataflow.settings import Settings


class ReadModels:
    """What is projected, and where to. Nothing is connected to before a projection is entered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.readmodel_url)

    def projections(self) -> Sequence[Projection]:
        """New ones, all that are configured."""
        return [TableProjection(self.store, model) for model in MODELS.values()]

    def keep(self) -> Mapping[str, float]:
        """Table -> seconds that its rows are kept, 0 for ever."""
        return {
            "pipeline_metrics_minute": self.settings.keep_minutes,
            "pipeline_metrics_hourly": self.settings.keep_hours,
            "audit_log": self.settings.keep_audit,
        }

    def projector(self, journal: Journal) -> Projector:
        """All of it, over the journal."""
        return Projector(journal, self.projections(), self.store, self.keep())
