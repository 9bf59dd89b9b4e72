"""The projections that the settings name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dataflow.errors import Retryable
from dataflow.journal.base import Journal
from dataflow.projections.base import Projection
from dataflow.projections.models import MODELS
from dataflow.projections.projector import Projector
from dataflow.projections.searching import Found, by_words, in_read_models, kinds_of
from dataflow.projections.store import Store, TableProjection
from dataflow.settings import Settings

if TYPE_CHECKING:
    from dataflow.projections.search import SearchProjection


class ReadModels:
    """What is projected, and where to. Nothing is connected to before a projection is entered."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.readmodel_url)

    def projections(self) -> Sequence[Projection]:
        """New ones, all that are configured. What a store needs is imported where it is configured."""
        chosen = self.settings
        found: list[Projection] = [TableProjection(self.store, model) for model in MODELS.values()]
        if chosen.search_url:
            found.append(self.search_projection(chosen.search_url))
        if chosen.redis_url:
            from dataflow.projections.cache import CacheProjection

            found.append(CacheProjection(chosen.redis_url, self.store, chosen.redis_prefix))
        if chosen.publish_brokers:
            from dataflow.projections.publication import Publication

            found.append(Publication(chosen.publish_brokers, chosen.publish_topic))
        return found

    def search_projection(self, url: str) -> SearchProjection:
        """The search indices, to be entered."""
        from dataflow.projections.search import SearchProjection

        return SearchProjection(url, self.settings.search_prefix)

    async def search(self, words: str, *, kinds: Sequence[str] | None = None, limit: int = 10) -> Found:
        """Pipelines, events and errors by words: in Elasticsearch, and where that does not answer in the read models,
        which the answer says (`degraded`). `Retryable` where neither answers."""
        wanted = kinds_of(kinds)
        degraded = ""
        if url := self.settings.search_url:
            try:
                return await by_words(url, self.settings.search_prefix, words, wanted, limit)
            except Retryable as error:
                degraded = f"{error.code}: {error}"
        return await in_read_models(self.store, words, wanted, limit, degraded)

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
